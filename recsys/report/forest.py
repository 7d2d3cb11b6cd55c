"""A forest plot as inline SVG: differences with their intervals, one below the other, around zero."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from recsys.metrics.significance import BETTER, WORSE
from recsys.report.drawing import text_lines, wrapped
from recsys.report.pages import piece

# Narrow, so that letters stay readable when a phone shrinks the drawing to its width.
_WIDTH = 400
_ROW = 46
_MARGIN = 14
# Room for the value at the end of a row.
_VALUE = 64
_STYLES = {BETTER: "lead", WORSE: "lag"}


def forest_plot(title: str, rows: Sequence[tuple[str, Mapping[str, Any]]], *, axis: str) -> Markup:
    """A labelled difference with its interval in each row; sure ones in the colour of their direction.

    Args:
        title: what is shown.
        rows: label and a row of a comparison: `difference`, `interval`, `outcome`.
        axis: what lies to the right of zero.
    """
    reach = max(
        (abs(bound) for _, row in rows for bound in (row["difference"], *(row["interval"] or ()))), default=1
    )
    step = _round_step(reach or 1.0)
    end = step * max(1, math.ceil(reach / step))

    def x(value: float) -> float:
        return _MARGIN + (value + end) / (2 * end) * (_WIDTH - 2 * _MARGIN)

    labels = [wrapped(label, _WIDTH - _VALUE) for label, _ in rows]
    tops = [0, *itertools.accumulate(_ROW + 15 * (len(lines) - 1) for lines in labels)]
    bottom = tops[-1] + 4
    parts = [_tick(x(value), value, bottom) for value in (-end, 0.0, end)]
    for lines, (_, row), top in zip(labels, rows, tops[:-1], strict=True):
        parts += _drawn(lines, row, top=top, x=x)
    below = wrapped(axis, _WIDTH)
    for number, line in enumerate(below):
        parts.append(
            f'<text class="axis" x="{_WIDTH / 2}" y="{bottom + 38 + 15 * number}" text-anchor="middle">'
            f"{escape(line)}</text>"
        )
    height = bottom + 31 + 15 * len(below)
    return piece("figure", title, "", Markup("".join(parts)), _WIDTH, height, None)


def _drawn(lines: Sequence[str], row: Mapping[str, Any], *, top: float, x: Any) -> list[str]:
    y, style = top + 32 + 15 * (len(lines) - 1), _STYLES.get(row["outcome"], "")
    parts = [
        text_lines(lines, 0, top + 16),
        f'<text class="value" x="{_WIDTH}" y="{top + 16}">{row["difference"]:+.4f}</text>',
    ]
    if row["interval"] is not None:
        low, high = row["interval"]
        parts.append(
            f'<line class="{style}" stroke="currentColor" x1="{x(low):.1f}" x2="{x(high):.1f}" '
            f'y1="{y}" y2="{y}"/>'
        )
    parts.append(
        f'<circle class="{style}" fill="currentColor" cx="{x(row["difference"]):.1f}" cy="{y}" r="5"/>'
    )
    return parts


def _tick(x: float, value: float, bottom: float) -> str:
    kind = "grid" if value else "even"
    label = f"{value:+.4g}" if value else "0"
    anchor = "middle" if not value else "start" if value < 0 else "end"
    return (
        f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom}"/>'
        f'<text class="axis" x="{x:.1f}" y="{bottom + 18}" text-anchor="{anchor}">{label}</text>'
    )


def _round_step(reach: float) -> float:
    """A round number, of which a few make the reach."""
    power = 10 ** math.floor(math.log10(reach))
    return float(next(factor * power for factor in (0.25, 0.5, 1.0, 2.5) if factor * power * 4 >= reach))
