"""Runs a command whose stderr is a terminal, so that it shows its progress bar as it does to a user."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pty
import resource
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Sequence

from benchmarks.harness import PROJECT, plain_environment

_ROWS, _COLUMNS = 40, 120


@dataclasses.dataclass(frozen=True)
class Shown:
    """Holds what a command wrote on stdout and on the terminal, when, and what it used.

    Args:
        stdout: all of it.
        signs: of the terminal, each with its instant (`time.perf_counter`).
        started, ended: the same clock.
        usage: of it and the processes that it started.
    """

    stdout: str
    signs: list[tuple[float, bytes]]
    started: float
    ended: float
    usage: resource.struct_rusage

    @property
    def terminal(self) -> str:
        """All that stood on the terminal."""
        return text_of(self.signs)


def run_on_terminal(arguments: Sequence[str]) -> Shown:
    """Runs `python ARGUMENTS` in the project's folder, with a terminal for its stderr.

    Raises:
        RuntimeError: it ended with another status than 0; the message ends with what it said.
    """
    ours, theirs = _open_terminal()
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
    with process.stdout as output:
        stdout = output.read()
    _, status, usage = os.wait4(process.pid, 0)
    ended = time.perf_counter()
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    os.close(ours)
    if process.returncode:
        said = text_of(signs)[-3000:]
        raise RuntimeError(f"`python {' '.join(arguments)}` ended with {process.returncode}:\n{said}")
    return Shown(stdout, signs, started, ended, usage)


def text_of(signs: Sequence[tuple[float, bytes]]) -> str:
    """Joins signs to the text that they make."""
    return b"".join(sign for _, sign in signs).decode(errors="replace")


def _open_terminal() -> tuple[int, int]:
    """Our end and the other end of a terminal; without a size it would show no progress bar."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    return ours, theirs


def _read(terminal: int, signs: list[tuple[float, bytes]]) -> None:
    with contextlib.suppress(OSError):  # the other end is closed when the command ends
        while sign := os.read(terminal, 65_536):
            signs.append((time.perf_counter(), sign))
