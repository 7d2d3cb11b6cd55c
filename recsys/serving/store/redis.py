"""RedisStore: state in Redis or Valkey, for servers on several machines."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from recsys.serving.extras import optional_module
from recsys.serving.store.interface import R, StoreAway

_BATCH = 1000


def redis_client(url: str) -> Any:
    """A client that gives up after two seconds.

    Args:
        url: as in `redis://localhost:6379/0` or `unix:///run/redis.sock`.

    Raises:
        ValueError: the package is not installed.
    """
    return _package().Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)


def asking(ask: Callable[[], Any]) -> Any:
    """The answer of a server.

    Raises:
        StoreAway: it cannot be reached.
    """
    errors = _package().exceptions
    try:
        return ask()
    except (errors.ConnectionError, errors.TimeoutError, errors.BusyLoadingError) as error:
        raise StoreAway(f"Redis cannot be reached: {error}") from error


def _package() -> Any:
    return optional_module("redis", extra="redis", wanted="`store=redis` or `log=redis`")


class RedisTransaction:
    """Reads go to the server, writes wait until all is done; see `interface.Transaction`."""

    def __init__(self, pipe: Any, store: RedisStore) -> None:
        self._pipe = pipe
        self._store = store
        self.written: dict[bytes, bytes | None] = {}
        self.expiring: dict[bytes, int] = {}
        self.position = int(pipe.get(store.position_key) or 0)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of keys, as this transaction has left them."""
        if not keys:
            return []
        stored = self._pipe.mget([self._store.key(key) for key in keys])
        return [self.written.get(key, value) for key, value in zip(keys, stored, strict=True)]

    def put(self, key: bytes, value: bytes | None, *, expires: int | None = None) -> None:
        """Sets or deletes a value."""
        self.written[key] = value
        if value is None:
            self.expiring.pop(key, None)
        elif expires is not None:
            self.expiring[key] = expires


class RedisStore:
    """State in Redis; see `recsys.serving.store.interface.StateStore`.

    Every transaction watches the position and writes it: so they happen one after the other.

    Args:
        client: what `redis_client` makes.
        prefix: of all its keys, for several stores in one server.
    """

    def __init__(self, client: Any, *, prefix: str = "recsys") -> None:
        self._client = client
        self._prefix = prefix.encode()
        self.position_key = self._prefix + b":position"
        self._expiry_key = self._prefix + b":expiry"

    def key(self, key: bytes) -> bytes:
        """Returns the name of a key in the server."""
        return self._prefix + b":state:" + key

    def position(self) -> int:
        """Position of the last record that was applied."""
        return int(asking(lambda: self._client.get(self.position_key)) or 0)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of keys at one instant."""
        if not keys:
            return []
        values: list[bytes | None] = asking(lambda: self._client.mget([self.key(key) for key in keys]))
        return values

    def transact(self, work: Callable[[RedisTransaction], R]) -> R:
        """Runs `work` and executes what it put in one MULTI, again where the position has moved meanwhile."""
        result: R = asking(lambda: self._transact(work))
        return result

    def _transact(self, work: Callable[[RedisTransaction], R]) -> R:
        with self._client.pipeline() as pipe:
            while True:
                pipe.watch(self.position_key)
                transaction = RedisTransaction(pipe, self)
                result = work(transaction)
                pipe.multi()
                for key, value in transaction.written.items():
                    if value is None:
                        pipe.delete(self.key(key))
                        pipe.zrem(self._expiry_key, key)
                    else:
                        pipe.set(self.key(key), value)
                if transaction.expiring:
                    pipe.zadd(self._expiry_key, dict(transaction.expiring))
                pipe.set(self.position_key, transaction.position)
                try:
                    pipe.execute()
                except _package().exceptions.WatchError:
                    continue
                return result

    def expire(self, before: int, *, limit: int = 10_000) -> int:
        """Deletes values that have expired."""
        due = asking(
            lambda: self._client.zrangebyscore(self._expiry_key, "-inf", f"({before}", start=0, num=limit)
        )
        for begin in range(0, len(due), _BATCH):
            part = due[begin : begin + _BATCH]
            keys = [self.key(key) for key in part]
            asking(functools.partial(self._client.delete, *keys))
            asking(functools.partial(self._client.zrem, self._expiry_key, *part))
        return len(due)

    def clear(self) -> None:
        """Forgets everything."""
        keys = [self.position_key, self._expiry_key]
        keys += list(asking(lambda: list(self._client.scan_iter(self.key(b"*"), count=_BATCH))))
        for begin in range(0, len(keys), _BATCH):
            asking(functools.partial(self._client.delete, *keys[begin : begin + _BATCH]))

    def size_bytes(self) -> int:
        """Bytes of memory that the server uses."""
        return int(asking(lambda: self._client.info("memory"))["used_memory"])

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()
