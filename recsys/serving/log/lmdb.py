"""LmdbLog: the log in the same file as the state, so that both change in one transaction."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from recsys.serving.records import (
    Event,
    Id,
    Record,
    Request,
    decode,
    encode,
    hash_of,
    received_of,
    user_of,
)
from recsys.serving.store.lmdb import LmdbEnvironment, LmdbTransaction

_KEY = struct.Struct(">Q")
_END = b"end"
_BATCH = 1000


class LmdbLog:
    """Records in LMDB; see `recsys.serving.log.interface.FeedbackLog`.

    Args:
        environment: the file.
    """

    def __init__(self, environment: LmdbEnvironment) -> None:
        self.environment = environment
        self._records = environment.database(b"log")
        # Digest of a user and a position of one of their records.
        self._by_user = environment.database(b"log by user")
        self._meta = environment.database(b"log meta")

    def append(self, records: Sequence[bytes]) -> list[int]:
        """Adds records in a transaction of their own."""
        with self.environment.env.begin(write=True) as raw:
            return self._append(raw, [(content, user_of(decode(content))) for content in records])

    def append_within(self, transaction: LmdbTransaction, records: Sequence[Record]) -> list[int]:
        """Adds records in a transaction of the store of the same file, and returns their positions."""
        return self._append(transaction.raw, [(encode(record), user_of(record)) for record in records])

    def _append(self, raw: Any, records: Sequence[tuple[bytes, Id | None]]) -> list[int]:
        # Counted, since the last record may have been deleted and its position must not come again.
        first = int(raw.get(_END, b"0", db=self._meta)) + 1
        for position, (content, user_id) in enumerate(records, start=first):
            raw.put(_KEY.pack(position), content, db=self._records, append=True)
            if user_id is not None:
                raw.put(hash_of(user_id).encode() + _KEY.pack(position), b"", db=self._by_user)
        raw.put(_END, str(first + len(records) - 1).encode(), db=self._meta)
        return list(range(first, first + len(records)))

    def read(self, after: int, *, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Records after a position."""
        records: list[tuple[int, bytes]] = []
        with self.environment.env.begin(db=self._records) as raw, raw.cursor() as cursor:
            if cursor.set_range(_KEY.pack(after + 1)):
                for key, content in cursor.iternext():
                    if len(records) == limit:
                        break
                    records.append((_KEY.unpack(key)[0], bytes(content)))
        return records

    def end(self) -> int:
        """Position of the last record that was appended."""
        with self.environment.env.begin() as raw:
            return int(raw.get(_END, b"0", db=self._meta))

    def forget(self, user_hash: str) -> int:
        """Deletes the records of a user."""
        prefix = user_hash.encode()
        with self.environment.env.begin(write=True) as raw:
            mine = []
            with raw.cursor(db=self._by_user) as cursor:
                if cursor.set_range(prefix):
                    for key in cursor.iternext(keys=True, values=False):
                        if not key.startswith(prefix):
                            break
                        mine.append(bytes(key))
            for key in mine:
                raw.delete(key, db=self._by_user)
                raw.delete(key[len(prefix) :], db=self._records)
        return len(mine)

    def trim(self, before: int) -> int:
        """Deletes the oldest requests and events."""
        deleted, after = 0, 0
        while batch := self.read(after, limit=_BATCH):
            old: list[tuple[int, Id | None]] = []
            for position, content in batch:
                record = decode(content)
                # What the catalogue and the bundles went through is short, and needed by every reader.
                if not isinstance(record, Request | Event):
                    continue
                if received_of(record) >= before:
                    return deleted + self._delete(old)
                old.append((position, user_of(record)))
            deleted += self._delete(old)
            after = batch[-1][0]
        return deleted

    def _delete(self, records: Sequence[tuple[int, int | str | None]]) -> int:
        with self.environment.env.begin(write=True) as raw:
            for position, user_id in records:
                raw.delete(_KEY.pack(position), db=self._records)
                if user_id is not None:
                    raw.delete(hash_of(user_id).encode() + _KEY.pack(position), db=self._by_user)
        return len(records)

    def size_bytes(self) -> int:
        """Bytes of the pages of the records."""
        with self.environment.env.begin() as raw:
            stat = raw.stat(db=self._records)
        return int((stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) * stat["psize"])

    def close(self) -> None:
        """Leaves the file open for others; the environment is closed by whoever opened it."""
