"""Runs the experiments of the README's results again and says which figures come out otherwise.

`make reproduce ARGS="ml100k_two_tower_leave_last_out"` for some. A figure is off when its mean over the seeds
differs from the recorded mean by more than `NOISE` standard errors of the difference of two such means, which
the spread of the recorded seeds gives.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.harness import PROJECT, run_command

RECORDED = PROJECT / "docs" / "results.json"
NOISE = 3.0
# Seeds that happen to agree do not make a figure exact.
_LEAST_SPREAD = 1e-3

Figures = dict[str, list[float]]


def main() -> None:
    """Ends with status 1 when a figure is off."""
    recorded = json.loads(RECORDED.read_text())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproduce")
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="all that are recorded if none")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "reproduced", help="where the runs go")
    asked = parser.parse_args()
    for name in asked.experiments:
        if name not in recorded:
            parser.error(f"there is no figure of `{name}` in `{RECORDED}`; there are {', '.join(recorded)}")
    table = Table("experiment", "figure", "recorded", "found", "allowed", "")
    num_off = 0
    for name in asked.experiments or recorded:
        one = recorded[name]
        found = rerun(name, one["seeds"], list(one["test"]), asked.runs)
        for figure, values in one["test"].items():
            is_off, allowed = compare(values, found[figure])
            num_off += is_off
            means = (statistics.mean(values), statistics.mean(found[figure]))
            shown = (f"{means[0]:.4f}", f"{means[1]:.4f}", f"{allowed:.4f}", "OFF" if is_off else "")
            table.add_row(name, figure, *shown)
    Console().print(table)
    sys.exit(1 if num_off else 0)


def rerun(experiment: str, seeds: Sequence[int], figures: Sequence[str], folder: Path) -> Figures:
    """Test figures of the experiment, a value a seed; a run that is there and finished is taken as it is."""
    found: Figures = {figure: [] for figure in figures}
    for seed in seeds:
        run_dir = (PROJECT / folder / f"{experiment}-{seed}").resolve()
        metrics = run_dir / "metrics.json"
        if not metrics.exists():
            print(f"  {experiment}, seed {seed}", file=sys.stderr, flush=True)
            run_command(["train.py", f"experiment={experiment}", f"seed={seed}", f"run_dir={run_dir}"])
        test: Mapping[str, float] = json.loads(metrics.read_text())["test"]
        for figure in figures:
            found[figure].append(test[figure])
    return found


def compare(recorded: Sequence[float], found: Sequence[float]) -> tuple[bool, float]:
    """Whether the means differ by more than noise, and how much is allowed.

    Example:
        >>> compare([0.10, 0.12, 0.11], [0.11, 0.12, 0.13])
        (False, 0.0245)
        >>> compare([0.10, 0.12, 0.11], [0.15, 0.14, 0.13])
        (True, 0.0245)
    """
    spread = max(statistics.stdev(recorded), _LEAST_SPREAD)
    allowed = NOISE * spread * math.sqrt(1 / len(recorded) + 1 / len(found))
    return abs(statistics.mean(recorded) - statistics.mean(found)) > allowed, round(allowed, 4)


if __name__ == "__main__":
    main()
