"""A peer of the bundle: RecTools, in an environment of its own, since it wants other versions than ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import PROJECT, Settings, plain_environment
from benchmarks.serve_world import LISTED

NAME = "RecTools (ALS, no second stage)"
_PACKAGES = ("RecTools==0.19.0", "pyarrow")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def milliseconds(settings: Settings, raw: Path, *, num_requests: int) -> list[list[float]] | None:
    """Milliseconds of every request, round by round; None at toy size and where RecTools can't be had.

    Args:
        settings: of the benchmark.
        raw: folder of raw tables and requests.
        num_requests: how many.
    """
    if settings.toy:  # nothing is fetched for it
        return None
    python = settings.cache / "rectools" / "bin" / "python"
    if not _installed(python):
        return None
    arguments: list[Any] = [python, PROJECT / "benchmarks" / "serve_rectools.py"]
    arguments += [raw / "interactions.parquet", raw / "requests.json"]
    arguments += [f"--rounds={settings.repeats}", f"--number={num_requests}", f"--listed={LISTED}"]
    done = subprocess.run(
        arguments, env=plain_environment() | _ONE_THREAD, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"RecTools ended with {done.returncode}:\n{done.stderr[-3000:]}")
    found: list[list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _installed(python: Path) -> bool:
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    ready = subprocess.run([python, "-c", "import rectools"], capture_output=True, check=False)
    if ready.returncode == 0:
        return True
    install = [python, "-m", "pip", "install", "--quiet", *_PACKAGES]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  left out: RecTools could not be installed: {done.stderr.strip()[-300:]}", file=sys.stderr)
    return done.returncode == 0
