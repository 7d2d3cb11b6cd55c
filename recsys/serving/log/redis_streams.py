"""RedisLog: the log as a stream in Redis or Valkey."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from recsys.schema.errors import InputError
from recsys.serving.records import decode, hash_of, user_of
from recsys.serving.store.redis import asking

_FIELD = b"r"
# A stream's ids are milliseconds and a number within them.
_BITS = 20
_BATCH = 1000


class RedisLog:
    """Records in a stream; see `recsys.serving.log.interface.FeedbackLog`.

    A server that does not write its append-only file before it answers is refused: it could lose what was
    acknowledged.

    Args:
        client: what `redis_client` makes.
        prefix: of the stream's key.

    Raises:
        ValueError: the server does not keep what it was told.
    """

    def __init__(self, client: Any, *, prefix: str = "recsys") -> None:
        self._client = client
        self._key = f"{prefix}:log"
        settings = asking(lambda: client.config_get("append*"))
        for name, expected in (("appendonly", "yes"), ("appendfsync", "always")):
            if settings[name] != expected:
                raise InputError(
                    "`log=redis` needs a server that keeps what it acknowledged, expected "
                    f"`{name} {expected}`, received `{name} {settings[name]}`; set it in redis.conf"
                )

    def append(self, records: Sequence[bytes]) -> list[int]:
        """Adds records to the stream."""

        def add() -> list[Any]:
            pipe = self._client.pipeline(transaction=True)
            for content in records:
                pipe.xadd(self._key, {_FIELD: content})
            ids: list[Any] = pipe.execute()
            return ids

        return [_position(one) for one in asking(add)]

    def read(self, after: int, *, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Records after a position."""
        low = f"({after >> _BITS}-{after & (1 << _BITS) - 1}"
        rows = asking(lambda: self._client.xrange(self._key, low, "+", count=limit))
        return [(_position(one), fields[_FIELD]) for one, fields in rows]

    def end(self) -> int:
        """Position of the last record that was appended."""
        last = asking(lambda: self._client.xrevrange(self._key, count=1))
        return _position(last[0][0]) if last else 0

    def forget(self, user_hash: str) -> int:
        """Deletes the records of a user, after reading all of the stream."""
        deleted, after = 0, 0
        while batch := self.read(after, limit=_BATCH):
            mine = [
                _stream_id(position)
                for position, content in batch
                if (user_id := user_of(decode(content))) is not None and hash_of(user_id) == user_hash
            ]
            if mine:
                asking(functools.partial(self._client.xdel, self._key, *mine))
            deleted, after = deleted + len(mine), batch[-1][0]
        return deleted

    def trim(self, before: int) -> int:
        """Deletes what was appended before an instant."""
        ask = self._client.xtrim
        return int(asking(lambda: ask(self._key, minid=f"{before // 1000}-0", approximate=False)))

    def size_bytes(self) -> int:
        """Bytes of the stream in memory."""
        return int(asking(lambda: self._client.memory_usage(self._key)) or 0)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


def _position(stream_id: bytes) -> int:
    milliseconds, number = map(int, stream_id.split(b"-"))
    return milliseconds << _BITS | number


def _stream_id(position: int) -> str:
    return f"{position >> _BITS}-{position & (1 << _BITS) - 1}"
