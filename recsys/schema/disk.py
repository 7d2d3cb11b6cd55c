"""Files and folders put in place in one step: a crash at any instant leaves the old or the new one, whole.

    lock `.name.lock` -> fill `.name.XXXX.partial` -> sync -> exchange with `name` -> remove the old one

Readers take no lock. Whoever holds the lock of a name removes what killed writers of that name left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from recsys.schema.errors import InputError

# What a disk says that refuses to be written to, in words.
_REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "it is not permitted",
    errno.EFBIG: "the file would be larger than is allowed",
    errno.EIO: "the disk reports a fault",
}
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

LOGGER = logging.getLogger(__name__)
_held = threading.local()


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path`, which takes the place of `path` when the block ends.

    On an exception nothing changes at `path`. One writer at a time; the others wait.

    Raises:
        InputError: the disk refuses to be written to; what was at `path` is whole.
    """
    with writing_to(path), locked(path):
        _clean_up(path)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        partial.mkdir()  # unlike tempfile's, with the permissions that the umask leaves
        try:
            yield partial
            for place, _, names in os.walk(partial, onerror=fail):
                for name in names:
                    _sync(Path(place, name))
                sync_folder(Path(place))
            _put_in_place(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a file beside `path`, syncs it and renames it, so that `path` is always whole."""
    replace_files({path: content})


def replace_files(contents: Mapping[Path, str | bytes], *, without: Path | None = None) -> None:
    """Replaces files of one folder, once all of them are whole on the disk beside their places.

    Args:
        contents: by path.
        without: a file that no longer holds once they are replaced, and is removed just before.

    Raises:
        InputError: the disk refuses to be written to; nothing has changed.
    """
    temporaries = {path: path.with_name(f".{path.name}.tmp") for path in contents}
    first, touched = next(iter(contents)), [*contents, *([] if without is None else [without])]
    # Second names, for the way back; one file is replaced in one step.
    kept = {path: path.with_name(f".{path.name}.old") for path in touched if len(touched) > 1}
    try:
        for path, content in contents.items():
            remove_planted(temporaries[path])
            with writing_to(path), temporaries[path].open("xb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
        with writing_to(first):
            for path, old in kept.items():
                old.unlink(missing_ok=True)
                if path.exists():
                    link_or_copy(path, old)
            try:
                if without is not None:
                    without.unlink(missing_ok=True)
                for path, temporary in temporaries.items():
                    os.replace(temporary, path)
            except OSError:
                for path, old in kept.items():
                    if old.exists():
                        os.replace(old, path)
                raise
    finally:
        for temporary in (*temporaries.values(), *kept.values()):
            with contextlib.suppress(OSError):  # where nothing can be written, perhaps nothing can be removed
                temporary.unlink(missing_ok=True)
    sync_folder(first.parent)


def remove_planted(temporary: Path) -> None:
    """Removes what a killed writer or a stranger left at a temporary name: a link would be followed."""
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yields a name beside `path`; the file there takes the place of `path` when the block ends."""
    temporary = path.with_name(f".{path.name}.tmp")
    with writing_to(path):
        remove_planted(temporary)
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of the name `path` among the processes of this machine, waiting for it where necessary.

    A thread that holds it may ask again. A killed process lets go of its lock. File systems without locks are
    written to without, as a warning says.
    """
    held: set[Path] = _held.__dict__.setdefault("paths", set())
    name = path.absolute()
    if name in held:
        yield
        return
    lock = path.with_name(f".{path.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(lock, path)
    held.add(name)
    try:
        yield
    finally:
        held.discard(name)
        if descriptor is not None:
            # Before letting go: whoever waits sees that its file is gone, and opens a new one.
            with contextlib.suppress(OSError):
                lock.unlink()
            os.close(descriptor)


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Says of a disk that refuses which file or folder could not be written, and what to do.

    Raises:
        InputError: in place of the error of a full, read-only or forbidden disk, also where a library
            reports it in words alone.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = disk_refusal(error)
        if reason is None:
            raise
        was_there = f"; what was at `{path}` before is whole" if path.exists() else ""
        raise InputError(
            f"expected to write `{path}`, but {reason}{was_there}; make room, or name another place, and run"
            " the command again"
        ) from error


def disk_refusal(error: BaseException) -> str | None:
    """Why a disk refused to be written to, in words; None for any other error."""
    number = getattr(error, "errno", None)
    if number in _REFUSALS:
        return _REFUSALS[number]
    text = str(error)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
        if os.strerror(code) in text:
            return _REFUSALS[code]
    return None


def sync_folder(folder: Path) -> None:
    """Has the names in `folder` written to the disk, where the file system can."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fail(error: OSError) -> NoReturn:
    """Raises what os.walk passes over in silence unless told: a folder that cannot be listed."""
    raise error


def link_or_copy(source: Path, target: Path) -> None:
    """Gives the file `source` a second name, or copies it where the file system knows no hard links."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
        _sync(target)


def restore(path: Path) -> None:
    """Puts a folder back that a killed writer had moved aside, where nothing is at `path`."""
    if path.exists() or not _moved_aside(path):
        return
    with locked(path):
        _clean_up(path)


def _acquire(lock: Path, path: Path) -> int | None:
    said = False
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if not said:
                LOGGER.info("waiting for another process, which is writing %s", path)
                said = True
            time.sleep(0.05)
            continue
        except OSError as error:
            os.close(descriptor)
            lock.unlink(missing_ok=True)
            if error.errno not in _NO_LOCKS:
                raise
            LOGGER.warning("%s lies on a file system without locks: let one process at a time write it", path)
            return None
        if _is_file_at(descriptor, lock):
            return descriptor
        os.close(descriptor)  # its holder removed the file between our opening and our locking it


def _is_file_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _put_in_place(partial: Path, path: Path) -> None:
    if not path.exists():
        os.replace(partial, path)
        sync_folder(path.parent)
        return
    if _exchange(partial, path):
        sync_folder(path.parent)
        shutil.rmtree(partial, ignore_errors=True)  # holds the old one now
        return
    old = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
    os.replace(path, old)
    try:
        os.replace(partial, path)
    except BaseException:
        os.replace(old, path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(path: Path, other: Path) -> bool:
    """Exchanges two names in one step; False where the system cannot.

    NOTE: Python has no name for renameat2(2); glibc has had one since 2.28.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _clean_up(path: Path) -> None:
    """Puts back what a killed writer moved aside, and removes what it left; its lock must be held."""
    for old in _moved_aside(path):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, path)
    for partial in path.parent.glob(f".{glob.escape(path.name)}.????????.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def _moved_aside(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f".{glob.escape(path.name)}.????????.old"))
