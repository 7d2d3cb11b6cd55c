"""The part of the report that says for whom the model falls behind, furthest behind first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

from recsys.metrics.register import metric_label, metric_of
from recsys.report.findings import comparison, gain_interval, worth
from recsys.report.pages import digits_of, figure_of, row, section, table
from recsys.report.systems import heading_of, name_of

# Of each order; all slices follow below.
_WORST = 8

Piece = dict[str, Any]


def slices_section(results: dict[str, Any]) -> str:
    """Slices by how far they lag behind the best baseline, behind the whole, and all of them by group.

    Args:
        results: what `metrics.json` holds.
    """
    pieces = results["slices"]
    if not pieces:
        return ""
    best, key = results["verdict"]["against"], results["main_metric"]
    large = [piece for piece in pieces if not piece["small"]]
    known = _different([piece for piece in large if piece["metrics"].get(key) is not None])
    parts = []
    if best:
        behind = [piece for piece in known if gain(piece, best) < 0]
        parts.append(f"<h3>Furthest behind {escape(name_of(best))}, the best baseline</h3>")
        parts.append(_worst(results, sorted(behind, key=lambda piece: gain(piece, best))))
    below = [piece for piece in known if lag(results, piece) < 0]
    parts.append("<h3>Furthest below the figure for all users</h3>")
    parts.append(_worst(results, sorted(below, key=lambda piece: lag(results, piece))))
    parts.append(
        f"<details><summary>All {len(pieces)} slices by group, the furthest behind first</summary>"
        f"{_table(results, _by_group(results))}</details>"
    )
    parts.append(
        f'<p class="under">* fewer than {results["options"]["small_slice"]} users: read with care; such '
        "slices come last. ▼ and ▲ stand where a difference is beyond its interval. Many slices are looked "
        "at: of forty without any difference, one shows a ▼ by chance.</p>"
    )
    return section("slices", f"For whom: {metric_label(key)}", "".join(parts))


def gain(piece: Piece, best: str | None) -> float:
    """By how much the model is better than a baseline on a slice; infinite where that is unknown."""
    compared = comparison(piece, best)
    if compared is None:
        return math.inf
    return metric_of(compared["metric"]).sign * float(compared["difference"])


def lag(results: dict[str, Any], piece: Piece) -> float:
    """By how much of its overall worth the model is better on a slice than for all; negative where worse."""
    key = results["main_metric"]
    value, overall = piece["metrics"].get(key), results["metrics"][key]
    if value is None or not worth(key, overall):
        return math.inf
    share = worth(key, value) / worth(key, overall) - 1
    return metric_of(key).sign * share


def _different(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces without those that hold the same as an earlier one: cold users are those of no history."""
    found: dict[tuple[Any, ...], Piece] = {}
    for piece in pieces:
        found.setdefault((piece["size"], piece["users"], *piece["metrics"].values()), piece)
    return list(found.values())


def _by_group(results: dict[str, Any]) -> list[str]:
    best = results["verdict"]["against"]
    num_columns = 6 if best else 4

    def order(piece: Piece) -> tuple[bool, float]:
        return piece["small"], gain(piece, best) if best else lag(results, piece)

    rows = []
    for group, pieces in groupby(results["slices"], key=lambda piece: piece["group"]):
        heading = escape(heading_of(results, group))
        rows.append(f'<tr class="group"><th colspan="{num_columns}" scope="colgroup">{heading}</th></tr>')
        rows += [_row(results, piece, is_grouped=True) for piece in sorted(pieces, key=order)]
    return rows


def _worst(results: dict[str, Any], ordered: list[Piece]) -> str:
    """The first of them; a sentence where there are none."""
    if not ordered:
        return '<p class="under">No slice with enough users is.</p>'
    return _table(results, [_row(results, piece) for piece in ordered[:_WORST]])


def _table(results: dict[str, Any], rows: list[str]) -> str:
    best = results["verdict"]["against"]
    asked = "rows" if results["task"] == "ranking" else "queries"
    beside = [name_of(best), "difference\nmodel less baseline"] if best else []
    return table(["slice", f"users\n{asked}", name_of("model"), "against\nall users", *beside], rows)


def _row(results: dict[str, Any], piece: Piece, *, is_grouped: bool = False) -> str:
    key, best = results["main_metric"], results["verdict"]["against"]
    cells = [
        f"{piece['users']:,}<small>{piece['size']:,}</small>",
        figure_of(piece, key),
        _lag_cell(results, piece),
    ]
    if best:
        cells += [figure_of(piece["baselines"][best], key), difference(comparison(piece, best))]
    group = "" if is_grouped else f"<small>{escape(heading_of(results, piece['group']))}</small>"
    name = (
        f'<span title="{escape(piece["description"])}">{escape(piece["name"])}</span>'
        f"{' *' if piece['small'] else ''}{group}"
    )
    return row(name, cells, style="small-slice" if piece["small"] else "")


def _lag_cell(results: dict[str, Any], piece: Piece) -> str:
    """The share of its worth that is missing, marked where the overall figure is outside its interval."""
    key = results["main_metric"]
    share, bounds = lag(results, piece), piece["intervals"].get(key)
    if math.isinf(share):
        return "-"
    overall = results["metrics"][key]
    is_sure = bounds is not None and not bounds[0] <= overall <= bounds[1]
    style = "" if not is_sure else "lead" if share > 0 else "lag"
    return f'<span class="{style}">{share:+.0%}</span>'


def difference(compared: dict[str, Any] | None) -> str:
    """A difference with its interval, coloured and marked where the interval leaves out zero."""
    if compared is None:
        return "-"
    value, interval = compared["difference"], compared["interval"]
    digits = digits_of(value)
    bounds = gain_interval(compared)
    if bounds is None:
        return f"{value:+.{digits}f}"
    style = "lead" if bounds[0] > 0 else "lag" if bounds[1] < 0 else ""
    return (
        f'<span class="{style}">{value:+.{digits}f}</span>'
        f"<small>{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}</small>"
    )
