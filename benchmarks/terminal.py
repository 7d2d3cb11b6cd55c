"""Runs a command whose stderr is a terminal, so that it shows its progress bar as it does to a user."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence

from benchmarks.harness import PROJECT, plain_environment

_ROWS, _COLUMNS = 40, 120


def run_on_terminal(arguments: Sequence[str]) -> tuple[str, str]:
    """Runs `python ARGUMENTS` in the project's folder; what it wrote on stdout and on the terminal.

    Raises:
        RuntimeError: it ended with another status than 0; the message ends with what it said.
    """
    ours, theirs = open_terminal()
    shown: list[bytes] = []
    reader = threading.Thread(target=_drain, args=(ours, shown))
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
    stdout, _ = process.communicate()
    reader.join()
    os.close(ours)
    terminal = b"".join(shown).decode(errors="replace")
    if process.returncode:
        raise RuntimeError(
            f"`python {' '.join(arguments)}` ended with {process.returncode}:\n{terminal[-3000:]}"
        )
    return stdout, terminal


def open_terminal() -> tuple[int, int]:
    """Our end and the other end of a terminal; without a size it would show no progress bar."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    return ours, theirs


def _drain(terminal: int, shown: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # the other end is closed when the command ends
        while chunk := os.read(terminal, 65_536):
            shown.append(chunk)
