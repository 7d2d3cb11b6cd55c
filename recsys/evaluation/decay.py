"""A backtest's figures: metrics over time, by age of the model, and how fast they fall as it ages.

A cell is the model of one fold, judged on one period:

                period 0   period 1   period 2
    fold 0      age 0      age 1      age 2
    fold 1                 age 0      age 1         down a column: the same queries, a younger model
    fold 2                            age 0

Users are drawn with all of their queries of all cells, so that all differences are paired. The model's own
randomness and the choice of cuts are not in the intervals.

Legend: R resamples, C cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.evaluation.folds import MICROSECONDS_A_DAY, Fold
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.summary import Bootstrap, Figures, Values
from recsys.metrics.classification import auc, row_log_loss
from recsys.metrics.intervals import Samples
from recsys.metrics.register import metric_of
from recsys.report.systems import MODEL
from recsys.schema.tables import LABEL, TIMESTAMP, USER_ID


@dataclasses.dataclass(frozen=True)
class FoldScores:
    """Holds the scores of one training of a fold: the table of `recsys.evaluation.systems` after its cut."""

    fold: Fold
    seed: int
    systems: pa.Table


@dataclasses.dataclass(frozen=True)
class Cell:
    """The systems of one fold, judged on one period.

    Args:
        fold: whose models.
        period: the fold that begins with the period.
        age_days: from the cut to the queries, on average.
        queries: how many, or rows.
        users: whose.
        figures: by `system/metric`.
    """

    fold: Fold
    period: Fold
    age_days: float
    queries: int
    users: int
    figures: Figures

    @property
    def age(self) -> int:
        """In periods; 0 is a fresh model."""
        return self.period.number - self.fold.number


@dataclasses.dataclass(frozen=True)
class Figure:
    """A value and the resamples behind its interval."""

    value: float
    samples: Samples

    def __sub__(self, other: Figure) -> Figure:
        return Figure(self.value - other.value, self.samples - other.samples)


class Decay:
    """Figures of a backtest.

    Args:
        judgements: of all folds that came to their end, and of all seeds; a fold's seeds are averaged.
        periods: all folds that were planned, each beginning with a period.
        options: resamples, confidence and seed.
    """

    def __init__(
        self, scores: Sequence[FoldScores], periods: Sequence[Fold], options: EvaluationOptions
    ) -> None:
        tables = [training.systems for training in scores]
        shared = [
            name for name in tables[0].column_names if all(name in table.column_names for table in tables)
        ]
        rows = pa.concat_tables([table.select(shared) for table in tables])
        owners = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        times = rows[TIMESTAMP].to_numpy()
        self.bootstrap = Bootstrap(np.asarray(rows[USER_ID].to_pylist()), options)
        self._values = {name: rows[name].to_numpy() for name in shared if "/" in name}
        self._labels = rows[LABEL].to_numpy().astype(np.int64) if LABEL in shared else None
        self._losses = {} if self._labels is None else _losses(self._labels, self._values)
        parts: dict[tuple[int, int], list[Cell]] = {}
        for index, training in enumerate(scores):
            for period in periods[training.fold.number :]:
                mask = (owners == index) & (times >= period.cut) & (times < period.end)
                if mask.any():
                    ages = (times[mask] - training.fold.cut) / MICROSECONDS_A_DAY
                    users = self.bootstrap.num_users_in(mask)
                    cell = Cell(
                        training.fold, period, float(ages.mean()), int(mask.sum()), users, self._figures(mask)
                    )
                    parts.setdefault((training.fold.number, period.number), []).append(cell)
        self.cells = {key: _mean_cell(cells) for key, cells in sorted(parts.items())}

    def _figures(self, mask: npt.NDArray[np.bool_]) -> Figures:
        if self._labels is None:
            return self.bootstrap.means(self._values, mask=mask)
        labels, users = self._labels[mask], self.bootstrap.users_N[mask]
        figures = Figures({}, {})
        for key, scores in self._values.items():
            name, mine = key.partition("/")[0], scores[mask]
            figures.values[f"{name}/auc"] = auc(labels, mine)
            figures.samples[f"{name}/auc"] = self.bootstrap.auc_samples(labels, mine, users_N=users)[0]
        means = self.bootstrap.means(self._losses, mask=mask)
        return Figures(figures.values | means.values, figures.samples | means.samples)

    def keys(self, of: str = MODEL) -> list[str]:
        """Metrics that a system has in every cell."""
        measured = [set(cell.figures.values) for cell in self.cells.values()]
        first = next(iter(self.cells.values())).figures.values
        return [
            key.partition("/")[2]
            for key in first
            if key.startswith(f"{of}/") and all(key in there for there in measured)
        ]

    def systems(self, metric: str) -> list[str]:
        """Those that have a metric in every cell, the model first."""
        names = {key.partition("/")[0]: None for key in next(iter(self.cells.values())).figures.values}
        return [name for name in names if metric in self.keys(name)]

    def ages(self, metric: str, *, beside: str | None) -> list[dict[str, Any]]:
        """By age of the model, over all periods in which there is a fresh one to compare with.

        Each period counts by its queries. `fresh` and `baseline` are what the fold that begins with a period
        has on it; at age 0 `model` and `fresh` are the same.
        """
        rows = []
        comparable = [cell for cell in self.cells.values() if (cell.period.number,) * 2 in self.cells]
        for age in sorted({cell.age for cell in comparable}):
            cells = [cell for cell in comparable if cell.age == age]
            fresh = [self.cells[(cell.period.number,) * 2] for cell in cells]
            model, new = _pooled(cells, f"{MODEL}/{metric}"), _pooled(fresh, f"{MODEL}/{metric}")
            row = {
                "age": age,
                "age_days": float(np.average([c.age_days for c in cells], weights=_queries(cells))),
                "periods": len(cells),
                "queries": sum(cell.queries for cell in cells),
                "model": self.block(model),
                "fresh": self.block(new),
                "loss": self.block(model - new),
            }
            if beside is not None:
                # As it is on the same periods, fitted up to each.
                baseline = _pooled(fresh, f"{beside}/{metric}")
                row |= {"baseline": self.block(baseline), "lead": self.block(model - baseline)}
            rows.append(row)
        return rows

    def best_baseline(self, metric: str) -> str | None:
        """The baseline that is best over all periods, each fitted up to each; None without baselines."""
        fresh = [cell for cell in self.cells.values() if cell.age == 0]
        names = [name for name in self.systems(metric) if name != MODEL]
        if not names or not fresh:
            return None
        return max(names, key=lambda name: metric_of(metric).sign * _pooled(fresh, f"{name}/{metric}").value)

    def slope(self, metric: str) -> dict[str, Any] | None:
        """Change of a metric a day of age, between models of several ages on the same period.

        Formula: the slope b of least squares metric_fp = a_p + b age_fp over folds f and periods p, weighted
        by queries, where each period has a level a_p of its own: that some weeks are harder than others
        cancels. More than a straight line is not looked for.

        Returns:
            `value`, `interval`, `per_week` and the number of cells; None where no period has two models.
        """
        by_period: dict[int, list[Cell]] = {}
        for cell in self.cells.values():
            by_period.setdefault(cell.period.number, []).append(cell)
        cells, weights = [], []
        for column in by_period.values():
            ages = np.array([cell.age_days for cell in column])
            cells += column
            weights += list(np.mean([cell.queries for cell in column]) * (ages - ages.mean()))
        ages_C = np.array([cell.age_days for cell in cells])
        spread = float(np.dot(weights, ages_C))
        if not spread > 1e-9:
            return None
        figure = _combined(cells, f"{MODEL}/{metric}", np.array(weights) / spread)
        block = self.block(figure)
        week = None if block["interval"] is None else [7 * bound for bound in block["interval"]]
        return {**block, "per_week": 7 * figure.value, "per_week_interval": week, "cells": len(cells)}

    def block(self, figure: Figure) -> dict[str, Any]:
        """`{"value", "interval"}`; the interval is None without resamples."""
        return {"value": figure.value, "interval": self.bootstrap.interval(figure.samples)}


def _losses(labels_N: npt.NDArray[np.int64], values: Values) -> dict[str, npt.NDArray[np.float64]]:
    """Log loss of each row, by system."""
    return {
        f"{key.partition('/')[0]}/log_loss": row_log_loss(labels_N, probabilities_N)
        for key, probabilities_N in values.items()
    }


def _mean_cell(cells: Sequence[Cell]) -> Cell:
    """The cells of a fold's seeds as one."""
    if len(cells) == 1:
        return cells[0]
    keys = [key for key in cells[0].figures.values if all(key in cell.figures.values for cell in cells)]
    values = {key: float(np.mean([cell.figures.values[key] for cell in cells])) for key in keys}
    samples = {key: np.mean([cell.figures.samples[key] for cell in cells], axis=0) for key in keys}
    return dataclasses.replace(cells[0], figures=Figures(values, samples))


def _pooled(cells: Sequence[Cell], key: str) -> Figure:
    """The mean over cells, each counting by its queries."""
    queries_C = _queries(cells)
    return _combined(cells, key, queries_C / queries_C.sum())


def _queries(cells: Sequence[Cell]) -> npt.NDArray[np.float64]:
    """[C] how many queries each has."""
    return np.array([cell.queries for cell in cells], dtype=np.float64)


def _combined(cells: Sequence[Cell], key: str, weights_C: npt.NDArray[np.float64]) -> Figure:
    values_C = [cell.figures.values[key] for cell in cells]
    samples_CR = np.stack([cell.figures.samples[key] for cell in cells])
    return Figure(float(np.dot(weights_C, values_C)), weights_C @ samples_CR)
