"""Locks on files that several processes share, and which end with the process that holds them.

The kernel gives a lock back when its holder dies, by whatever signal: a trial whose lock is free has lost its
process. `flock` works between processes of a machine, and between machines on file systems that carry it
(NFS of Linux since 2.6.12 does).
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from recsys.commands.sweeps.study import LOCKS, RECORD


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Waits until no other process is inside for the same `path`."""
    with _opened(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def share(path: Path) -> IO[bytes]:
    """Holds `path`, beside others who share it, until the file that is returned is closed."""
    file = _opened(path)
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def is_held(path: Path) -> bool:
    """True while some process, this one included, shares `path`."""
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _opened(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab")


def sweep_of(folder: Path) -> Path | None:
    """The folder of the sweep that a run in `folder` is a trial of; None for a run of its own."""
    return next((parent for parent in list(folder.parents)[:2] if (parent / RECORD).is_file()), None)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[None]:
    """Holds a trial while this process runs it, which need not be the one that handed it out."""
    sweep = sweep_of(folder)
    with share(lock_of(sweep, str(folder.relative_to(sweep)))) if sweep else contextlib.nullcontext():
        yield


def lock_of(sweep: Path, folder: str) -> Path:
    """The file that the processes of a trial hold."""
    return sweep / LOCKS / folder.replace("/", "-")
