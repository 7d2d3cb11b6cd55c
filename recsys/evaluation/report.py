"""The report: one self-contained HTML page made from the content of `metrics.json` and a few examples."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from recsys.evaluation.charts import Series, dot_chart, line_chart, reliability_chart
from recsys.evaluation.results import LESS_IS_BETTER, NAMES, metric_name


@dataclasses.dataclass(frozen=True)
class _Group:
    """How a group of slices is called: above its rows, in the title of its chart, along its axis."""

    heading: str
    title: str
    axis: str


_GROUPS = {
    "user": _Group("Users, by the positives they had before", "kind of user", ""),
    "item": _Group("Items, by their popularity in train", "popularity of the item", "popularity in train"),
    "history_length": _Group("Length of the history", "length of the history", "positives before the query"),
    "days_since_train": _Group(
        "Time since the end of train", "age of the model", "days since the end of train"
    ),
}
# Colours of the page, the same for a system in every chart.
_STYLES = {"model": 0, "popularity": 1, "popularity_recent": 2, "item_knn": 3, "ease": 4}
_STYLES |= {"rate": 1, "item_rate": 2, "user_and_item_rate": 3}


def render_report(results: dict[str, Any], examples: list[dict[str, Any]]) -> str:
    """The page.

    Args:
        results: what `metrics.json` holds.
        examples: from `recsys.evaluation.examples`.

    Returns:
        HTML that needs no other file and no network.
    """
    parts = [
        _opening(results),
        _five_numbers(results),
        f'<div class="charts">{"".join(_charts(results))}</div>',
        _slices(results),
        _examples(results["task"], examples),
        _all_metrics(results),
        _facts("How it was measured", results["protocol"] | {"protocol hash": results["protocol_hash"]}),
        _facts("Where", results["dataset"] | results["environment"] | {"run": results["run"]}),
    ]
    page = resources.files("recsys.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    return Template(page).substitute(title=escape(_title(results)), body="\n".join(parts))


def _title(results: dict[str, Any]) -> str:
    return f"Evaluation of {Path(results['run']).name}"


def _opening(results: dict[str, Any]) -> str:
    dataset, split = results["dataset"]["name"], results["protocol"]["split"]["kind"]
    warnings = "".join(f'<p class="warning">{escape(text)}</p>' for text in results["warnings"])
    verdict = results["verdict"]
    return (
        f"<h1>{escape(_title(results))}</h1>"
        f'<p class="under">{escape(dataset)}, test part of the split {escape(split)}: {_counts(results)}.</p>'
        f"{warnings}"
        f'<p class="verdict {verdict["outcome"]}">{escape(verdict["text"])}</p>'
    )


def _counts(results: dict[str, Any]) -> str:
    counts = results["counts"]
    if results["task"] == "ranking":
        return (
            f"{counts['rows']:,} rows of {counts['users']:,} users, {counts['positives']:,} of them positive"
        )
    outside = counts["relevant_outside_catalogue"]
    beyond = f"; {outside:,} of the relevant are not among them" if outside else ""
    return (
        f"{counts['queries']:,} queries of {counts['users']:,} users with {counts['relevant']:,} relevant "
        f"items, {counts['catalogue']:,} candidates{beyond}"
    )


def _five_numbers(results: dict[str, Any]) -> str:
    keys = _headline_keys(results)
    rows = []
    for name, block in _systems(results):
        cells = "".join(f"<td>{_figure(block, key)}</td>" for key in keys)
        focus = ' class="focus"' if name == "model" else ""
        chosen = "".join(
            f"<small>{key.replace('_', ' ')} {value:g}, by validation</small>"
            for key, value in block.get("chosen", {}).items()
        )
        rows.append(f"<tr{focus}><td>{escape(NAMES[name])}{chosen}</td>{cells}</tr>")
    left_out = "".join(
        f'<p class="under">{escape(NAMES[name])} is left out: {escape(block["left_out"])}.</p>'
        for name, block in results["baselines"].items()
        if "left_out" in block
    )
    confidence = 100 * results["options"]["confidence"]
    return (
        _table(["", *(metric_name(key) for key in keys)], rows)
        + left_out
        + f'<p class="under">Below each figure its {confidence:g} % interval: bootstrap over users, '
        f"{results['options']['resamples']:,} resamples.</p>"
    )


def _headline_keys(results: dict[str, Any]) -> list[str]:
    if results["task"] == "ranking":
        return [key for key in ("auc", "gauc", "log_loss") if key in results["metrics"]]
    k = results["main_metric"].partition("@")[2]
    return [f"{name}@{k}" for name in ("ndcg", "hit_rate", "mrr", "coverage", "novelty")]


def _charts(results: dict[str, Any]) -> Iterable[str]:
    key = results["main_metric"]
    name, metric = metric_name(key), key.partition("@")[0]
    from_zero = metric not in ("auc", "log_loss")
    yield dot_chart(name, [_series(n, b, [key]) for n, b in _systems(results)], from_zero=from_zero)
    ks = results["protocol"].get("k", [])
    if len(ks) > 1:
        keys = [f"{metric}@{k}" for k in ks]
        lines = [_series(n, b, keys, with_intervals=n == "model") for n, b in _systems(results)]
        title = f"{metric_name(metric)} by length of the list"
        yield line_chart(title, [str(k) for k in ks], lines, axis="k", from_zero=from_zero)
    for group, named in _GROUPS.items():
        pieces = [piece for piece in results["slices"] if piece["group"] == group]
        if named.axis and len(pieces) > 1:
            lines = _slice_lines(pieces, key=key, best=results["verdict"]["against"])
            places = [piece["name"] for piece in pieces]
            title = f"{name} by {named.title}"
            yield line_chart(title, places, lines, axis=named.axis, from_zero=from_zero)
    if "reliability" in results:
        bins = [(one["predicted"], one["observed"]) for one in results["reliability"]]
        yield reliability_chart("Observed share of positives by predicted probability", bins)


def _slice_lines(pieces: Sequence[dict[str, Any]], *, key: str, best: str | None) -> list[Series]:
    """The model and the best baseline over the slices of a group."""
    values, intervals = [p["metrics"][key] for p in pieces], [p["intervals"][key] for p in pieces]
    lines = [Series(NAMES["model"], _STYLES["model"], values, intervals)]
    if best:
        beside = [p["baselines"][best]["metrics"][key] for p in pieces]
        lines.append(Series(NAMES[best], _STYLES[best], beside))
    return lines


def _series(name: str, block: dict[str, Any], keys: Sequence[str], *, with_intervals: bool = True) -> Series:
    intervals = [block["intervals"][key] for key in keys] if with_intervals else None
    return Series(NAMES[name], _STYLES[name], [block["metrics"][key] for key in keys], intervals)


def _slices(results: dict[str, Any]) -> str:
    key, best = results["main_metric"], results["verdict"]["against"]
    headings = {one["group"]: one["heading"] for one in results["slice_groups"]}
    rows = []
    group = None
    for piece in results["slices"]:
        if piece["group"] != group:
            group = piece["group"]
            rows.append(f'<tr class="group"><td colspan="6">{escape(headings[group])}</td></tr>')
        rows.append(_slice_row(piece, key=key, best=best))
    asked = "rows" if results["task"] == "ranking" else "queries"
    beside = [NAMES[best], "difference"] if best else []
    return (
        f"<h2>For whom: {metric_name(key)}</h2>"
        + _table(["", asked, "users", NAMES["model"], *beside], rows)
        + f'<p class="under">* fewer than {results["options"]["small_slice"]} users: read with care. '
        "Differences are coloured where their interval leaves out zero.</p>"
    )


def _slice_row(piece: dict[str, Any], *, key: str, best: str | None) -> str:
    cells = [f"{piece['size']:,}", f"{piece['users']:,}", _figure(piece, key)]
    if best:
        compared = next((one for one in piece["comparisons"] if one["baseline"] == best), None)
        cells += [_figure(piece["baselines"][best], key), _difference(compared)]
    style, star = (' class="small-slice"', " *") if piece["small"] else ("", "")
    head = f'<td title="{escape(piece["description"])}">{escape(piece["name"])}{star}</td>'
    return f"<tr{style}>{head}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _difference(compared: dict[str, Any] | None) -> str:
    if compared is None:
        return "-"
    interval = compared["interval"]
    if interval is None:
        return f"{compared['difference']:+.4f}"
    low, high = sorted(-b if compared["metric"] in LESS_IS_BETTER else b for b in interval)
    style = "lead" if low > 0 else "lag" if high < 0 else ""
    bounds = f"<small>{interval[0]:+.4f} to {interval[1]:+.4f}</small>"
    return f'<span class="{style}">{compared["difference"]:+.4f}</span>{bounds}'


def _examples(task: str, examples: list[dict[str, Any]]) -> str:
    if not examples:
        return ""
    people = [_ranked_person(one) if task == "ranking" else _person(one) for one in examples]
    return f'<h2>Some users, drawn at random</h2><div class="people">{"".join(people)}</div>'


def _person(one: dict[str, Any]) -> str:
    when = f", {escape(one['when'].replace('T', ' '))}" if one["when"] else ""
    recommended = "".join(
        f'<li class="hit">{escape(item["title"])} ✓</li>'
        if item["hit"]
        else f"<li>{escape(item['title'])}</li>"
        for item in one["recommended"]
    )
    happened = "".join(
        f'<li class="hit">{escape(item["title"])} (rank {item["rank"]})</li>'
        if item["rank"]
        else f"<li>{escape(item['title'])}</li>"
        for item in one["happened"]
    )
    before = "; ".join(escape(title) for title in one["history"][:5]) or "nothing"
    more = f" and {one['history_length'] - 5} more" if one["history_length"] > 5 else ""
    return (
        f'<div class="person"><h3>User {escape(one["user"])}{when}</h3>'
        f"<h4>Liked before, latest first</h4><p>{before}{more}</p>"
        f"<h4>Recommended</h4><ol>{recommended}</ol><h4>What happened</h4><ul>{happened}</ul></div>"
    )


def _ranked_person(one: dict[str, Any]) -> str:
    rows = [
        f"<tr><td>{escape(row['title'])}</td><td>{row['probability']:.3f}</td>"
        f"<td>{'<span class=hit>✓</span>' if row['positive'] else '-'}</td></tr>"
        for row in one["rows"]
    ]
    return (
        f'<div class="person"><h3>User {escape(one["user"])}</h3>'
        + _table([f"{len(rows)} of {one['num_rows']} test rows", "probability", "positive"], rows)
        + "</div>"
    )


def _all_metrics(results: dict[str, Any]) -> str:
    systems = list(_systems(results))
    rows = [
        f"<tr><td>{metric_name(key)}</td>{''.join(f'<td>{_figure(b, key)}</td>' for _, b in systems)}</tr>"
        for key in results["metrics"]
    ]
    table = _table(["", *(NAMES[name] for name, _ in systems)], rows)
    return f"<details><summary>Every metric</summary>{table}</details>"


def _facts(title: str, facts: dict[str, Any]) -> str:
    lines = "".join(
        f"<dt>{escape(str(name).replace('_', ' '))}</dt><dd>{escape(_plain(value))}</dd>"
        for name, value in facts.items()
    )
    return f"<h2>{title}</h2><dl>{lines}</dl>"


def _systems(results: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """The model first, then every baseline that was measured."""
    yield "model", results
    yield from ((name, block) for name, block in results["baselines"].items() if "left_out" not in block)


def _figure(block: dict[str, Any], key: str) -> str:
    value, interval = block["metrics"][key], block["intervals"][key]
    if value is None:
        return "-"
    digits = 2 if key.startswith("novelty") else 4
    bounds = f"<small>{interval[0]:.{digits}f} to {interval[1]:.{digits}f}</small>" if interval else ""
    return f"{value:.{digits}f}{bounds}"


def _table(headings: Sequence[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
