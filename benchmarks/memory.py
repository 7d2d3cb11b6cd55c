"""Peak resident memory of `python train.py` on 10 million rows, against tables, optimizer state and 1.5 GB.

Not a speed: measured once, however many rounds are asked for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from benchmarks.criteo import criteo
from benchmarks.harness import PROJECT, Figure, Settings, plain_environment
from benchmarks.train import MODEL
from benchmarks.workload import BYTES_A_ROW

_ALLOWED = 1.5e9


def run(settings: Settings) -> list[Figure]:
    """Ratio of the peak to what is allowed."""
    rows, examples = (1000, 30_000) if settings.toy else (1_000_000, 10_000_000)
    data = criteo(settings.cache, rows=rows, examples=examples)
    run_dir = settings.cache / "run"
    shutil.rmtree(run_dir, ignore_errors=True)
    peak = peak_bytes(
        ["train.py", *MODEL, *data, "data.batch_size=4096", "trainer.max_epochs=1", f"run_dir={run_dir}"]
    )
    shutil.rmtree(run_dir)
    state = rows * BYTES_A_ROW
    notes = {
        "peak_gb": peak / 1e9,
        "tables_and_state_gb": state / 1e9,
        "beside_them_gb": (peak - state) / 1e9,
    }
    name = f"peak memory to tables + state + 1.5 GB, {examples:,} rows of data"
    return [Figure(name, [peak / (state + _ALLOWED)], "at most 1", notes)]


def peak_bytes(arguments: list[str]) -> int:
    """Largest resident set of `python ARGUMENTS`, run in the project's folder.

    Raises:
        RuntimeError: it ended with another status than 0.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=PROJECT, env=plain_environment(), stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"`python {' '.join(arguments)}` ended with {process.returncode}")
    return usage.ru_maxrss * 1024  # kilobytes on Linux
