"""Measures sides in turn and keeps the ratios with their spread, as a table and a JSON file.

Speeds vary with the machine's load from minute to minute. A ratio of two sides measured one right after the
other does so far less: only ratios are kept, one a round, with their median, smallest and largest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from recsys.runs.environment import available_cores, cpu_flags, cpu_name, installed_versions, memory_gib

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "benchmarks" / "results"
CACHE = Path.home() / ".cache" / "recsys" / "benchmarks"
# How torch's threads wait, read when it is imported. To spin a while is best on a machine that is free:
# sleeping at once costs FBGEMM's backward two thirds of its speed. Where others want the cores, sleeping at
# once is best.
SPINNING = {"GOMP_SPINCOUNT": "20000"}
PRECISIONS = ("float32", "bf16")
_ENVIRONMENTS = (SPINNING, {"OMP_WAIT_POLICY": "PASSIVE"})
_ABILITIES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Holds the options of the command line that all benchmarks read.

    Args:
        repeats: rounds, in each of which every side is measured once.
        cache: folder of generated and prepared data and of runs.
        toy: sizes at which a benchmark ends in seconds and its figures mean nothing.
        rows: of every table, for `train` and `peers`; interactions, for `prepare`; items, for `serve`;
            theirs where left empty.
        precisions: of `train`.
    """

    repeats: int = 5
    cache: Path = CACHE
    toy: bool = False
    rows: Sequence[int] = ()
    precisions: Sequence[str] = PRECISIONS

    @property
    def label(self) -> str:
        """Returns the part of a result's file name that tells chosen sizes from the usual ones."""
        chosen = self.precisions if self.precisions != PRECISIONS else ()
        return "".join(f"-{part}" for part in (*self.rows, *chosen))


@dataclasses.dataclass(frozen=True)
class Figure:
    """One side in proportion to another, round by round.

    Args:
        name: what is compared and at what size.
        ratios: one a round.
        target: what is wanted, such as `at least 0.85`; empty where nothing is.
        notes: what was measured beside it, for the JSON.
    """

    name: str
    ratios: Sequence[float]
    target: str = ""
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.ratios)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        spread = {"median": self.median, "min": min(self.ratios), "max": max(self.ratios)}
        return {
            "name": self.name,
            "ratio": spread,
            "ratios": list(self.ratios),
            "target": self.target,
            **self.notes,
        }


def alternate(sides: Mapping[str, Callable[[], float]], *, repeats: int) -> dict[str, list[float]]:
    """Measures every side once a round, in order, and returns what each measured, by its name.

    Args:
        sides: each returns one measurement, a rate or a duration.
        repeats: rounds.
    """
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(repeats):
        for name, measure in sides.items():
            measured[name].append(measure())
            _say(f"round {number + 1} of {repeats}: {name} {measured[name][-1]:,.4g}")
    return measured


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """over[i] / under[i]: two sides of the same round.

    Example:
        >>> ratios([2.0, 9.0], [4.0, 3.0])
        [0.5, 3.0]
    """
    return [a / b for a, b in zip(over, under, strict=True)]


def rate_of(step: Callable[[int], object], *, units: int, steps: int, warmup: int = 5) -> float:
    """Units a second over `steps` calls of step(number), after `warmup` calls that do not count."""
    for number in range(warmup):
        step(number)
    started = time.perf_counter()
    for number in range(warmup, warmup + steps):
        step(number)
    return units * steps / (time.perf_counter() - started)


def run_command(arguments: Sequence[str], *, environment: Mapping[str, str] | None = None) -> str:
    """The last line that `python ARGUMENTS` prints on stdout, run in the project's folder.

    What this process set for its own threads is not handed on, so that a command runs as users run it.

    Args:
        arguments: after the interpreter.
        environment: set in addition.

    Raises:
        RuntimeError: it ended with another status than 0; the message ends with what it said.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=plain_environment() | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"`python {' '.join(arguments)}` ended with {done.returncode}:\n{done.stderr[-3000:]}"
        )
    return done.stdout.strip().splitlines()[-1]


def best_rate(
    arguments: Sequence[str], *, name: str = "", settled: dict[str, Mapping[str, str]] | None = None
) -> float:
    """The rate that `python ARGUMENTS` prints as JSON, the best of the ways in which threads can wait.

    A bound is run so, and peers: none is to look slow for how its threads wait.

    Args:
        arguments: after the interpreter.
        name: of what is run, in `settled`.
        settled: the best way of what was run before, and then the only one; what is run for the first time is
            added. All ways every time when None.
    """
    ways = _ENVIRONMENTS if settled is None or name not in settled else (settled[name],)
    rates = [float(json.loads(run_command(arguments, environment=way))["rate"]) for way in ways]
    if settled is not None:
        settled[name] = ways[rates.index(max(rates))]
    return max(rates)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No log lines below WARNING: fbgemm and TorchRec's planner log every argument they get."""
    former = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(former)


def plain_environment() -> dict[str, str]:
    """This process's environment without settings of the threads."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))
    }


def report(name: str, figures: Sequence[Figure], settings: Settings) -> Path:
    """Prints the figures as a table and writes them to `results/NAME.json` (toy sizes: into the cache)."""
    table = Table(title=f"{name}: ratios, median of {settings.repeats}")
    for column in ("", "ratio", "smallest", "largest", "wanted"):
        table.add_column(column, justify="left" if column in ("", "wanted") else "right")
    for figure in figures:
        values = (figure.median, min(figure.ratios), max(figure.ratios))
        table.add_row(figure.name, *(f"{value:,.3f}" for value in values), figure.target)
    Console().print(table)
    folder = settings.cache if settings.toy else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{settings.label}.json"
    plain = {"benchmark": name, "machine": machine(), "figures": [figure.to_dict() for figure in figures]}
    path.write_text(json.dumps(plain, indent=1) + "\n")
    return path


def machine() -> dict[str, Any]:
    """Describes the processor, its load, the libraries and the commit that the figures depend on."""
    flags = cpu_flags() or set()
    return {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "abilities": [ability for ability in _ABILITIES if ability in flags],
        "memory_gib": round(memory_gib() or 0, 1),
        "load_average": os.getloadavg(),
        "environment": {k: v for k, v in os.environ.items() if k.startswith(("OMP_", "GOMP_", "MKL_"))},
        "python": platform.python_version(),
        "versions": installed_versions(),
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
