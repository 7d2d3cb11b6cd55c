import pytest

from recsys.serving.log.kafka import KafkaLog
from recsys.serving.log.lmdb import LmdbLog
from recsys.serving.log.redis_streams import RedisLog
from recsys.serving.store.lmdb import LmdbEnvironment, LmdbStore
from recsys.serving.store.redis import RedisStore, redis_client
from tests.serving.brokers import broker, valkey


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory):
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def kafka_address():
    with broker() as address:
        yield address


@pytest.fixture
def parts(request, tmp_path):
    """Makes a log and a store by name, empty ones, as often as asked, as another process would open them."""
    opened = []
    prefix = f"test-{abs(hash(tmp_path))}"
    environments = []

    def environment():
        if not environments:
            environments.append(LmdbEnvironment(tmp_path / "lmdb", max_gigabytes=1))
        return environments[0]

    def log(name):
        if name == "lmdb":
            made = LmdbLog(environment())
        elif name == "redis":
            made = RedisLog(redis_client(request.getfixturevalue("valkey_server").url), prefix=prefix)
        else:
            made = KafkaLog(request.getfixturevalue("kafka_address"), topic=prefix)
        opened.append(made)
        return made

    def store(name):
        if name == "lmdb":
            made = LmdbStore(environment())
        else:
            made = RedisStore(redis_client(request.getfixturevalue("valkey_server").url), prefix=prefix)
        opened.append(made)
        return made

    yield {"log": log, "store": store}
    for one in opened:
        one.close()
    for one in environments:
        one.close()
