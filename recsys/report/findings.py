"""A finding of the diagnosis, and what its rules read of the results in the same way."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from recsys.metrics.register import metric_of

Severity = Literal["high", "medium", "info"]
Results = dict[str, Any]

SEVERITIES: tuple[Severity, ...] = ("high", "medium", "info")


@dataclasses.dataclass(frozen=True)
class Finding:
    """A finding of the diagnosis.

    Args:
        severity: `high`, do not ship before this is settled; `medium`, look at it; `info`, know it.
        finding: in a sentence or two.
        evidence: the numbers that it rests on.
        command: to try next, or to look further with.
        otherwise: in its place where another finding has that command, or it is the one that was run.
    """

    severity: Severity
    finding: str
    evidence: dict[str, Any]
    command: str
    otherwise: tuple[str, ...] = ()


def at_main_cut_off(results: Results, name: str) -> str:
    """The key of a metric at the cut-off of the verdict: `coverage` is `coverage@10`."""
    k = results["main_metric"].partition("@")[2]
    return f"{name}@{k}" if k else name


def measured(block: Results, key: str) -> float | None:
    """A figure of a system or a slice; None where it was not measured."""
    value = block.get("metrics", {}).get(key)
    return None if value is None else float(value)


def of_baseline(results: Results, name: str, key: str) -> float | None:
    """A figure of a baseline; None where it was left out or not measured."""
    return measured(results["baselines"].get(name, {}), key)


def worth(key: str, value: float) -> float:
    """Measures how far a metric, of which more is better, is above chance: an AUC of 0.5 is worth nothing."""
    return value - metric_of(key).chance


def pieces_of(results: Results, group: str, name: str | None = None) -> Iterator[Results]:
    """Slices of a group, or one of them, that are not small."""
    for piece in results["slices"]:
        if piece["group"] == group and name in (None, piece["name"]) and not piece["small"]:
            yield piece


def without_twins(pieces: Iterable[Results], key: Callable[[Results], Any]) -> list[Results]:
    """The pieces without those with the key of an earlier one: cold users are those of no history."""
    first: dict[Any, Results] = {}
    for piece in pieces:
        first.setdefault(key(piece), piece)
    return list(first.values())


def gain_interval(compared: Results) -> tuple[float, float] | None:
    """Interval of a comparison, turned so that what is above zero is better; None without resamples."""
    if compared["interval"] is None:
        return None
    sign = metric_of(compared["metric"]).sign
    low, high = sorted(sign * bound for bound in compared["interval"])
    return low, high


def comparison(block: Results, baseline: str | None) -> Results | None:
    """The comparison of a model or a slice with a baseline, where there is one."""
    return next((compared for compared in block["comparisons"] if compared["baseline"] == baseline), None)


def calibration_error(results: Results) -> float | None:
    """Expected calibration error: as measured, or over the bins of the reliability curve."""
    error = measured(results, "calibration_error")
    bins = results.get("reliability")
    if error is not None or not bins:
        return error
    rows = sum(row["rows"] for row in bins)
    return float(sum(row["rows"] * abs(row["predicted"] - row["observed"]) for row in bins) / rows)


def run_path(results: Results, *parts: str) -> str:
    """The run's folder, or what lies in it, as it is typed where the evaluation was started."""
    return typed(near("/".join([results["run"], *parts])))


def near(path: str) -> str:
    """A path below the working directory from there on; another one as it is."""
    here = os.getcwd()
    return (
        os.path.relpath(path, here) if Path(path).is_absolute() and Path(path).is_relative_to(here) else path
    )


def typed(text: str) -> str:
    """A word for a shell, in double quotes where that reads better than quotes within quotes."""
    if "'" in text and not set(text) & set('"$`\\!'):
        return f'"{text}"'
    return shlex.quote(text)


def evaluate_again(results: Results, *overrides: str) -> str:
    """The command that evaluates this run with other options."""
    return " ".join(["python evaluate.py", f"run={run_path(results)}", *overrides])


def train_again(results: Results, *overrides: str) -> str:
    """The command that trains another model on the same prepared dataset."""
    path = results["dataset"].get("path")
    data = ["data=table", f"data.prepared={typed(near(path))}"] if path else []
    return " ".join(["python train.py", *data, *overrides])


def read_table(results: Results, file: str, rest: str) -> str:
    """The command that looks into a table `t` of the evaluation."""
    path = near(f"{results['run']}/evaluation/{file}")
    return f"python -c {typed(f'import pandas as pd; t = pd.read_parquet({path!r}); {rest}')}"
