"""The comparison as one self-contained HTML page, in the look of the evaluation's report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from recsys.evaluation.comparing.differences import BETTER, WORSE
from recsys.evaluation.comparing.forest import forest_plot
from recsys.evaluation.comparing.verdict import written_p
from recsys.evaluation.results import LESS_IS_BETTER, metric_name

_HEADLINE = ("ndcg", "hit_rate", "mrr", "coverage", "novelty")
_HEADLINE_RANKING = ("auc", "gauc", "log_loss")
# Slices that a plot shows: those that differ most.
_MOST_SLICES = 12
_COLOURS = {BETTER: "lead", WORSE: "lag"}


def render_comparison(content: Mapping[str, Any]) -> str:
    """The page.

    Args:
        content: what `comparison.json` holds.

    Returns:
        HTML that needs no other file and no network.
    """
    names = [one["name"] for one in content["systems"]]
    title = f"{names[0]} against {', '.join(names[1:])}"
    parts = [
        _opening(content, title),
        f'<div class="charts">{"".join(_plots(content))}</div>',
        "<h2>Side by side</h2>",
        _side_by_side(content, _headline(content)),
        f"<h2>How far {escape(names[0])} is above the others</h2>",
        _differences(content["differences"]),
        _slices(content),
        "<details><summary>Every metric</summary>",
        _side_by_side(content, list(content["systems"][0]["metrics"])),
        "</details>",
        _facts("How it was compared", {**content["method"], **content["options"]}),
        _facts("How it was measured", {**content["protocol"], "protocol hash": content["protocol_hash"]}),
        _facts("Where", {one["name"]: one["source"] for one in content["systems"]} | content["environment"]),
    ]
    page = resources.files("recsys.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    return Template(page).substitute(title=escape(title), body="\n".join(parts))


def _opening(content: Mapping[str, Any], title: str) -> str:
    verdict = content["verdict"]
    several = [f'<p class="verdict {one["outcome"]}">{escape(one["text"])}</p>' for one in verdict["against"]]
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in content["counts"].items())
    return (
        f"<h1>{escape(title)}</h1>"
        f'<p class="under">{escape(content["dataset"]["name"])}, test part of the split '
        f"{escape(content['protocol']['split']['kind'])}: {counts}.</p>"
        + "".join(f'<p class="warning">{escape(text)}</p>' for text in content["warnings"])
        + (f'<p class="verdict">{escape(verdict["text"])}</p>' if len(several) > 1 else "")
        + "".join(several)
    )


def _plots(content: Mapping[str, Any]) -> Iterable[str]:
    first, main = content["systems"][0]["name"], content["main_metric"]
    rows = [(f"to {row['against']}", row) for row in content["differences"] if row["metric"] == main]
    if rows:
        yield forest_plot(f"Difference in {metric_name(main)}", rows, axis=_axis(first, main))
    metric = content["slice_metric"]
    several = len(content["systems"]) > 2
    slices = [
        (_called(row) + (f", to {row['against']}" if several else ""), row)
        for row in _most_different(content["slices"])
    ]
    if slices:
        title = f"Difference in {metric_name(metric)}: the slices where it is largest"
        yield forest_plot(title, slices, axis=_axis(first, metric))


def _axis(first: str, metric: str) -> str:
    better = "left" if metric in LESS_IS_BETTER else "right"
    shown = first if len(first) <= 28 else f"{first[:27]}…"
    return f"{better} of zero {shown} is better"


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


def _side_by_side(content: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Metrics downwards, systems sidewards, so that a phone scrolls where there are many systems."""
    systems = content["systems"]
    rows = [
        f"<tr>{_head(metric_name(key))}"
        + "".join(
            f"<td>{_figure(one['metrics'].get(key), one['intervals'].get(key))}</td>" for one in systems
        )
        + "</tr>"
        for key in keys
    ]
    return _table(["", *(one["name"] for one in systems)], rows)


def _differences(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    against = None
    for row in rows:
        if row["against"] != against:
            against = row["against"]
            lines.append(f'<tr class="group"><td colspan="4">to {escape(against)}</td></tr>')
        lines.append(f"<tr>{_head(metric_name(row['metric']))}{_tested(row)}</tr>")
    return _table(["", "difference", "p", "corrected"], lines) + (
        '<p class="under">Coloured where it is sure which is better after the correction. A metric that '
        "does not say which is better has no colour. Metrics of the whole set of lists, like coverage, have "
        "no value per user to be tested.</p>"
    )


def _slices(content: Mapping[str, Any]) -> str:
    metric = content["slice_metric"]
    several = len(content["systems"]) > 2
    rows = []
    ordered = sorted(content["slices"], key=lambda row: (row["group"], row["name"]))
    for row in ordered:
        style, star = (' class="small-slice"', " *") if row["small"] else ("", "")
        beside = f"<small>to {escape(row['against'])}</small>" if several else ""
        rows.append(
            f"<tr{style}>{_head(_called(row) + star, title=row['description'], below=beside)}"
            f"<td>{row['users']:,}</td><td>{row['value']:.4f}</td><td>{row['other_value']:.4f}</td>"
            f"{_tested(row)}</tr>"
        )
    small = content["options"]["small_slice"]
    first = content["systems"][0]["name"]
    return (
        f"<details><summary>Every slice: {metric_name(metric)}</summary>"
        + _table(["", "users", first, "other", "difference", "p", "corrected"], rows)
        + f'<p class="under">* fewer than {small} users: not tested. A slice of items holds the queries that '
        "have a relevant item of that kind.</p></details>"
    )


def _called(row: Mapping[str, Any]) -> str:
    return f"{row['group'].replace('_', ' ').replace('.', ' ')}: {row['name']}"


def _tested(row: Mapping[str, Any]) -> str:
    interval = row["interval"]
    bounds = f"<small>{interval[0]:+.4f} to {interval[1]:+.4f}</small>" if interval else ""
    colour = _COLOURS.get(row["outcome"], "")
    p = ["-" if row[key] is None else written_p(row[key]) for key in ("p", "p_corrected")]
    return (
        f'<td><span class="{colour}">{row["difference"]:+.4f}</span>{bounds}</td>'
        f"<td>{p[0]}</td><td>{p[1]}</td>"
    )


def _head(text: str, *, title: str = "", below: str = "") -> str:
    told = f' title="{escape(title)}"' if title else ""
    return f"<td{told}>{escape(text)}{below}</td>"


def _figure(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    bounds = f"<small>{interval[0]:.4f} to {interval[1]:.4f}</small>" if interval else ""
    return f"{value:.4f}{bounds}"


def _facts(title: str, facts: Mapping[str, Any]) -> str:
    lines = "".join(
        f"<dt>{escape(str(name).replace('_', ' '))}</dt><dd>{escape(_plain(value))}</dd>"
        for name, value in facts.items()
    )
    return f"<h2>{title}</h2><dl>{lines}</dl>"


def _table(headings: Sequence[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
