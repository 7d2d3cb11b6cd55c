"""The comparison as one self-contained HTML page, in the look of the evaluation's report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from recsys.metrics.register import metric_label, metric_of
from recsys.metrics.significance import BETTER, WORSE
from recsys.report.forest import forest_plot
from recsys.report.pages import facts, figure, figure_of, fill_page, p_value, row, section, table
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
    names = [one["name"] for one in content["systems"]]
    sources = {one["name"]: one["source"] for one in content["systems"]}
    protocol = {"protocol hash": content["protocol_hash"], **content["protocol"]}
    above = _differences(content["differences"])
    others = ", ".join(names[1:]) if len(names) <= _MOST_NAMED else f"{len(names) - 1} others"
    title = f"{names[0]} against {others}"
    parts = [
        _opening(content, title),
        f'<div class="charts">{"".join(_plots(content))}</div>',
        section("systems", "Side by side", _side_by_side(content, _headline(content))),
        section("differences", f"How far {names[0]} is above the others", above),
        _slices(content),
        "<details><summary>Every metric</summary>",
        _side_by_side(content, list(content["systems"][0]["metrics"])),
        "</details>",
        section("method", "How it was compared", facts({**content["method"], **content["options"]})),
        section("protocol", "How it was measured", facts(protocol)),
        section("where", "Where", facts(sources | content["environment"])),
    ]
    return fill_page(title, "\n".join(parts))


def _opening(content: Mapping[str, Any], title: str) -> str:
    verdict = content["verdict"]
    several = [f'<p class="verdict {one["outcome"]}">{escape(one["text"])}</p>' for one in verdict["against"]]
    each = "".join(several)
    if len(several) >= _MOST_NAMED:
        each = f"<details><summary>Against each of the {len(several)}</summary>{each}</details>"
    return (
        f"<h1>{escape(title)}</h1>"
        f'<p class="under">{escape(content["dataset"]["name"])}, test part of the split '
        f"{escape(content['protocol']['split']['kind'])}: {counted(content)}.</p>"
        + "".join(f'<p class="warning">{escape(text)}</p>' for text in content["warnings"])
        + (f'<p class="verdict">{escape(verdict["text"])}</p>' if len(several) > 1 else "")
        + each
    )


def _plots(content: Mapping[str, Any]) -> Iterable[str]:
    first, main = content["systems"][0]["name"], content["main_metric"]
    rows = [(f"to {one['against']}", one) for one in content["differences"] if one["metric"] == main]
    if rows:
        yield forest_plot(f"Difference in {metric_label(main)}", rows, axis=_axis(first, main))
    metric = content["slice_metric"]
    several = len(content["systems"]) > 2
    slices = [
        (_called(one) + (f", to {one['against']}" if several else ""), one)
        for one in _most_different(content["slices"])
    ]
    if slices:
        title = f"Difference in {metric_label(metric)}: the slices where it is largest"
        yield forest_plot(title, slices, axis=_axis(first, metric))


def _axis(first: str, metric: str) -> str:
    better = "left" if metric_of(metric).better == "less" else "right"
    shown = first if len(first) <= 28 else f"{first[:27]}…"
    return f"{better} of zero {shown} is better"


def _most_different(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Slices that are not small, the surest first, among equally sure ones the largest difference."""
    large = [one for one in rows if not one["small"] and one["interval"] is not None]
    large.sort(key=lambda one: (one["p_corrected"], -abs(one["difference"])))
    return large[:_MOST_SLICES]


def _headline(content: Mapping[str, Any]) -> list[str]:
    measured = content["systems"][0]["metrics"]
    k = content["main_metric"].partition("@")[2]
    wanted = _HEADLINE_RANKING if content["task"] == "ranking" else [f"{name}@{k}" for name in _HEADLINE]
    return [key for key in wanted if key in measured]


def _side_by_side(content: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Metrics downwards, systems sidewards, so that a phone scrolls where there are many systems."""
    systems = content["systems"]
    rows = [row(escape(metric_label(key)), (figure_of(one, key) for one in systems)) for key in keys]
    return table(["", *(one["name"] for one in systems)], rows)


def _differences(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    against = None
    for one in rows:
        if one["against"] != against:
            against = one["against"]
            lines.append(f'<tr class="group"><th scope="rowgroup" colspan="4">to {escape(against)}</th></tr>')
        lines.append(row(escape(metric_label(one["metric"])), _tested(one)))
    return table(["", "difference", "p, corrected", "p"], lines) + (
        '<p class="under">Coloured where it is sure which is better after the correction. A metric that '
        "does not say which is better has no colour. Metrics of the whole set of lists, like coverage, have "
        "no value per user to be tested.</p>"
    )


def _slices(content: Mapping[str, Any]) -> str:
    metric = content["slice_metric"]
    several = len(content["systems"]) > 2
    rows = []
    for one in sorted(content["slices"], key=lambda it: (it["group"], it["name"])):
        star = " *" if one["small"] else ""
        beside = f"<small>to {escape(one['against'])}</small>" if several else ""
        name = f'<span title="{escape(one["description"])}">{escape(_called(one) + star)}</span>{beside}'
        cells = [f"{one['users']:,}", figure(one["value"]), figure(one["other_value"]), *_tested(one)]
        rows.append(row(name, cells, style="small-slice" if one["small"] else ""))
    small = content["options"]["small_slice"]
    first = content["systems"][0]["name"]
    return (
        f"<details><summary>Every slice: {metric_label(metric)}</summary>"
        + table(["", "users", first, "other", "difference", "p, corrected", "p"], rows)
        + f'<p class="under">* fewer than {small} users: not tested. A slice of items holds the queries that '
        "have a relevant item of that kind.</p></details>"
    )


def _called(one: Mapping[str, Any]) -> str:
    return f"{one['group'].replace('_', ' ').replace('.', ' ')}: {one['name']}"


def _tested(one: Mapping[str, Any]) -> list[str]:
    """Cells of a difference with its interval, its corrected p and its p."""
    interval = one["interval"]
    bounds = f"<small>{interval[0]:+.4f} to {interval[1]:+.4f}</small>" if interval else ""
    colour = _COLOURS.get(one["outcome"], "")
    p = ["-" if one[key] is None else p_value(one[key]) for key in ("p_corrected", "p")]
    return [f'<span class="{colour}">{one["difference"]:+.4f}</span>{bounds}', *p]
