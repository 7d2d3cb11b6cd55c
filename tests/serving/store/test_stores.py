"""The contract of every state store."""

import threading

import pytest

from recsys.schema.errors import InputError
from recsys.serving.store.lmdb import LmdbEnvironment


@pytest.fixture(params=["lmdb", "redis"])
def open_store(request, parts):
    return lambda: parts["store"](request.param)


@pytest.fixture
def store(open_store):
    return open_store()


def put(store, values, *, position=None, **keys):
    def work(transaction):
        for key, value in values.items():
            transaction.put(key, value, **keys)
        if position is not None:
            transaction.position = position

    store.transact(work)


def test_what_was_put_is_there_for_others(store, open_store):
    put(store, {b"a": b"1", b"b": b"2"}, position=7)
    other = open_store()
    assert other.get([b"b", b"none", b"a"]) == [b"2", None, b"1"]
    assert other.position() == store.position() == 7


def test_an_empty_store_has_no_position_and_no_values(store):
    assert store.position() == 0
    assert store.get([b"a"]) == [None]
    assert store.get([]) == []


def test_none_deletes(store):
    put(store, {b"a": b"1", b"b": b"2"})
    put(store, {b"a": None, b"never": None})
    assert store.get([b"a", b"b"]) == [None, b"2"]


def test_a_transaction_that_fails_changes_nothing(store):
    put(store, {b"a": b"1"}, position=3)

    def work(transaction):
        transaction.put(b"a", b"2")
        transaction.position = 4
        raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        store.transact(work)
    assert store.get([b"a"]) == [b"1"]
    assert store.position() == 3


def test_a_transaction_reads_what_it_put(store):
    def work(transaction):
        transaction.put(b"a", b"1")
        return transaction.get([b"a", b"b"])

    assert store.transact(work) == [b"1", None]


def test_what_is_put_again_is_due_later(store):
    put(store, {b"a": b"1", b"b": b"2", b"c": b"3"}, expires=10)
    put(store, {b"a": b"4"}, expires=30)
    put(store, {b"b": None})
    put(store, {b"b": b"5"})
    assert store.expire(20) == 1
    assert store.get([b"a", b"b", b"c"]) == [b"4", b"5", None]
    assert store.expire(31) == 1
    assert store.get([b"a", b"b"]) == [None, b"5"]


def test_transactions_of_many_threads_lose_no_change(store, open_store):
    def count(own):
        def add(transaction):
            [value] = transaction.get([b"n"])
            transaction.put(b"n", str(int(value or 0) + 1).encode())
            transaction.position += 1

        for _ in range(25):
            own.transact(add)

    threads = [threading.Thread(target=count, args=(open_store(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get([b"n"]) == [b"100"]
    assert store.position() == 100


def test_values_expire_by_the_time_of_events(store):
    put(store, {b"old": b"1"}, expires=100)
    put(store, {b"new": b"2"}, expires=200)
    put(store, {b"kept": b"3"})
    assert store.expire(150) == 1
    assert store.expire(150) == 0
    assert store.get([b"old", b"new", b"kept"]) == [None, b"2", b"3"]


def test_what_expires_is_deleted_in_parts(store):
    put(store, {f"{n}".encode(): b"" for n in range(25)}, expires=1)
    assert [store.expire(2, limit=10) for _ in range(4)] == [10, 10, 5, 0]


def test_cleared_is_empty(store):
    put(store, {b"a": b"1"}, position=5, expires=9)
    store.clear()
    assert store.position() == 0
    assert store.get([b"a"]) == [None]
    assert store.expire(10) == 0


def test_size_grows_with_values(store):
    before = store.size_bytes()
    put(store, {f"{n}".encode(): bytes(5000) for n in range(500)})
    assert store.size_bytes() > before + 1_000_000


@pytest.mark.parametrize("content", [bytes(8192), b"\xbe\xef\xc0\xde" * 2048, b"text"])
def test_a_file_that_is_none_of_lmdbs_is_refused_by_name(tmp_path, content):
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(InputError, match=r"data.mdb` cannot be opened as a log or store of a server"):
        LmdbEnvironment(tmp_path)
