"""Makes sure of threads and address space before a command begins: libraries wait for ever without them.

Arrow waits for a task whose thread could not be started, and OpenBLAS, while it is loaded, asks again and
again for memory that it does not get.
"""

from __future__ import annotations

import importlib.abc
import io
import mmap
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from recsys.schema.errors import InputError

# As many as Arrow and torch start on a small machine.
_THREADS = 16
# For what OpenBLAS takes while it is loaded, and the stacks of Arrow's threads.
_ROOM_BYTES = 256 * 2**20
_BLAS = ("numpy", "scipy")
# Importing Arrow takes a second, where a cold disk has to be read some more.
_ARROW_SECONDS = 60
_NO_THREADS = (
    "expected Arrow to start its threads, the system gives no more; allow more processes (`ulimit -u`, the "
    "container's limit of pids)"
)


@contextmanager
def enough_of_the_system() -> Iterator[None]:
    """Looks before the work and, under `ulimit -v`, at each import within it.

    Raises:
        InputError: the system gives no further threads.
        MemoryError: address space is used up, where a library would wait for it for ever.
    """
    is_limited = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    if is_limited:
        _check_room("begin")
    # Each thread that has ever been takes 64 MiB of addresses for its memory.
    _start_threads(1 if is_limited else _THREADS)
    _start_arrow_threads()
    if not is_limited:
        yield
        return
    guard = _ImportGuard()
    sys.meta_path.insert(0, guard)
    try:
        yield
    finally:
        sys.meta_path.remove(guard)


def _start_threads(count: int) -> None:
    wait = threading.Event()
    threads: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=wait.wait, daemon=True)
            thread.start()
            threads.append(thread)
    except RuntimeError as error:
        raise InputError(
            f"expected to start {count} threads at once, the system gave {len(threads)} ({error}); allow "
            "more processes (`ulimit -u`, the container's limit of pids), or more memory (`ulimit -v`)"
        ) from error
    finally:
        wait.set()
        for thread in threads:
            thread.join()


def _start_arrow_threads() -> None:
    """Has Arrow start its threads while there is room for them: it keeps them, and later waits for none."""
    started = threading.Event()
    faults: list[BaseException] = []

    def start() -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq

            file = io.BytesIO()
            pq.write_table(pa.table({str(n): [n] for n in range(_THREADS)}), file)
            pq.read_table(file)
        except BaseException as error:
            faults.append(error)
        started.set()

    try:
        threading.Thread(target=start, daemon=True).start()
    except RuntimeError as error:
        raise InputError(_NO_THREADS) from error
    if not started.wait(_ARROW_SECONDS):
        raise InputError(_NO_THREADS)
    if faults:
        raise faults[0]


class _ImportGuard(importlib.abc.MetaPathFinder):
    """Refuses to load parts of NumPy and SciPy where OpenBLAS would find no room."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in _BLAS:
            _check_room(f"load {name}")


def _check_room(what: str) -> None:
    try:
        mmap.mmap(-1, _ROOM_BYTES).close()
    except OSError as error:
        raise MemoryError(f"no {_ROOM_BYTES >> 20} MiB of addresses are left to {what}") from error
