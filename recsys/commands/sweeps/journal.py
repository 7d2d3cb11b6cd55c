"""The journal of a study on disk, lines that Optuna adds: locked, read through, and refused when damaged.

Optuna's own locks outlive a process that is killed while it holds one, and a line that such a process left
half written makes a journal unreadable once another line follows; hence a lock of our own, which the kernel
gives back. Optuna's heartbeats and retries are for databases alone, and a retried trial has another number,
so another folder, than the one whose checkpoint it would go on from.
"""

from __future__ import annotations

import fcntl
import json
import logging
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.storages.journal._storage import JournalOperation, JournalStorageReplayResult

from recsys.schema.errors import InputError

_ATTRIBUTES = {"fixed_params": dict, "attempts": int, "overrides": list, "error": str}
# Beside a journal: what a killed process had begun to write.
_TORN = ".torn"

logger = logging.getLogger(__name__)


def open_journal(path: Path) -> JournalStorage:
    """Optuna's storage over the journal at `path`, made when it is not there.

    Raises:
        InputError: a line is damaged, or of an operation that this Optuna does not know; nothing is cut.
    """
    lock = _JournalLock(path)
    backend = JournalFileBackend(str(path), lock_obj=lock)
    lock.acquire()
    try:
        _check(path)
    finally:
        lock.release()
    return JournalStorage(backend)


def _check(path: Path) -> None:
    """Replays every line as Optuna will."""
    replayed = JournalStorageReplayResult("")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                _apply(replayed, json.loads(line))
            except Exception as error:  # each kind of damage has its own
                raise _damaged(path, number, f"{type(error).__name__}: {error}") from error


def _apply(replayed: JournalStorageReplayResult, entry: dict[str, Any]) -> None:
    operation = JournalOperation(entry["op_code"])
    if operation.name.startswith("SET_TRIAL") and entry["trial_id"] not in replayed._trials:
        raise ValueError(f"there is no trial {entry['trial_id']} before it")
    _check_attributes(entry)
    replayed.apply_logs([entry])


def _check_attributes(entry: dict[str, Any]) -> None:
    """Raises ValueError where what we keep beside a trial is not what we wrote."""
    attributes: dict[str, Any] = {}
    for kind in ("user_attr", "user_attrs", "system_attr", "system_attrs"):
        attributes |= entry.get(kind) or {}
    for name, expected in _ATTRIBUTES.items():
        if name in attributes and not isinstance(attributes[name], expected):
            raise ValueError(f"`{name}` is {str(attributes[name])[:80]}")
    for name, value in attributes.get("fixed_params", {}).items():
        if not isinstance(value, str | int | float):
            raise ValueError(f"`{name}` is {str(value)[:80]}")


def _damaged(path: Path, line: int, reason: str) -> InputError:
    return InputError(
        f"`{path}` is damaged in line {line} ({reason}); nothing was changed. Put a copy of the file back to "
        "go on with the sweep, or start it in another folder with `run_dir=PATH`; the runs of its trials are "
        "whole"
    )


class _JournalLock(BaseJournalFileLock):
    """Lets one process add to a journal at a time, on lines that are whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Waits for the lock."""
        file = open(self._path, "r+b")  # noqa: SIM115 - open for as long as the lock is held
        fcntl.flock(file, fcntl.LOCK_EX)
        self._file = file
        file.seek(max(0, file.seek(0, 2) - 1))
        if file.read(1) not in (b"\n", b""):
            try:
                self._end_last_line(file)
            except BaseException:
                self.release()
                raise
        return True

    def release(self) -> None:
        """Gives the lock back."""
        assert self._file is not None
        self._file.close()
        self._file = None

    def _end_last_line(self, file: IO[bytes]) -> None:
        """Ends a last line that is whole; puts one that a killed process left half written aside."""
        file.seek(0)
        content = file.read()
        begin = content.rfind(b"\n") + 1
        try:
            json.loads(content[begin:])
        except (ValueError, RecursionError) as error:
            if not begin:
                raise _damaged(self._path, 1, str(error)) from error
            torn = self._path.with_name(self._path.name + _TORN)
            with torn.open("ab") as aside:
                aside.write(content[begin:] + b"\n")
            file.truncate(begin)
            logger.warning("a line of `%s` was half written; it is put aside in `%s`", self._path, torn)
        else:
            file.write(b"\n")
        file.flush()
