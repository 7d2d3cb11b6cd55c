"""The end of a day-by-day loop: what going on gains over training anew and over leaving the model alone."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from recsys.commands.daily_options import CONTINUED, DailyOptions, Step
from recsys.commands.evaluation import options_of
from recsys.commands.figures import console
from recsys.evaluation.evaluate import query_values
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.questions import EvaluatedModel
from recsys.evaluation.summary import Bootstrap, Figures
from recsys.runs.initial import grown_model
from recsys.runs.trained import TrainedRun
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_json
from recsys.schema.tables import USER_ID

FROZEN = "frozen"
QUERIES, STEPS, RESULTS = "queries.parquet", "results.parquet", "results.json"

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class LoopScores:
    """Collects the metrics of a loop's models, step by step.

    Args:
        folder: of the loop.
        options: every key under `daily.`.
        steps: a row for each step and model.
        queries: of each step, the metric of every query for every model.
        evaluation: of the runs.
    """

    folder: Path
    options: DailyOptions
    steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    queries: list[pa.Table] = dataclasses.field(default_factory=list)
    evaluation: EvaluationOptions = dataclasses.field(default_factory=EvaluationOptions)

    def add(self, step: Step, runs: Mapping[str, Path], *, first: Path) -> None:
        """Judges the runs of a step, and the first one as it is, on the same test rows.

        Args:
            step: its instants.
            runs: folders of the models that have learnt up to the step.
            first: folder of the one that has not.
        """
        dataset = TrainedRun.open(runs[CONTINUED]).dataset
        columns: dict[str, Any] = {}
        for arm, folder in {**runs, FROZEN: first}.items():
            run = TrainedRun.open(folder)
            self.evaluation = options_of(run)
            trained = EvaluatedModel(
                grown_model(run, dataset), dataset, run.task, run.history_length, negatives_per_positive=0
            )
            values = query_values(trained, self.evaluation)
            columns |= {USER_ID: values[USER_ID], arm: _column(values, self.options.metric)}
            seconds = run.metrics["train_seconds"] if arm in runs else 0.0
            self.steps.append(
                {
                    "step": step.number,
                    "test_from": step.test.isoformat(),
                    "test_until": step.until.isoformat(),
                    "model": arm,
                    "queries": values.num_rows,
                    self.options.metric: float(np.mean(columns[arm])),
                    "train_seconds": seconds,
                    "run": str(folder),
                }
            )
        columns["step"] = np.full(values.num_rows, step.number)
        self.queries.append(pa.table(columns))


def compare(scores: LoopScores) -> None:
    """Writes and prints what each model came to at each step, on the whole, and how far apart they are."""
    folder, metric = scores.folder, scores.options.metric
    queries = pa.concat_tables(scores.queries)
    arms = [name for name in queries.column_names if name not in (USER_ID, "step")]
    bootstrap = Bootstrap(np.asarray(queries[USER_ID].to_pylist()).astype(str), scores.evaluation)
    figures = bootstrap.means({arm: queries[arm].to_numpy() for arm in arms})
    seconds = {arm: sum(row["train_seconds"] for row in scores.steps if row["model"] == arm) for arm in arms}
    results = {
        "metric": metric,
        "queries": queries.num_rows,
        "users": bootstrap.num_users,
        "mean": {arm: figures.values[arm] for arm in arms},
        "intervals": {arm: bootstrap.interval(figures.samples[arm]) for arm in arms},
        "differences": {
            f"{CONTINUED} - {arm}": _difference(bootstrap, figures, arm) for arm in arms if arm != CONTINUED
        },
        "train_seconds": seconds,
        "steps": scores.steps,
    }
    pq.write_table(queries, folder / QUERIES)
    pq.write_table(pa.Table.from_pylist(scores.steps), folder / STEPS)
    write_json(folder / RESULTS, results)
    _print(results, arms)


def _column(values: pa.Table, metric: str) -> Any:
    if metric not in values.column_names:
        there = ", ".join(name for name in values.column_names if name != USER_ID)
        raise InputError(
            f"`daily.metric` must have a value for each query, got `{metric}`; there are: {there}"
        )
    return values[metric].to_numpy()


def _difference(bootstrap: Bootstrap, figures: Figures, arm: str) -> dict[str, Any]:
    samples = figures.samples[CONTINUED] - figures.samples[arm]
    return {
        "difference": figures.values[CONTINUED] - figures.values[arm],
        "interval": bootstrap.interval(samples),
    }


def _print(results: Mapping[str, Any], arms: list[str]) -> None:
    metric, rows = results["metric"], results["steps"]
    table = Table(title=f"{metric} on the step that follows, and seconds of training")
    for name in ("test from", "queries", *arms, *(f"{arm} s" for arm in arms if arm != FROZEN)):
        table.add_column(name, justify="right")
    trained = [arm for arm in arms if arm != FROZEN]
    for number in dict.fromkeys(row["step"] for row in rows):
        of = {row["model"]: row for row in rows if row["step"] == number}
        shown = [f"{of[arm][metric]:.4f}" for arm in arms]
        seconds = [f"{of[arm]['train_seconds']:.1f}" for arm in trained]
        table.add_row(of[CONTINUED]["test_from"][:10], f"{of[CONTINUED]['queries']:,}", *shown, *seconds)
    table.add_section()
    means = [f"{results['mean'][arm]:.4f}" for arm in arms]
    totals = [f"{results['train_seconds'][arm]:.1f}" for arm in trained]
    table.add_row("all", f"{results['queries']:,}", *means, *totals)
    console().print(table)
    for name, found in results["differences"].items():
        low, high = found["interval"] or (float("nan"), float("nan"))
        logger.info(
            "%s: %+.4f (95 %% interval %+.4f to %+.4f, users drawn)", name, found["difference"], low, high
        )
