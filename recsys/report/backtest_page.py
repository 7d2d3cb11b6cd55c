"""The page of a backtest: the metric over time and by age of the model, beside the baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from recsys.metrics.register import metric_label
from recsys.report.charts import Series, line_chart
from recsys.report.pages import Cell, Table, figure, render, table_of
from recsys.report.systems import MODEL, name_of

_NOT_FROM_ZERO = ("auc", "log_loss")


def render_backtest(results: Mapping[str, Any]) -> str:
    """The page.

    Args:
        results: content of `backtest.json`.

    Returns:
        HTML that needs no other file and no network.
    """
    options, dataset = results["options"], results["dataset"]
    asked = {"run": results["run"], "dataset": f"{dataset['name']}, {dataset['fingerprint']}"}
    return render(
        "backtest.html",
        title=f"Backtest of {results['name']}",
        about=_about(results),
        failures=[
            f"Fold {row['fold']} (seed {row['seed']}) failed and is not in the figures: {row['error']}"
            for row in results["failed"]
        ],
        outcome=results.get("outcome", ""),
        verdict=results["verdict"],
        charts=list(_charts(results)),
        ages=_ages(results),
        periods=_periods(results),
        how=_how(options),
        asked=asked | {key: options[key] for key in ("k", "queries", "seed")} | (options["backtest"] or {}),
    )


def _about(results: Mapping[str, Any]) -> str:
    periods, dataset = results["periods"], results["dataset"]["name"]
    return (
        f"{dataset}: {len(periods)} folds from {periods[0]['cut'][:10]} to {periods[-1]['end'][:10]}, "
        f"{results['users']:,} users; each model knows nothing from its cut on."
    )


def _charts(results: Mapping[str, Any]) -> Iterable[Markup]:
    metric = results["main_metric"]
    from_zero = metric not in _NOT_FROM_ZERO
    fresh = [row for row in _of_metric(results) if row["fold"] == row["period"]]
    places = [row["cut"][:10] for row in fresh if row["system"] == MODEL]
    systems = list(dict.fromkeys(row["system"] for row in fresh))
    if places:
        lines = [
            _line(name_of(name), style, [row for row in fresh if row["system"] == name])
            for style, name in enumerate(systems)
        ]
        title = f"{metric_label(metric)} over time, each model and baseline fresh"
        yield line_chart(title, places, lines, axis="beginning of the period", from_zero=from_zero)
    ages = results["by_age"]
    if len(ages) > 1:
        lines = [_by_age("this model", 0, ages, "model"), _by_age("trained anew", 5, ages, "fresh")]
        if results["best_baseline"] is not None:
            named = f"{name_of(results['best_baseline'])}, anew"
            lines.append(_by_age(named, systems.index(results["best_baseline"]), ages, "baseline"))
        title = f"{metric_label(metric)} by age of the model"
        days = [f"{row['age_days']:.0f}" for row in ages]
        yield line_chart(title, days, lines, axis="days since the cut, on average", from_zero=from_zero)


def _of_metric(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [row for row in results["cells"] if row["metric"] == results["main_metric"]]


def _line(name: str, style: int, rows: Sequence[Mapping[str, Any]]) -> Series:
    """A system over the periods; intervals for the model alone, or nothing can be told apart."""
    bounds = [None if row["low"] is None else (row["low"], row["high"]) for row in rows]
    return Series(name, style, [row["value"] for row in rows], bounds if style == 0 else None)


def _by_age(name: str, style: int, ages: Sequence[Mapping[str, Any]], key: str) -> Series:
    values, bounds = [row[key]["value"] for row in ages], [row[key]["interval"] for row in ages]
    return Series(name, style, values, bounds if style == 0 else None)


def _ages(results: Mapping[str, Any]) -> Table:
    best = results["best_baseline"]
    heads = ["age of the model", "this model", "trained anew", "difference"]
    heads += [name_of(best), "lead"] if best is not None else []
    signed = ("loss", "lead")
    keys = ["model", "fresh", "loss", *(["baseline", "lead"] if best is not None else [])]
    return table_of(
        heads,
        (
            [
                Cell(f"{row['age_days']:.1f} days", f"{row['periods']} periods, {row['queries']:,} queries"),
                *(
                    figure(row[key]["value"], row[key]["interval"], sign="+" if key in signed else "")
                    for key in keys
                ),
            ]
            for row in results["by_age"]
        ),
    )


def _periods(results: Mapping[str, Any]) -> Table:
    """The model of each fold, a row, on every period."""
    cells = {(row["fold"], row["period"]): row for row in _of_metric(results) if row["system"] == MODEL}
    periods = results["periods"]
    rows = [
        [period["cut"][:10], *(_cell(cells.get((period["fold"], other["fold"]))) for other in periods)]
        for period in periods
    ]
    return table_of(["model cut at", *(f"from {period['cut'][:10]}" for period in periods)], rows)


def _cell(row: Mapping[str, Any] | None) -> Cell:
    if row is None:
        return Cell("-")
    return figure(row["value"], None if row["low"] is None else [row["low"], row["high"]])


def _how(options: Mapping[str, Any]) -> str:
    return (
        f"Intervals cover {100 * options['confidence']:g} % of {options['resamples']:,} resamples of users, "
        "each drawn with all queries in all periods; the chance in training and in the choice of cuts is not "
        "in them. The decay is the slope of a straight line through models of several ages on the same "
        "period, each period with a level of its own. Age counts from the cut; what a model has learned from "
        "ends where its validation begins. Histories go on up to each query, as they would in use."
    )
