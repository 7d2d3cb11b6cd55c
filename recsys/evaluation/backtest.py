"""A backtest's results: content of `backtest.json`, rows of `backtest.parquet`, and what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from recsys.data.reading.instants import iso
from recsys.evaluation.decay import Decay
from recsys.evaluation.folds import Fold
from recsys.metrics.register import metric_label, metric_of
from recsys.report.systems import name_of


def backtest_results(decay: Decay, folds: Sequence[Fold], *, main_metric: str) -> dict[str, Any]:
    """Figures over time and by age, the decay, and the verdict.

    Args:
        decay: the figures.
        folds: all that were planned.
        main_metric: what the verdict is about.
    """
    best = decay.best_baseline(main_metric)
    ages = decay.ages(main_metric, beside=best)
    slope = decay.slope(main_metric)
    return {
        "main_metric": main_metric,
        "best_baseline": best,
        "verdict": _verdict(main_metric, ages, slope, best=best, confidence=decay.bootstrap.confidence),
        "no_better_after_days": _no_better_after(main_metric, ages),
        "decay_per_day": slope,
        "users": decay.bootstrap.num_users,
        "periods": [_described(fold) for fold in folds],
        "by_age": ages,
        "cells": backtest_rows(decay),
    }


def backtest_rows(decay: Decay) -> list[dict[str, Any]]:
    """A row for each fold, period, system and metric."""
    rows = []
    for cell in decay.cells.values():
        place = {
            "fold": cell.fold.number,
            "cut": iso(cell.fold.cut),
            "period": cell.period.number,
            "period_from": iso(cell.period.cut),
            "period_until": iso(cell.period.end),
            "age_days": cell.age_days,
            "queries": cell.queries,
            "users": cell.users,
        }
        for key, value in cell.figures.values.items():
            if math.isnan(value):  # no query of the cell has such a value
                continue
            system, _, metric = key.partition("/")
            interval = decay.bootstrap.interval(cell.figures.samples[key])
            low, high = interval or (None, None)
            rows.append(
                {**place, "system": system, "metric": metric, "value": value, "low": low, "high": high}
            )
    return rows


def backtest_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """The rows, typed: a bound without resamples is null."""
    texts = ("cut", "period_from", "period_until", "system", "metric")
    numbers = ("fold", "period", "queries", "users")
    types = {
        name: pa.string() if name in texts else pa.int64() if name in numbers else pa.float64()
        for name in rows[0]
    }
    return pa.Table.from_pylist(list(rows), schema=pa.schema(types))


def _described(fold: Fold) -> dict[str, Any]:
    return {
        "fold": fold.number,
        "train_from": None if fold.train_from is None else iso(fold.train_from),
        "validation": iso(fold.validation),
        "cut": iso(fold.cut),
        "end": iso(fold.end),
        "judged_until": iso(fold.until),
    }


def _no_better_after(metric: str, ages: Sequence[dict[str, Any]]) -> float | None:
    """Days of age at which the model's lead is first not told from nothing; None while it always is."""
    for row in ages:
        if "lead" in row and not _is_better(row["lead"], metric_of(metric).sign):
            return float(row["age_days"])
    return None


def _is_better(block: dict[str, Any], direction: int) -> bool:
    """Whether a difference is in the good direction, its whole interval with it."""
    return bool(min(direction * bound for bound in block["interval"] or [block["value"]]) > 0)


def _verdict(
    metric: str,
    ages: Sequence[dict[str, Any]],
    slope: dict[str, Any] | None,
    *,
    best: str | None,
    confidence: float,
) -> str:
    """Says how much the model loses as it ages, and until when it is better than the best baseline."""
    sentences = [_decay_in_words(metric, ages, slope, confidence=confidence)]
    if best is not None and ages:
        sentences.append(_lead_in_words(metric, ages, best=best))
    return " ".join(sentences)


def _decay_in_words(
    metric: str, ages: Sequence[dict[str, Any]], slope: dict[str, Any] | None, *, confidence: float
) -> str:
    name = metric_label(metric)
    if slope is None or not ages:
        return f"{name}: no period was judged with models of two ages, so nothing is said about decay."
    week, bounds = slope["per_week"], slope["per_week_interval"]
    fresh = ages[0]["fresh"]["value"]
    share = f", {100 * abs(week) / fresh:.1f} % of the {fresh:.4f} of a fresh model" if fresh else ""
    change = f"{week:+.4f} a week of age{share}"
    if bounds is None:
        return f"{name} changes by {change}; without resamples nothing is said about chance."
    said = f"({100 * confidence:g} % interval {bounds[0]:+.4f} to {bounds[1]:+.4f})"
    if bounds[0] <= 0 <= bounds[1]:
        return f"No decay of {name} is told from chance: {change} {said}."
    direction = metric_of(metric).sign * week
    verb = "The model ages" if direction < 0 else "The older model is the better one"
    return f"{verb}: {name} changes by {change} {said}."


def _lead_in_words(metric: str, ages: Sequence[dict[str, Any]], *, best: str) -> str:
    against = f"{name_of(best)}, the best baseline, fitted anew for each period"
    after = _no_better_after(metric, ages)
    if after is None:
        return (
            f"It is better than {against}, at every age that was measured, up to "
            f"{ages[-1]['age_days']:.1f} days."
        )
    better = [row["age_days"] for row in ages if row["age_days"] < after]
    worse = [row for row in ages if "lead" in row and _is_better(row["lead"], -metric_of(metric).sign)]
    if not better and worse:
        first, last = worse[0], worse[-1]
        values = f"{first['model']['value']:.4f} against {first['baseline']['value']:.4f}"
        until = "at every age that was measured"
        if len(worse) < len(ages):
            until = f"up to {last['age_days']:.1f} days of age"
        return f"It is worse than {against}, {until}: {values} at {first['age_days']:.1f} days."
    if not better:
        return f"It is not told to be better than {against}, even when it is fresh."
    return (
        f"It is better than {against}, up to {better[-1]:.1f} days of age, and from {after:.1f} days on "
        "no longer told to be."
    )
