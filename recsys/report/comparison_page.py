"""The comparison as one self-contained HTML page, in the look of the evaluation's report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from recsys.metrics.register import metric_label, metric_of
from recsys.metrics.significance import BETTER, WORSE
from recsys.report.forest import forest_plot
from recsys.report.pages import Cell, Row, Table, figure, figure_of, p_value, render, table_of
from recsys.report.systems import counted

_HEADLINE = ("ndcg", "hit_rate", "mrr", "coverage", "novelty")
_HEADLINE_RANKING = ("auc", "gauc", "log_loss")
# Slices that a plot shows: those that differ most.
_MOST_SLICES = 12
# More are counted in the title, and their sentences folded away below the summary.
_MOST_NAMED = 4
_COLOURS = {BETTER: "lead", WORSE: "lag"}


def render_comparison(content: Mapping[str, Any]) -> str:
    """The page.

    Args:
        content: what `comparison.json` holds.

    Returns:
        HTML that needs no other file and no network.
    """
    names = [system["name"] for system in content["systems"]]
    others = ", ".join(names[1:]) if len(names) <= _MOST_NAMED else f"{len(names) - 1} others"
    sources = {system["name"]: system["source"] for system in content["systems"]}
    return render(
        "comparison.html",
        title=f"{names[0]} against {others}",
        first=names[0],
        content=content,
        counted=counted(content),
        most_named=_MOST_NAMED,
        charts=list(_plots(content)),
        headlines=_side_by_side(content, _headline(content)),
        differences=_differences(content["differences"]),
        slice_metric=metric_label(content["slice_metric"]),
        slices=_slices(content),
        metrics=_side_by_side(content, list(content["systems"][0]["metrics"])),
        method={**content["method"], **content["options"]},
        protocol={"protocol hash": content["protocol_hash"], **content["protocol"]},
        where=sources | content["environment"],
    )


def _plots(content: Mapping[str, Any]) -> Iterable[Markup]:
    first, main = content["systems"][0]["name"], content["main_metric"]
    rows = [(f"to {row['against']}", row) for row in content["differences"] if row["metric"] == main]
    if rows:
        yield forest_plot(f"Difference in {metric_label(main)}", rows, axis=_axis(first, main))
    metric = content["slice_metric"]
    best = _best_opponent(content, metric)
    slices = _most_different([row for row in content["slices"] if row["against"] == best])
    if slices:
        title = f"Difference in {metric_label(metric)} to {best}: the slices where it is largest"
        yield forest_plot(title, [(_called(row), row) for row in slices], axis=_axis(first, metric))


def _best_opponent(content: Mapping[str, Any], metric: str) -> str:
    """The best of the others: the one that it matters to beat."""
    sign = metric_of(metric).sign
    own = [(system["metrics"].get(metric), system["name"]) for system in content["systems"][1:]]
    known = [(sign * value, name) for value, name in own if value is not None]
    return str(max(known)[1] if known else content["systems"][1]["name"])


def _axis(first: str, metric: str) -> str:
    better = "left" if metric_of(metric).better == "less" else "right"
    return f"{better} of zero {first} is better"


def _most_different(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Slices that are not small, the surest first, among equally sure ones the largest difference."""
    large = [row for row in rows if not row["small"] and row["interval"] is not None]
    large.sort(key=lambda row: (row["p_corrected"], -abs(row["difference"])))
    return large[:_MOST_SLICES]


def _headline(content: Mapping[str, Any]) -> list[str]:
    measured = content["systems"][0]["metrics"]
    k = content["main_metric"].partition("@")[2]
    wanted = _HEADLINE_RANKING if content["task"] == "ranking" else [f"{name}@{k}" for name in _HEADLINE]
    return [key for key in wanted if key in measured]


def _side_by_side(content: Mapping[str, Any], keys: Sequence[str]) -> Table:
    """Metrics downwards, systems sidewards, so that a phone scrolls where there are many systems."""
    systems = content["systems"]
    return table_of(
        ["", *(system["name"] for system in systems)],
        ([metric_label(key), *(figure_of(system, key) for system in systems)] for key in keys),
    )


def _differences(rows: Sequence[Mapping[str, Any]]) -> Table:
    lines: list[Row] = []
    for against, own in groupby(rows, key=lambda row: row["against"]):
        lines.append(Row(Cell(f"to {against}"), style="group"))
        lines += [Row(Cell(metric_label(row["metric"])), _tested(row)) for row in own]
    return Table(table_of(["", "difference", "p, corrected", "p"], []).headings, lines)


def _slices(content: Mapping[str, Any]) -> Table:
    several = len(content["systems"]) > 2
    rows = []
    for row in sorted(content["slices"], key=lambda it: (it["group"], it["name"])):
        beside = f"to {row['against']}" if several else ""
        name = Cell(_called(row), beside, title=row["description"], after=" *" if row["small"] else "")
        cells = [*_tested(row), figure(row["value"]), figure(row["other_value"]), Cell(f"{row['users']:,}")]
        rows.append(Row(name, cells, "small-slice" if row["small"] else ""))
    first = content["systems"][0]["name"]
    heads = ["", "difference", "p, corrected", "p", first, "other", "users"]
    return Table(table_of(heads, []).headings, rows)


def _called(row: Mapping[str, Any]) -> str:
    return f"{row['group'].replace('_', ' ').replace('.', ' ')}: {row['name']}"


def _tested(row: Mapping[str, Any]) -> list[Cell]:
    """Cells of a difference with its interval, its corrected p and its p."""
    shown = figure(row["difference"], row["interval"], sign="+")
    p = [Cell("-" if row[key] is None else p_value(row[key])) for key in ("p_corrected", "p")]
    return [shown._replace(style=_COLOURS.get(row["outcome"], "")), *p]
