"""Runs a command in front of a terminal, as a user does; what it cost, and how long it said nothing."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.harness import PROJECT, plain_environment
from benchmarks.terminal import open_terminal


@dataclasses.dataclass(frozen=True)
class Cost:
    """Holds what one command took.

    Args:
        seconds: from its start to its end.
        cpu_seconds: of it and the processes that it started.
        peak_bytes: the largest resident set among them.
        silent_seconds: the longest time without a sign on the terminal.
        silent_behind: the line that was written before it.
        last_line: of its stdout.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    silent_seconds: float
    silent_behind: str
    last_line: str

    def to_dict(self) -> dict[str, float | str]:
        """Plain data, for JSON."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "last_line"}


def watched(arguments: Sequence[str]) -> Cost:
    """Runs `python ARGUMENTS` in the project's folder, with a terminal for its stderr.

    Raises:
        RuntimeError: it ended with another status than 0; the message ends with what it said.
    """
    ours, theirs = open_terminal()
    signs: list[tuple[float, bytes]] = []
    reader = threading.Thread(target=_read, args=(ours, signs))
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=plain_environment() | {"TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    reader.start()
    assert process.stdout is not None
    stdout = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    ended = time.perf_counter()
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    os.close(ours)
    if process.returncode:
        said = b"".join(sign for _, sign in signs).decode(errors="replace")
        raise RuntimeError(f"`python {' '.join(arguments)}` ended with {process.returncode}:\n{said[-3000:]}")
    signs = [(started, b""), *signs, (ended, b"")]
    pause, at = longest_pause([instant for instant, _ in signs])
    before = b"".join(sign for _, sign in signs[: at + 1]).decode(errors="replace")
    return Cost(
        seconds=ended - started,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * 1024,  # kilobytes on Linux
        silent_seconds=pause,
        silent_behind=([line.strip() for line in re.split(r"[\r\n]", before) if line.strip()] or [""])[-1],
        last_line=stdout.strip().splitlines()[-1] if stdout.strip() else "",
    )


def longest_pause(instants: Sequence[float]) -> tuple[float, int]:
    """The longest time between two signs in a row, and the number of the first of them.

    Example:
        >>> longest_pause([0.0, 1.0, 4.0, 4.5])
        (3.0, 1)
    """
    return max((later - earlier, at) for at, (earlier, later) in enumerate(pairwise(instants)))


def _read(terminal: int, signs: list[tuple[float, bytes]]) -> None:
    while True:
        try:
            sign = os.read(terminal, 65_536)
        except OSError:  # the other end is closed when the command ends
            return
        signs.append((time.perf_counter(), sign))
