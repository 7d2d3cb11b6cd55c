"""Runs a piece of work in a forked process and has strace fail it, or kill it, at one chosen call.

The parent has imported everything already, so that each crash costs what the work costs:

    parent --fork--> child waits --strace attaches--> child works --at the n-th call: SIGKILL or an error-->
"""

import contextlib
import os
import shutil
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

# Calls that change what is on a disk, or make sure of it.
CALLS = (
    *("openat", "write", "pwrite64", "writev", "mkdir", "rename", "renameat2"),
    *("link", "unlink", "unlinkat", "rmdir", "fsync", "fdatasync", "ftruncate", "flock"),
)
PUT_IN_PLACE = ("rename", "renameat2", "link")

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="no strace on PATH: apt-get install strace"
)


def run_traced(work: Callable[[], None], trace: Path, *options: str) -> tuple[int, str]:
    """Does `work` under strace; returns its exit status (negative: the signal) and what it wrote."""
    errors = trace.with_suffix(".stderr")
    start_out, start_in = os.pipe()
    child = os.fork()
    if child == 0:
        _work_and_exit(work, start_out, errors)
    command = ["strace", "-f", "-p", str(child), "-o", str(trace), "-e", f"trace={','.join(CALLS)}"]
    tracer = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    assert "attached" in tracer.stderr.readline()
    os.write(start_in, b"go")
    _, status = os.waitpid(child, 0)
    tracer.communicate()
    os.close(start_out)
    os.close(start_in)
    return os.waitstatus_to_exitcode(status), errors.read_text()


def _work_and_exit(work: Callable[[], None], start: int, errors: Path) -> None:
    status = 1
    try:
        with errors.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout = sys.__stdout__
        sys.stderr = sys.__stderr__
        os.read(start, 2)
        work()
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


# An `openat` that can change something; a full disk refuses no other.
_OPENS_TO_WRITE = ("O_WRONLY", "O_RDWR", "O_CREAT")


def calls_of(trace: Path) -> dict[str, list[int]]:
    """By call, the numbers of those that may change what is on the disk, of a finished trace."""
    made: Counter[str] = Counter()
    numbers: dict[str, list[int]] = {}
    for line in trace.read_text(errors="replace").splitlines():
        name = line.split(maxsplit=1)[1].partition("(")[0]
        if name not in CALLS:
            continue
        made[name] += 1
        if name != "openat" or any(flag in line for flag in _OPENS_TO_WRITE):
            numbers.setdefault(name, []).append(made[name])
    return numbers


def points_of(calls: dict[str, list[int]], *, most: int) -> list[tuple[str, int]]:
    """Every call that puts a file or folder in place, and some `most` of each other one, evenly spread."""
    points = []
    for name, numbers in sorted(calls.items()):
        step = 1 if name in PUT_IN_PLACE else max(1, len(numbers) // most)
        points += [(name, number) for number in numbers[::step]]
    return points


def crash(
    work: Callable[[], None],
    check: Callable[[], None],
    *,
    trace: Path,
    inject: str,
    most: int = 20,
    before: Callable[[], None] = lambda: None,
) -> int:
    """Has `work` crash at its calls one after the other; returns how often it crashed.

    Args:
        work: done once to its end first, to count its calls.
        check: raises where something is lost, or not as it should be.
        trace: file for strace's notes.
        inject: `signal=SIGKILL` or `error=ENOSPC`, as strace wants it.
        most: points of each call that is made very often.
        before: puts things back before each time.
    """
    before()
    status, errors = run_traced(work, trace)
    assert status == 0, errors
    crashes = 0
    for name, number in points_of(calls_of(trace), most=most):
        before()
        status, errors = run_traced(work, trace, "-e", f"inject={name}:{inject}:when={number}")
        crashes += status != 0
        try:
            check()
        except Exception as error:
            raise AssertionError(f"{name} number {number} with {inject}: {errors[-2000:]}") from error
    return crashes
