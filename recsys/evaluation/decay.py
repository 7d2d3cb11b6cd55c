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
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.evaluation.folds import MICROSECONDS_A_DAY, Fold
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.results import LESS_IS_BETTER
from recsys.evaluation.summary import Bootstrap, Figures
from recsys.evaluation.systems import MODEL
from recsys.metrics.classification import auc, row_log_loss
from recsys.metrics.intervals import Samples
from recsys.schema.tables import LABEL, PROBABILITY, TIMESTAMP, USER_ID


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What one training of a fold was worth: the table of `recsys.evaluation.systems` after its cut."""

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
        judgements: of all folds and seeds; figures of a fold's seeds are averaged.
        options: resamples, confidence and seed.
    """

    def __init__(self, judgements: Sequence[Judgement], options: EvaluationOptions) -> None:
        users = [np.asarray(one.systems[USER_ID].to_pylist()) for one in judgements]
        self.bootstrap = Bootstrap(np.concatenate(users), options)
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in users])])
        parts: dict[tuple[int, int], list[Cell]] = {}
        folds = {one.fold.number: one.fold for one in judgements}
        for index, one in enumerate(judgements):
            times = one.systems[TIMESTAMP].to_numpy()
            for period in folds.values():
                kept = (times >= period.cut) & (times < period.end)
                if period.number >= one.fold.number and kept.any():
                    rows = offsets[index] + np.flatnonzero(kept)
                    cell = self._cell(one, period, one.systems.filter(pa.array(kept)), rows)
                    parts.setdefault((one.fold.number, period.number), []).append(cell)
        self.cells = {key: _mean_cell(cells) for key, cells in sorted(parts.items())}

    def _cell(
        self, one: Judgement, period: Fold, systems: pa.Table, rows: npt.NDArray[np.int64]
    ) -> Cell:
        ages = (systems[TIMESTAMP].to_numpy() - one.fold.cut) / MICROSECONDS_A_DAY
        users = self.bootstrap.users_N[rows]
        judge = self._ranked if LABEL in systems.column_names else self._retrieved
        return Cell(one.fold, period, float(ages.mean()), len(rows), len(np.unique(users)), judge(systems, rows))

    def _retrieved(self, systems: pa.Table, rows: npt.NDArray[np.int64]) -> Figures:
        keys = [name for name in systems.column_names if "/" in name]
        return self._means({key: systems[key].to_numpy() for key in keys}, rows)

    def _ranked(self, systems: pa.Table, rows: npt.NDArray[np.int64]) -> Figures:
        labels, users = systems[LABEL].to_numpy().astype(np.int64), self.bootstrap.users_N[rows]
        names = [name.partition("/")[0] for name in systems.column_names if name.endswith(f"/{PROBABILITY}")]
        scores = {name: systems[f"{name}/{PROBABILITY}"].to_numpy() for name in names}
        losses = {f"{name}/log_loss": row_log_loss(labels, one) for name, one in scores.items()}
        figures = self._means(losses, rows)
        for name, one in scores.items():
            figures.values[f"{name}/auc"] = auc(labels, one)
            figures.samples[f"{name}/auc"] = self.bootstrap.auc_samples(labels, one, users_N=users)
        return figures

    def _means(self, values: Mapping[str, npt.NDArray[Any]], rows: npt.NDArray[np.int64]) -> Figures:
        mask = np.zeros(len(self.bootstrap.users_N), dtype=np.bool_)
        mask[rows] = True
        whole = {key: np.zeros(len(mask)) for key in values}
        for key, column in values.items():
            whole[key][rows] = column
        return self.bootstrap.means(whole, mask=mask)

    def keys(self, of: str = MODEL) -> list[str]:
        """Metrics that a system has in every cell."""
        found = [set(cell.figures.values) for cell in self.cells.values()]
        first = next(iter(self.cells.values())).figures.values
        return [
            key.partition("/")[2]
            for key in first
            if key.startswith(f"{of}/") and all(key in there for there in found)
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
                "age_days": float(np.average([c.age_days for c in cells], weights=[c.queries for c in cells])),
                "periods": len(cells),
                "queries": sum(cell.queries for cell in cells),
                "model": self.block(model),
                "fresh": self.block(new),
                "loss": self.block(model - new),
            }
            if beside is not None:
                baseline = _pooled(fresh, f"{beside}/{metric}")
                row |= {"baseline": self.block(baseline), "lead": self.block(model - baseline)}
            rows.append(row)
        return rows

    def best_baseline(self, metric: str) -> str | None:
        """The baseline that is best over all periods, each fitted up to the period; None without baselines."""
        fresh = [cell for cell in self.cells.values() if cell.age == 0]
        names = [name for name in self.systems(metric) if name != MODEL]
        if not names or not fresh:
            return None
        return max(names, key=lambda name: sign(metric) * _pooled(fresh, f"{name}/{metric}").value)

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
        samples = figure.samples
        usable = len(samples) and not np.isnan(samples).all()
        return {"value": figure.value, "interval": self.bootstrap.interval(samples) if usable else None}


def sign(metric: str) -> int:
    """1 where more is better, -1 where less is."""
    return -1 if metric in LESS_IS_BETTER else 1


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
    queries = np.array([cell.queries for cell in cells], dtype=np.float64)
    return _combined(cells, key, queries / queries.sum())


def _combined(cells: Sequence[Cell], key: str, weights_C: npt.NDArray[np.float64]) -> Figure:
    values_C = [cell.figures.values[key] for cell in cells]
    samples_CR = np.stack([cell.figures.samples[key] for cell in cells])
    return Figure(float(np.dot(weights_C, values_C)), weights_C @ samples_CR)
