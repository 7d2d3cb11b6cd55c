"""Processes of this machine that run a sweep's trials, watched and started again when they die."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from recsys.commands.process import signals_as_interrupts
from recsys.commands.sweeps.study import STUDY
from recsys.runs.environment import available_cores

# Set in a worker: the process that watches it.
_SUPERVISOR = "RECSYS_SWEEP_SUPERVISOR"
_DONE, _INTERRUPTED = 0, 130
_POLL_SECONDS = 0.2

logger = logging.getLogger(__name__)


def supervise(command: Sequence[str], *, folder: Path, num_workers: int, goes_on: str) -> int:
    """Runs `command` in so many processes until each has come to its end, and returns the exit status.

    A process that dies (killed, out of memory) is started again; its trial is taken up by whichever is free.
    Ctrl-C and SIGTERM are handed on, and the trials save what they have.

    Args:
        command: what a worker runs.
        folder: of the sweep.
        num_workers: processes at a time.
        goes_on: tells how to go on after an interruption.

    Raises:
        KeyboardInterrupt: the sweep was interrupted.
        RuntimeError: a worker died before it had begun a trial.
    """
    begun = {_start(command, num_workers): _progress(folder) for _ in range(num_workers)}
    status = _DONE
    with signals_as_interrupts():
        try:
            while begun:
                time.sleep(_POLL_SECONDS)
                for worker in [process for process in begun if process.poll() is not None]:
                    before, code = begun.pop(worker), worker.returncode
                    if code == _INTERRUPTED:
                        raise KeyboardInterrupt
                    if code >= 0:
                        status = max(status, code)
                        if code:
                            _end(begun)
                        continue
                    name = signal.Signals(-code).name
                    if _progress(folder) == before:
                        raise RuntimeError(f"a worker of the sweep died ({name}) before it had begun a trial")
                    logger.warning(
                        "a worker died (%s: killed, or out of memory?); starting another one", name
                    )
                    begun[_start(command, num_workers)] = _progress(folder)
        except KeyboardInterrupt:
            _end(begun)
            raise KeyboardInterrupt(goes_on) from None
        except BaseException:
            _end(begun)
            raise
    return status


def is_worker() -> bool:
    """True in a process that `supervise` has started."""
    return _SUPERVISOR in os.environ


def follow_supervisor() -> None:
    """Makes a worker end, as if interrupted, when the process that watches it is gone."""
    if not is_worker():
        return
    supervisor = int(os.environ[_SUPERVISOR])

    def watch() -> None:
        while os.getppid() == supervisor:
            time.sleep(_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="supervisor").start()


def _start(command: Sequence[str], num_workers: int) -> subprocess.Popen[bytes]:
    threads = str(max(1, available_cores() // num_workers))
    environment = {"OMP_NUM_THREADS": threads, **os.environ, _SUPERVISOR: str(os.getpid())}
    # What it prints goes to stderr (2): stdout is for the answer of the command that watches it.
    # A session of its own: Ctrl-C at the terminal reaches a worker once, through its supervisor.
    return subprocess.Popen(
        command, env=environment, stdout=2, stdin=subprocess.DEVNULL, start_new_session=True
    )


def _end(workers: dict[subprocess.Popen[bytes], int]) -> None:
    """Interrupts workers and waits for them; interrupted again, it hands that on too."""
    for worker in workers:
        worker.terminate()
    while any(worker.poll() is None for worker in workers):
        try:
            time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            for worker in workers:
                worker.terminate()
    workers.clear()


def _progress(folder: Path) -> int:
    path = folder / STUDY
    return path.stat().st_size if path.is_file() else 0
