"""Runs a piece of work in a forked process and has strace fail it, or kill it, at one chosen call.

The parent has imported everything already, so that each crash costs what the work costs:

    parent --fork--> child waits --strace attaches--> child works --at the n-th call: SIGKILL or an error-->
"""

import contextlib
import dataclasses
import os
import re
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

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="no strace on PATH: apt-get install strace"
)


def run_traced(work: Callable[[], None], trace: Path, *options: str, threads: bool = True) -> tuple[int, str]:
    """Does `work` under strace; returns its exit status (negative: the signal) and what it wrote.

    Args:
        work: done in a forked process.
        trace: file for strace's notes.
        options: of strace.
        threads: whether strace also sees the threads and processes that the work begins.
    """
    errors = trace.with_suffix(".stderr")
    start_out, start_in = os.pipe()
    child = os.fork()
    if child == 0:
        _work_and_exit(work, start_out, errors)
    command = ["strace", "-y", "-p", str(child), "-o", str(trace), "-e", f"trace={','.join(CALLS)}"]
    command += ["-f"] if threads else []
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
# The thread of a line of a trace, its call, and the file that the call's first argument is, where it is one.
_LINE = re.compile(r"(?P<thread>\d+) +(?P<call>\w+)\((?:(?P<number>\d+)<(?P<file>[^>]*)>)?")
_STANDARD_OUTPUT_AND_ERROR = ("1", "2")


@dataclasses.dataclass(frozen=True)
class Point:
    """A call to crash at.

    Args:
        call: its name.
        number: counted from 1 among the calls of that name of one thread, as strace counts.
        first: whether that is the thread that began the work; strace then sees no other.
    """

    call: str
    number: int
    first: bool


def points_of(trace: Path, *, reads: Path | None = None) -> list[Point]:
    """Every call of a finished trace that may change what is on the disk.

    Args:
        trace: strace's notes.
        reads: in place of those, every opening that only reads a file of this folder.
    """
    made: Counter[tuple[str, str]] = Counter()
    points: dict[Point, None] = {}
    threads: list[str] = []
    for line in trace.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None or match["call"] not in CALLS:
            continue
        threads.append(match["thread"])
        made[match["thread"], match["call"]] += 1
        if _only_reads(match, line, reads) if reads else _may_change_a_disk(match, line):
            number = made[match["thread"], match["call"]]
            points[Point(match["call"], number, match["thread"] == threads[0])] = None
    return list(points)


def _only_reads(match: re.Match[str], line: str, folder: Path) -> bool:
    return match["call"] == "openat" and f'"{folder}/' in line and not _opens_to_write(line)


def _opens_to_write(line: str) -> bool:
    return any(flag in line for flag in _OPENS_TO_WRITE)


def _may_change_a_disk(match: re.Match[str], line: str) -> bool:
    if match["call"] == "openat":
        return _opens_to_write(line) and '"/dev/' not in line
    if match["file"] is None:
        return True
    on_disk = match["file"].startswith("/") and not match["file"].startswith(("/dev/", "/proc/", "/sys/"))
    return on_disk and match["number"] not in _STANDARD_OUTPUT_AND_ERROR


def crash(
    work: Callable[[], None],
    check: Callable[[], None],
    *,
    trace: Path,
    inject: str,
    reads: Path | None = None,
    is_command: bool = False,
    before: Callable[[], None] = lambda: None,
    part: slice = slice(None),
) -> int:
    """Has `work` crash at its calls one after the other; returns how often it crashed.

    Args:
        work: done once to its end first, to see its calls.
        check: raises where something is lost, or not as it should be.
        trace: file for strace's notes.
        inject: `signal=SIGKILL` or `error=ENOSPC`, as strace wants it.
        reads: see `points_of`.
        is_command: whether the work says in words, without a traceback, which file it could not read.
        before: puts things back before each time.
        part: of the calls, where all of them take too long for one test.
    """
    before()
    status, errors = run_traced(work, trace)
    assert status == 0, errors
    crashes = 0
    for point in points_of(trace, reads=reads)[part]:
        before()
        chosen = f"inject={point.call}:{inject}:when={point.number}"
        status, errors = run_traced(work, trace, "-e", chosen, threads=not point.first)
        crashes += status != 0
        try:
            if is_command and reads and _was_injected(trace, reads):
                # What a process of its own said is quoted, behind `error:`.
                assert not any(line.startswith("Traceback") for line in errors.splitlines())
            check()
        except Exception as error:
            raise AssertionError(f"{point} with {inject}: {errors[-2000:]}") from error
    return crashes


def _was_injected(trace: Path, folder: Path) -> bool:
    """Whether the call that failed was of a file of the folder; at times a library opens one file more."""
    lines = trace.read_text(errors="replace").splitlines()
    return any("(INJECTED)" in line and f'"{folder}/' in line for line in lines)
