"""Pythons that have loaded torch and nothing of ours, at the price of a fork.

Each export replays its recordings in a new Python, half of whose time goes into importing torch. Here one
Python imports it, and forks for each replay; that of `tests/exporting/test_gate.py` begins anew.
"""

import json
import os
import subprocess
import sys

import pytest

from recsys.exporting.gate import replay

new_python = replay.run_python

_PARENT = """
import json, os, sys, tempfile
import torch
def child(code, arguments, folder, stderr):
    os.chdir(folder)
    os.dup2(stderr.fileno(), 2)
    os.dup2(2, 1)
    sys.argv = ["-c", *arguments]
    status = 1
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(end.code)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stderr.flush()
    os._exit(status)
for line in sys.stdin:
    code, arguments, folder = json.loads(line)
    with tempfile.TemporaryFile("w+") as stderr:
        number = os.fork()
        if number == 0:
            child(code, arguments, folder, stderr)
        status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
        stderr.seek(0)
        print(json.dumps([status, stderr.read()]), flush=True)
"""


class ForkedPythons:
    """Runs code as `python -I -c CODE ARGUMENTS` would, in a fork of a Python that has imported torch."""

    def __init__(self) -> None:
        self._parent: subprocess.Popen[str] | None = None

    def __call__(self, code: str, arguments: list[str]) -> "subprocess.CompletedProcess[str]":
        """Status and standard error of the code."""
        if self._parent is None:
            command = [sys.executable, "-I", "-W", "ignore", "-c", _PARENT]
            self._parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps([code, arguments, os.getcwd()]) + "\n")
        self._parent.stdin.flush()
        status, stderr = json.loads(self._parent.stdout.readline())
        return subprocess.CompletedProcess([code, *arguments], status, "", stderr)

    def close(self) -> None:
        """Ends the Python that forks."""
        if self._parent is not None:
            self._parent.communicate()


@pytest.fixture(scope="session", autouse=True)
def replays_in_forks():
    """Exports of the tests replay their recordings in forks."""
    forked = ForkedPythons()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "run_python", forked)
        yield
    forked.close()
