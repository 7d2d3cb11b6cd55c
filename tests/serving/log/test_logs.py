"""The contract of every feedback log."""

import threading
import time

import pytest

from recsys.serving.log.redis_streams import RedisLog
from recsys.serving.records import Availability, Event, decode, encode, hash_of
from recsys.serving.store.interface import StoreAway
from recsys.serving.store.redis import redis_client
from tests.serving.brokers import valkey


@pytest.fixture(params=["lmdb", "redis", "kafka"])
def open_log(request, parts):
    return lambda: parts["log"](request.param)


@pytest.fixture
def log(open_log):
    return open_log()


def event(n, *, user="u", at=None):
    moment = time.time_ns() // 1000 if at is None else at
    return encode(
        Event(
            event_id=f"e{n}",
            request_id=None,
            user_id=user,
            item_id=n,
            kind="click",
            value=None,
            time=moment,
            received=moment,
        )
    )


def test_records_come_back_in_order(log, open_log):
    contents = [event(n) for n in range(7)]
    positions = log.append(contents[:3])
    positions += log.append(contents[3:])
    assert positions == sorted(set(positions))
    assert min(positions) > 0
    other = open_log()
    assert other.read(0) == list(zip(positions, contents, strict=True))
    assert other.read(positions[4]) == list(zip(positions, contents, strict=True))[5:]
    assert other.end() == positions[-1]


def test_an_empty_log_has_no_end(log):
    assert log.end() == 0
    assert log.read(0) == []


def test_a_part_at_a_time(log):
    log.append([event(n) for n in range(25)])
    after, sizes = 0, []
    while batch := log.read(after, limit=10):
        sizes.append(len(batch))
        after = batch[-1][0]
    assert sizes == [10, 10, 5]


def test_the_end_moves_while_another_appends(log, open_log):
    log.append([event(0)])
    other = open_log()
    assert len(other.read(0)) == 1
    positions = log.append([event(1)])
    assert other.end() == positions[-1]
    assert [decode(content).event_id for _, content in other.read(positions[0] - 1)] == ["e1"]


def test_many_writers_lose_nothing(log, open_log):
    def write(own, first):
        for n in range(10):
            own.append([event(first + n)])

    threads = [threading.Thread(target=write, args=(open_log(), 100 * n)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [decode(content).event_id for _, content in log.read(0)]
    assert sorted(ids) == sorted(f"e{100 * k + n}" for k in range(3) for n in range(10))


def test_a_user_is_forgotten_where_the_log_can(log, parts, request):
    log.append([event(0, user="a"), event(1, user=7), event(2, user="7"), event(3, user=None)])
    forgotten = log.forget(hash_of(7))
    left = [decode(content).event_id for _, content in log.read(0)]
    if "kafka" in request.node.name:
        assert (forgotten, left) == (0, ["e0", "e1", "e2", "e3"])
    else:
        assert (forgotten, left) == (2, ["e0", "e3"])
    assert log.forget(hash_of("nobody")) == 0


def test_positions_never_come_again(log, request):
    first = log.append([event(0, user="a"), event(1, user="b")])
    log.forget(hash_of("b"))
    assert log.append([event(2)])[0] > first[-1]


def test_old_requests_and_events_are_trimmed(log, request):
    if "kafka" in request.node.name:
        pytest.skip("a topic trims itself")
    log.append([event(0, at=1_000), encode(Availability([1], False, 1_000))])
    time.sleep(0.02)
    cut = time.time_ns() // 1000
    time.sleep(0.02)
    log.append([event(1)])
    assert log.trim(cut) > 0
    kept = [decode(content) for _, content in log.read(0)]
    assert [record.event_id for record in kept if isinstance(record, Event)] == ["e1"]
    assert log.size_bytes() > 0


@pytest.mark.parametrize(("name", "value"), [("appendonly", "no"), ("appendfsync", "everysec")])
def test_a_redis_that_could_lose_something_is_refused(tmp_path, name, value):
    with (
        valkey(tmp_path, **{name: value}) as server,
        pytest.raises(ValueError, match=f"expected `{name} .*`, received `{name} {value}`; set it in"),
    ):
        RedisLog(redis_client(server.url))


def test_a_redis_that_is_gone_is_said_to_be_away(tmp_path):
    with valkey(tmp_path) as server:
        log = RedisLog(redis_client(server.url))
        server.kill()
        with pytest.raises(StoreAway, match="Redis cannot be reached"):
            log.append([event(0)])
