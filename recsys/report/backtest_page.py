"""The page of a backtest: the metric over time and by age of the model, beside the baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from recsys.metrics.register import metric_label
from recsys.report.charts import Series, line_chart
from recsys.report.pages import facts, fill_page, row, section, table
from recsys.report.systems import MODEL, name_of

_NOT_FROM_ZERO = ("auc", "log_loss")


def render_backtest(results: Mapping[str, Any]) -> str:
    """The page.

    Args:
        results: content of `backtest.json`.

    Returns:
        HTML that needs no other file and no network.
    """
    name = str(results["name"])
    title = f"Backtest of {name}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="under">{escape(_about(results))}</p>',
        *(f'<p class="warning">{escape(text)}</p>' for text in _failures(results)),
        f'<p class="verdict">{escape(results["verdict"])}</p>',
        f'<div class="charts">{"".join(_charts(results))}</div>',
        _ages(results),
        _cells(results),
        _how(results),
    ]
    return fill_page(title, "\n".join(parts))


def _about(results: Mapping[str, Any]) -> str:
    periods, dataset = results["periods"], results["dataset"]["name"]
    return (
        f"{dataset}: {len(periods)} folds from {periods[0]['cut'][:10]} to {periods[-1]['end'][:10]}, "
        f"{results['users']:,} users; each model knows nothing from its cut on."
    )


def _failures(results: Mapping[str, Any]) -> Iterable[str]:
    for one in results["failed"]:
        yield f"Fold {one['fold']} (seed {one['seed']}) failed and is not in the figures: {one['error']}"


def _charts(results: Mapping[str, Any]) -> Iterable[str]:
    metric = results["main_metric"]
    from_zero = metric not in _NOT_FROM_ZERO
    fresh = [one for one in _of_metric(results) if one["fold"] == one["period"]]
    places = [one["cut"][:10] for one in fresh if one["system"] == MODEL]
    systems = list(dict.fromkeys(one["system"] for one in fresh))
    if places:
        lines = [
            _line(name_of(name), style, [one for one in fresh if one["system"] == name])
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
    return [one for one in results["cells"] if one["metric"] == results["main_metric"]]


def _line(name: str, style: int, rows: Sequence[Mapping[str, Any]]) -> Series:
    """A system over the periods; intervals for the model alone, or nothing can be told apart."""
    bounds = [None if one["low"] is None else (one["low"], one["high"]) for one in rows]
    return Series(name, style, [one["value"] for one in rows], bounds if style == 0 else None)


def _by_age(name: str, style: int, ages: Sequence[Mapping[str, Any]], key: str) -> Series:
    values, bounds = [row[key]["value"] for row in ages], [row[key]["interval"] for row in ages]
    return Series(name, style, values, bounds if style == 0 else None)


def _ages(results: Mapping[str, Any]) -> str:
    best = results["best_baseline"]
    heads = ["age of the model", "this model", "trained anew", "difference"]
    heads += [name_of(best), "lead"] if best is not None else []
    keys = ["model", "fresh", "loss", *(["baseline", "lead"] if best is not None else [])]
    rows = [
        [
            f"{one['age_days']:.1f} days<small>{one['periods']} periods, {one['queries']:,} queries</small>",
            *(_figure(one[key], signed=key in ("loss", "lead")) for key in keys),
        ]
        for one in results["by_age"]
    ]
    note = (
        "All columns of a row are about the same queries: those of the periods that were judged with a model "
        "of that age. What is trained or fitted anew is so at the beginning of each period, as its fold was."
    )
    return section("ages", "By age of the model", f'{_table(heads, rows)}<p class="under">{note}</p>')


def _cells(results: Mapping[str, Any]) -> str:
    numbers = [period["fold"] for period in results["periods"]]
    found = {(one["fold"], one["period"]): one for one in _of_metric(results) if one["system"] == MODEL}
    rows = [
        [
            f"{period['cut'][:10]}",
            *(_cell(found.get((period["fold"], number))) for number in numbers),
        ]
        for period in results["periods"]
    ]
    heads = ["model cut at", *(f"from {period['cut'][:10]}" for period in results["periods"])]
    return section("periods", "Every model on every period", _table(heads, rows))


def _cell(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "-"
    bounds = None if one["low"] is None else [one["low"], one["high"]]
    return _figure({"value": one["value"], "interval": bounds}, signed=False)


def _how(results: Mapping[str, Any]) -> str:
    options, dataset = results["options"], results["dataset"]
    confidence, resamples = 100 * options["confidence"], options["resamples"]
    text = (
        f"Intervals cover {confidence:g} % of {resamples:,} resamples of users, each drawn with all queries "
        "in all periods; the chance in training and in the choice of cuts is not in them. The decay is the "
        "slope of a straight line through models of several ages on the same period, each period with a "
        "level of its own. Age counts from the cut; what a model has learned from ends where its validation "
        "begins. Histories go on up to each query, as they would in use."
    )
    asked = {"run": results["run"], "dataset": f"{dataset['name']}, {dataset['fingerprint']}"}
    asked |= {key: options[key] for key in ("k", "queries", "seed")} | (options["backtest"] or {})
    return section("how", "How it was measured", f"<p>{text}</p>{facts(asked)}")


def _figure(block: Mapping[str, Any], *, signed: bool) -> str:
    form = "+.4f" if signed else ".4f"
    interval = block["interval"]
    bounds = f"<small>{interval[0]:{form}} to {interval[1]:{form}}</small>" if interval else ""
    return f"{block['value']:{form}}{bounds}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return table(heads, [row(first, rest) for first, *rest in rows])
