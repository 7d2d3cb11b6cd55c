import contextlib

import pytest
from starlette.testclient import TestClient

from recsys.serving.app import make_app
from recsys.serving.log.kafka import KafkaLog
from recsys.serving.log.lmdb import LmdbLog
from recsys.serving.log.redis_streams import RedisLog
from recsys.serving.options import ServeOptions
from recsys.serving.service import Service
from recsys.serving.store.lmdb import LmdbEnvironment, LmdbStore
from recsys.serving.store.redis import RedisStore, redis_client
from tests.pythons import replays_in_forks  # noqa: F401
from tests.serving import bundles
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


@pytest.fixture(scope="session")
def market(tmp_path_factory):
    return bundles.market(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="session")
def two_stage_folder(market, tmp_path_factory):
    return bundles.two_stage_bundle(tmp_path_factory.mktemp("served") / "two_stage", market)


@pytest.fixture(scope="session")
def retrieval_folder(market, tmp_path_factory):
    return bundles.retrieval_bundle(tmp_path_factory.mktemp("served") / "retrieval", market)


@pytest.fixture(scope="session")
def ranking_folder(market, tmp_path_factory):
    return bundles.ranking_bundle(tmp_path_factory.mktemp("served") / "ranking", market)


@contextlib.contextmanager
def applications(bundle, folder):
    """Opens applications of one server, in this process, closed in the end."""
    with contextlib.ExitStack() as stack:

        def start(**changes):
            options = {"bundle": bundle, "folder": folder, "max_gigabytes": 1.0, **changes}
            service = Service(ServeOptions(**options), started=0)
            client = stack.enter_context(TestClient(make_app(service), raise_server_exceptions=False))
            client.service = service
            return client

        yield start


@pytest.fixture
def serving(two_stage_folder, tmp_path):
    with applications(two_stage_folder, tmp_path / "live") as start:
        yield start


@pytest.fixture(scope="module")
def standing(two_stage_folder, tmp_path_factory):
    """An application for requests that change nothing."""
    with applications(two_stage_folder, tmp_path_factory.mktemp("standing") / "live") as start:
        yield start()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Folder of a world whose truth is known, and that of a bundle for it."""
    raw, dataset = bundles.synthetic_world(tmp_path_factory.mktemp("world"))
    return raw, bundles.retrieval_bundle(tmp_path_factory.mktemp("served") / "world", dataset)
