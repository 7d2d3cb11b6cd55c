"""The part of the report that says for whom the model falls behind, furthest behind first."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

from recsys.metrics.register import metric_label, metric_of
from recsys.report.findings import comparison, gain_interval, without_twins, worth
from recsys.report.pages import Cell, Row, Table, digits_of, figure, figure_of, table_of
from recsys.report.systems import heading_of, name_of

# Of each order; all slices follow below.
_WORST = 8

Piece = dict[str, Any]


def slices_of(results: dict[str, Any]) -> dict[str, Any] | None:
    """Slices by how far they lag behind the best baseline, behind the whole, and all of them by group.

    Args:
        results: what `metrics.json` holds.

    Returns:
        What the template shows: `metric`, `orders` (heading and table), `every` (a table) and `note`.
    """
    pieces = results["slices"]
    if not pieces:
        return None
    best, key = results["verdict"]["against"], results["main_metric"]
    large = [piece for piece in pieces if not piece["small"]]
    known = without_twins(
        (piece for piece in large if piece["metrics"].get(key) is not None),
        lambda piece: (piece["size"], piece["users"], *piece["metrics"].values()),
    )
    orders = []
    if best:
        behind = sorted(
            (piece for piece in known if gain(piece, best) < 0), key=lambda piece: gain(piece, best)
        )
        orders.append((f"Furthest behind {name_of(best)}, the best baseline", behind))
    below = sorted(
        (piece for piece in known if lag(results, piece) < 0), key=lambda piece: lag(results, piece)
    )
    orders.append(("Furthest below the figure for all users", below))
    chance = metric_of(key).chance
    of_what = (
        f" Shares are of what {metric_label(key)} is above {chance:g}, that of chance." if chance else ""
    )
    return {
        "metric": metric_label(key),
        "orders": [
            {
                "heading": heading,
                "table": _table(results, [_row(results, piece) for piece in ordered[:_WORST]]),
            }
            for heading, ordered in orders
        ],
        "every": _table(results, _by_group(results)),
        "note": f"* fewer than {results['options']['small_slice']} users: read with care; such slices come "
        "last. ▼ and ▲ stand where a difference is beyond its interval. Many slices are looked at: of forty "
        f"without any difference, one shows a ▼ by chance.{of_what}",
    }


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


def _by_group(results: dict[str, Any]) -> list[Row]:
    best = results["verdict"]["against"]

    def order(piece: Piece) -> tuple[bool, float]:
        return piece["small"], gain(piece, best) if best else lag(results, piece)

    rows = []
    for group, pieces in groupby(results["slices"], key=lambda piece: piece["group"]):
        rows.append(Row(Cell(heading_of(results, group)), style="group"))
        rows += [_row(results, piece, is_grouped=True) for piece in sorted(pieces, key=order)]
    return rows


def _table(results: dict[str, Any], rows: list[Row]) -> Table:
    """The difference stands first, where a phone shows it."""
    best = results["verdict"]["against"]
    asked = "rows" if results["task"] == "ranking" else "queries"
    beside = (
        [(f"difference\nto {name_of(best)}"), name_of("model"), name_of(best)] if best else ["this model"]
    )
    return Table(table_of(["slice", *beside, "against\nall users", f"users\n{asked}"], []).headings, rows)


def _row(results: dict[str, Any], piece: Piece, *, is_grouped: bool = False) -> Row:
    key, best = results["main_metric"], results["verdict"]["against"]
    cells = [figure_of(piece, key)]
    if best:
        cells = [
            difference(comparison(piece, best)),
            *cells,
            figure_of(piece["baselines"][best], key),
        ]
    cells += [_lag_cell(results, piece), Cell(f"{piece['users']:,}", f"{piece['size']:,}")]
    group = "" if is_grouped else heading_of(results, piece["group"])
    star = " *" if piece["small"] else ""
    name = Cell(piece["name"], group, title=piece["description"] or piece["name"], after=star)
    return Row(name, cells, "small-slice" if piece["small"] else "")


def _lag_cell(results: dict[str, Any], piece: Piece) -> Cell:
    """The share of its worth that is missing, marked where the overall figure is outside its interval."""
    key = results["main_metric"]
    share, bounds = lag(results, piece), piece["intervals"].get(key)
    if math.isinf(share):
        return Cell("-")
    overall = results["metrics"][key]
    is_sure = bounds is not None and not bounds[0] <= overall <= bounds[1]
    return Cell(f"{share:+.0%}", style="" if not is_sure else "lead" if share > 0 else "lag")


def difference(compared: dict[str, Any] | None) -> Cell:
    """A difference with its interval, coloured and marked where the interval leaves out zero."""
    if compared is None:
        return Cell("-")
    value = compared["difference"]
    shown = figure(value, compared["interval"], digits=digits_of(value), sign="+")
    bounds = gain_interval(compared)
    if bounds is None:
        return shown
    return shown._replace(style="lead" if bounds[0] > 0 else "lag" if bounds[1] < 0 else "")
