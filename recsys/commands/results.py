"""The table at the end of several runs: every trial, best first, and the command line of the best."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from rich.table import Table

from recsys.commands.endings import TRIAL, read_ending, read_metrics
from recsys.commands.figures import console
from recsys.commands.sweeps.options import SweepOptions
from recsys.commands.sweeps.rerank import WINNER, lines_of
from recsys.commands.sweeps.study import Record, open_study
from recsys.metrics.register import metric_of
from recsys.report.tables import spreadsheet_cell
from recsys.schema.disk import write_file
from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json
from recsys.schema.terminal import plainly

RESULTS = "results.csv"


def summarise(folder: Path, *, metric: str | None = None) -> bool:
    """Writes the table of all trials in `folder` as CSV, prints it, and says whether any of them succeeded.

    Args:
        folder: holds a folder for each trial.
        metric: validation metric that orders them; null is the runs' own monitor.

    Raises:
        InputError: every trial failed, and each by what the user has to mend.
    """
    trials = [_read(path) for path in sorted(folder.glob(f"*/{TRIAL}"))]
    succeeded = [trial for trial in trials if trial["metrics"]]
    name = metric or (succeeded[0]["metrics"]["monitor"] if succeeded else "")
    name = name.removeprefix("val/")
    sign = 1 if name and metric_of(name).better == "less" else -1
    scores = {trial["number"]: trial["metrics"].get("validation", {}).get(name) for trial in trials}
    trials.sort(
        key=lambda trial: (
            math.inf if scores[trial["number"]] is None else sign * scores[trial["number"]],
            trial["number"],
        )
    )
    keys = _varying([trial["overrides"] for trial in trials])
    _write(folder / RESULTS, trials, keys)
    _print(trials, keys, metric=name)
    failed = [trial for trial in trials if trial["status"] == "failed"]
    if failed and not succeeded and all(trial.get("users_mistake") for trial in failed):
        raise InputError(
            f"all of {len(failed)} trials failed, the first one by: {failed[0]['error']} "
            f"(`{folder / RESULTS}`)"
        )
    if succeeded and not (folder / WINNER).is_file():
        words = [f"{key}={value}" for key, value in trials[0]["overrides"].items()]
        print(plainly(f"best: python train.py {shlex.join(words)}"))
    return bool(succeeded)


def conclude(folder: Path, options: SweepOptions) -> bool:
    """Prints the winner of a search; says instead, and returns False, that too many of its trials failed."""
    trials = open_study(folder, Record.read(folder)).get_trials(deepcopy=False)
    trials = [trial for trial in trials if trial.state.is_finished()]
    failed = sum(trial.state == TrialState.FAIL for trial in trials)
    if options.max_failures is not None and failed > options.max_failures:
        print(
            f"error: expected at most `sweep.max_failures={options.max_failures}` failed trials, but {failed}"
            f" of {len(trials)} failed; their errors are in `{folder / RESULTS}`; a larger bound goes on"
        )
        return False
    if (folder / WINNER).is_file():
        for line in lines_of(read_json(folder / WINNER)):
            print(plainly(line))
    return True


def _read(path: Path) -> dict[str, Any]:
    trial = read_ending(path.parent)
    pairs = (text.partition("=") for text in trial["overrides"])
    trial["overrides"] = {key: value for key, _, value in pairs}
    # Of one that failed as it was taken up again they are those of before.
    trial["metrics"] = {} if trial["status"] == "failed" else read_metrics(path.parent)
    trial["path"] = str(path.parent)
    return trial


def _varying(overrides: Sequence[Mapping[str, str]]) -> list[str]:
    keys = list(dict.fromkeys(key for words in overrides for key in words))
    return [key for key in keys if len({words.get(key) for words in overrides}) > 1]


def _write(path: Path, trials: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> None:
    rows = [
        {spreadsheet_cell(name): spreadsheet_cell(value) for name, value in _row(trial, keys).items()}
        for trial in trials
    ]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_file(path, table.getvalue())


def _row(trial: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    metrics = trial["metrics"]
    return {
        "trial": trial["number"],
        "status": trial["status"],
        **{key: trial["overrides"].get(key) for key in keys},
        **{
            f"{split}/{name}": value
            for split in ("validation", "test")
            for name, value in metrics.get(split, {}).items()
        },
        "best_epoch": metrics.get("best_epoch"),
        "seconds": trial["seconds"],
        "path": trial["path"],
        "error": trial.get("error"),
    }


def _print(trials: Sequence[Mapping[str, Any]], keys: Sequence[str], *, metric: str) -> None:
    table = Table(
        title=f"{len(trials)} trials, by {metric} on validation" if metric else f"{len(trials)} trials"
    )
    for name in ("trial", *map(_short, keys), "validation", "test", "seconds", "status"):
        table.add_column(name, justify="right", overflow="fold")
    for trial in trials:
        row = _row(trial, keys)
        figures = [row.get(f"{split}/{metric}") for split in ("validation", "test")]
        table.add_row(
            str(row["trial"]),
            *(_rounded(row[key]) for key in keys),
            *("" if figure is None else f"{figure:.4f}" for figure in figures),
            f"{row['seconds']:.1f}",
            row["status"],
        )
    console().print(table)
    for trial in trials:
        if trial.get("error"):
            print(plainly(f"trial {trial['number']} failed: {trial['error'].splitlines()[0]}"))


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _rounded(value: str | None) -> str:
    """A value as it fits a table: drawn numbers have 16 digits."""
    try:
        return f"{float(value or ''):.4g}"
    except ValueError:
        return value or ""
