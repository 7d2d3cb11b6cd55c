"""LmdbStore: state in a memory-mapped file that all processes of one machine share."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recsys.schema.errors import InputError
from recsys.serving.extras import optional_module
from recsys.serving.store.interface import R

_POSITION = b"position"
_TIME = struct.Struct(">q")
_NUM_DATABASES = 8


class LmdbEnvironment:
    """An LMDB file with its databases; a store and a log may share it, and so its transactions.

    Committing waits until the disk has it (fsync).

    Args:
        folder: of the file.
        max_gigabytes: size that it can grow to; reserved as addresses, not on disk.

    Raises:
        InputError: the file is none of LMDB's, or the disk refuses.
    """

    def __init__(self, folder: Path, *, max_gigabytes: float = 64) -> None:
        self.lmdb = optional_module("lmdb", extra="serve", wanted="`store=lmdb` or `log=lmdb`")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        size = int(max_gigabytes * 2**30)
        try:
            self.env = self.lmdb.open(str(folder), map_size=size, max_dbs=_NUM_DATABASES, max_readers=512)
            self.env.reader_check()  # lets go what killed processes held
        except self.lmdb.Error as error:
            raise InputError(
                f"`{folder / 'data.mdb'}` cannot be opened as a log or store of a server ({error}); give the "
                "server's own folder, or put a copy of the file back"
            ) from error
        self._databases: dict[bytes, Any] = {}

    def database(self, name: bytes) -> Any:
        """A named database of the file, made when it is missing."""
        if name not in self._databases:
            self._databases[name] = self.env.open_db(name)
        return self._databases[name]

    def size_bytes(self) -> int:
        """Bytes of the pages in use."""
        info, stat = self.env.info(), self.env.stat()
        return int((info["last_pgno"] + 1) * stat["psize"])

    def close(self) -> None:
        """Closes the file."""
        self.env.close()


class LmdbTransaction:
    """A write transaction; see `recsys.serving.store.interface.Transaction`."""

    def __init__(self, store: LmdbStore, raw: Any) -> None:
        self._store = store
        self.raw = raw
        self.position = int(raw.get(_POSITION, b"0", db=store.meta))

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of keys."""
        return [self.raw.get(key, db=self._store.state) for key in keys]

    def put(self, key: bytes, value: bytes | None, *, expires: int | None = None) -> None:
        """Sets or deletes a value."""
        store = self._store
        if value is None:
            self.raw.delete(key, db=store.state)
        else:
            self.raw.put(key, value, db=store.state)
        if value is not None and expires is None:
            return
        due = None if value is None else _TIME.pack(expires)
        before = self.raw.get(key, db=store.due)
        if before != due and before is not None:
            self.raw.delete(before + key, db=store.expiry)
            self.raw.delete(key, db=store.due)
        if before != due and due is not None:
            self.raw.put(due + key, b"", db=store.expiry)
            self.raw.put(key, due, db=store.due)


class LmdbStore:
    """State in LMDB; see `recsys.serving.store.interface.StateStore`.

    Args:
        environment: the file.
    """

    def __init__(self, environment: LmdbEnvironment) -> None:
        self.environment = environment
        self.state = environment.database(b"state")
        # Instants with the keys that are due then, and by key the instant at which it is due.
        self.expiry = environment.database(b"expiry")
        self.due = environment.database(b"due")
        self.meta = environment.database(b"meta")

    def position(self) -> int:
        """Position of the last record that was applied."""
        with self.environment.env.begin() as raw:
            return int(raw.get(_POSITION, b"0", db=self.meta))

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of keys at one instant."""
        with self.environment.env.begin(db=self.state) as raw:
            return [raw.get(key) for key in keys]

    def transact(self, work: Callable[[LmdbTransaction], R]) -> R:
        """Runs `work` under the one write lock of the file and commits it."""
        with self.environment.env.begin(write=True) as raw:
            transaction = LmdbTransaction(self, raw)
            result = work(transaction)
            raw.put(_POSITION, str(transaction.position).encode(), db=self.meta)
            return result

    def expire(self, before: int, *, limit: int = 10_000) -> int:
        """Deletes values that have expired."""
        with self.environment.env.begin(write=True) as raw:
            due: list[bytes] = []
            with raw.cursor(db=self.expiry) as cursor:
                for key in cursor.iternext(keys=True, values=False):
                    if len(due) >= limit or _TIME.unpack_from(key)[0] >= before:
                        break
                    due.append(bytes(key))
            for key in due:
                raw.delete(key, db=self.expiry)
                raw.delete(key[_TIME.size :], db=self.due)
                raw.delete(key[_TIME.size :], db=self.state)
        return len(due)

    def clear(self) -> None:
        """Forgets everything."""
        with self.environment.env.begin(write=True) as raw:
            raw.drop(self.state, delete=False)
            raw.drop(self.expiry, delete=False)
            raw.drop(self.due, delete=False)
            raw.delete(_POSITION, db=self.meta)

    def size_bytes(self) -> int:
        """Bytes of the pages of the values."""
        with self.environment.env.begin() as raw:
            stat = raw.stat(db=self.state)
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(pages * stat["psize"])

    def close(self) -> None:
        """Leaves the file open for others; the environment is closed by whoever opened it."""
