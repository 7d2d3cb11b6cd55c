import asyncio
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import wait
from pathlib import Path

import msgspec
import pytest

from recsys.serving.journal import Journal, Outcome
from recsys.serving.learning import ItemState
from recsys.serving.log.lmdb import LmdbLog
from recsys.serving.log.redis_streams import RedisLog
from recsys.serving.records import Event, Forget, decode, encode, hash_of
from recsys.serving.rules import DAY, Rules
from recsys.serving.state import UserState
from recsys.serving.store.interface import StoreAway
from recsys.serving.store.lmdb import LmdbEnvironment, LmdbStore
from recsys.serving.store.redis import RedisStore, redis_client
from recsys.serving.working import item_key, list_key, user_key
from tests.serving.brokers import valkey
from tests.serving.events import NOW, did, shown

PAIRS = ["lmdb+lmdb", "redis+redis", "kafka+lmdb", "kafka+redis"]


@pytest.fixture(params=PAIRS)
def open_journal(request, parts):
    log, store = request.param.split("+")
    return lambda: Journal(parts["log"](log), parts["store"](store), Rules())


@pytest.fixture
def journal(open_journal):
    return open_journal()


def history(journal, user="u"):
    [content] = journal.store.get([user_key(user)])
    return (
        [] if content is None else [e.item_id for e in msgspec.msgpack.decode(content, type=UserState).events]
    )


def reward(journal, item):
    [content] = journal.store.get([item_key(item)])
    return 0 if content is None else msgspec.msgpack.decode(content, type=ItemState).reward


def test_what_cannot_be_written_costs_the_others_nothing(journal):
    """Those who wait at once are written together."""
    bad = msgspec.structs.replace(shown("r", ["a"]), context={"a": 10**30})
    written = [journal.submit([record]) for record in (did("click", "a", at=1), bad, did("like", "c", at=9))]
    journal.start()
    assert [each.result(timeout=10).accepted for each in (written[0], written[2])] == [1, 1]
    assert isinstance(written[1].exception(timeout=10), OverflowError)
    journal.close()
    assert history(journal) == ["a", "c"]


def test_what_is_committed_is_in_log_and_state(journal):
    records = [shown("r", ["a", "b"]), did("click", "a", "r"), did("like", "c", at=9)]
    assert journal.commit(records) == Outcome(accepted=2, repeated=0)
    assert [decode(content) for _, content in journal.log.read(0)] == records
    assert history(journal) == ["a", "c"]
    assert reward(journal, "a") == 1
    assert journal.lag() == 0


def test_repeated_events_are_told_and_change_nothing(journal, open_journal):
    journal.commit([shown("r", ["a"]), did("click", "a", "r")])
    other = open_journal()
    click = did("click", "a", "r")
    assert other.commit([click, did("like", "b", at=4), click]) == Outcome(accepted=1, repeated=2)
    assert history(journal) == ["a", "b"]
    assert reward(journal, "a") == 1


def test_what_the_log_has_and_the_state_has_not_is_applied_at_the_start(journal, open_journal):
    journal.commit([shown("r", ["a", "b"])])
    # A process that is killed between the two.
    journal.log.append([encode(did("click", "b", "r")), encode(did("click", "b", "r"))])
    assert journal.lag() > 0
    other = open_journal()
    other.start()
    assert other.lag() == 0
    assert reward(other, "b") == 1
    other.close()


def test_a_lost_state_is_made_again_from_the_log(journal):
    journal.commit([shown("r", ["a", "b"]), did("click", "a", "r"), did("skip", "z", at=3)])
    keys = [user_key("u"), item_key("a"), item_key("z"), list_key("r")]
    before = journal.store.get(keys)
    assert None not in before
    journal.store.clear()
    assert journal.catch_up() == 3
    assert journal.store.get(keys) == before
    assert journal.rebuild() == 3
    assert journal.store.get(keys) == before


def test_groups_of_many_threads_each_get_their_own_outcome(journal):
    journal.start()
    futures = {}

    def submit(name):
        for n in range(20):
            futures[name, n] = journal.submit([did("click", f"{name}{n}", user=name, at=n)])
        futures[name, "again"] = journal.submit([did("click", f"{name}{3}", user=name, at=3)])

    threads = [threading.Thread(target=submit, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait(futures.values(), timeout=60)
    again = {key: future.result() for key, future in futures.items()}
    assert {key for key, outcome in again.items() if outcome.repeated} == {(name, "again") for name in "abc"}
    assert sum(outcome.accepted for outcome in again.values()) == 60
    assert [len(history(journal, name)) for name in "abc"] == [20, 20, 20]
    journal.close()


def test_an_event_loop_waits_for_its_own_outcomes(journal):
    journal.start()

    async def tell():
        first = [journal.written([did("click", f"i{n}", user="a", at=n)]) for n in range(20)]
        leaving = asyncio.create_task(journal.written([did("click", "left", user="b", at=1)]))
        await asyncio.sleep(0)
        leaving.cancel()  # whoever told of it does not wait; it counts all the same
        return [*await asyncio.gather(*first), await journal.written([did("click", "i3", user="a", at=3)])]

    outcomes = asyncio.run(tell())
    assert [(one.accepted, one.repeated) for one in outcomes] == [(1, 0)] * 20 + [(0, 1)]
    journal.close()
    assert [len(history(journal, name)) for name in "ab"] == [20, 1]


def test_an_event_loop_hears_why_records_are_not_written(journal, monkeypatch):
    def full(groups):
        raise OSError("the disk is full")

    monkeypatch.setattr(journal, "_commit", full)
    journal.start()
    with pytest.raises(OSError, match="the disk is full"):
        asyncio.run(journal.written([did("click", "i", user="a", at=1)]))
    journal.close()


def test_two_journals_at_once_count_everything_once(open_journal):
    journals = [open_journal() for _ in range(2)]

    def submit(journal):
        journal.start()
        wait([journal.submit([did("click", n, user="u", at=n)]) for n in range(40)], timeout=60)
        journal.close()

    threads = [threading.Thread(target=submit, args=(one,)) for one in journals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert history(journals[0]) == list(range(40))


def test_a_forgotten_user_is_gone_from_the_state_and_stays_so(journal):
    journal.commit(
        [shown("r", ["a"], user="p"), did("click", "a", "r", user="p"), did("click", "b", user="q")]
    )
    journal.commit([Forget(hash_of("p"), 0)])
    assert history(journal, "p") == []
    journal.rebuild()
    assert history(journal, "p") == []
    assert history(journal, "q") == ["b"]
    if journal.log.forget(hash_of("nobody")) == 0 and isinstance(journal.log, LmdbLog | RedisLog):
        assert b"p" not in {str(getattr(decode(c), "user_id", "")).encode() for _, c in journal.log.read(0)}


def test_expired_values_go(journal):
    journal.commit([shown("r", ["a"]), did("click", "a", "r")])
    journal.keep_up(NOW + 2 * DAY)
    assert journal.store.get([list_key("r")]) == [None]
    assert history(journal) == ["a"]
    # Of whoever was not heard of for as long as the log is kept, nothing is known any more.
    journal.keep_up(NOW + 89 * DAY)
    assert history(journal) == ["a"]
    journal.keep_up(NOW + 93 * DAY)
    assert history(journal) == []


def test_without_a_store_feedback_goes_on_into_the_log(tmp_path):
    with valkey(tmp_path) as server:
        environment = LmdbEnvironment(tmp_path / "lmdb", max_gigabytes=1)
        journal = Journal(LmdbLog(environment), RedisStore(redis_client(server.url)), Rules())
        journal.commit([did("click", "a", at=1)])
        server.kill()
        assert journal.commit([did("click", "b", at=2)]) == Outcome(accepted=1, repeated=0, applied=False)
        with pytest.raises(StoreAway):
            history(journal)
        server.start()
        assert journal.commit([did("click", "c", at=3)]).applied
        assert history(journal) == ["a", "b", "c"]
        environment.close()


WRITER = """
import sys, pathlib, itertools
from recsys.serving.journal import Journal
from recsys.serving.rules import DAY, Rules
from tests.serving.events import did
from tests.serving.test_journal import journal_in
journal = journal_in(pathlib.Path(sys.argv[1]), sys.argv[2])
journal.start()
name = sys.argv[3]
for n in itertools.count():
    futures = [journal.submit([did("click", f"{name}-{n}-{k}", user=name, at=n)]) for k in range(5)]
    for k, future in enumerate(futures):
        future.result()
        print(f"{name}-{n}-{k}", flush=True)
"""


def journal_in(folder: Path, url: str) -> Journal:
    if url != "lmdb":
        return Journal(RedisLog(redis_client(url)), RedisStore(redis_client(url)), Rules())
    environment = LmdbEnvironment(folder, max_gigabytes=1)
    return Journal(LmdbLog(environment), LmdbStore(environment), Rules())


def kill_at_random_instants(folder, url, *, times, seed, restart=None):
    """Two writers, killed over and over; whatever either was told to be written is counted once."""
    rng = random.Random(seed)
    acknowledged = set()
    for round_number in range(times):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, folder, url, f"w{round_number}{letter}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if restart else None,
                text=True,
            )
            for letter in "ab"
        ]
        first = [writer.stdout.readline() for writer in writers]  # both are at work
        time.sleep(rng.uniform(0, 0.25))
        if restart:
            restart()
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        for writer, line in zip(writers, first, strict=True):
            rest, _ = writer.communicate()
            # The last line may be cut.
            acknowledged |= set((line + rest).rpartition("\n")[0].split())
    journal = journal_in(folder, url)
    started = time.monotonic()
    journal.start()
    assert time.monotonic() - started < 5
    logged, after = [], 0
    while batch := journal.log.read(after):
        logged += [decode(content) for _, content in batch]
        after = batch[-1][0]
    times_logged = Counter(record.item_id for record in logged if isinstance(record, Event))
    assert len(acknowledged) > 5 * times
    assert acknowledged <= set(times_logged)
    for item in times_logged:
        [content] = journal.store.get([item_key(item)])
        hours = msgspec.msgpack.decode(content, type=ItemState).hours
        assert sum(total for _, total in hours.values()) == 1, item
    for writer in {item.split("-")[0] for item in times_logged}:
        mine = [item for item in times_logged if item.startswith(f"{writer}-")]
        assert set(history(journal, writer)) <= set(mine)
        assert len(history(journal, writer)) == min(len(mine), Rules().max_history)
    journal.close()


def test_killed_writers_lose_nothing_and_count_nothing_twice(tmp_path):
    kill_at_random_instants(tmp_path / "lmdb", "lmdb", times=2, seed=0)


def test_a_killed_redis_loses_nothing(tmp_path):
    with valkey(tmp_path) as server:

        def restart():
            server.kill()
            server.start()

        kill_at_random_instants(tmp_path, server.url, times=1, seed=1, restart=restart)


@pytest.mark.slow
def test_writers_killed_fifty_times(tmp_path):
    kill_at_random_instants(tmp_path / "lmdb", "lmdb", times=50, seed=2)


@pytest.mark.slow
def test_redis_killed_twenty_times(tmp_path):
    with valkey(tmp_path) as server:

        def restart():
            server.kill()
            server.start()

        kill_at_random_instants(tmp_path, server.url, times=20, seed=3, restart=restart)
