"""Charts as inline SVG: they need no script and no network, and take their colours from the page's style."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from html import escape

# Narrow, so that letters stay readable when a phone shrinks the drawing to its width.
_WIDTH = 400
_MARGIN = 14
_ROW = 30
_PLOT_HEIGHT = 190
_LABEL_WIDTH = 150
_AXIS_WIDTH = 42
_TICKS = 4

Point = float | None


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a chart.

    Args:
        name: in the legend.
        style: which of the page's six colours, 0 being that of the system in focus.
        values: one for each place on the horizontal axis; None leaves a gap.
        intervals: (low, high) of each value; None draws none.
    """

    name: str
    style: int
    values: Sequence[Point]
    intervals: Sequence[Sequence[float] | None] | None = None


def dot_chart(title: str, rows: Sequence[Series], *, from_zero: bool) -> str:
    """A row for each series, which has one value, as a dot with its interval.

    Args:
        title: what is shown.
        rows: from top to bottom.
        from_zero: start the axis at zero.
    """
    bottom, top, step = _scale(rows, from_zero=from_zero)

    def x(value: float) -> float:
        share = (value - bottom) / (top - bottom)
        return _LABEL_WIDTH + share * (_WIDTH - _LABEL_WIDTH - _MARGIN - 44)

    height = len(rows) * _ROW + 26
    parts = [_vertical(x(value), height - 22, _short(value)) for value in _ticks(bottom, top, step)]
    for index, row in enumerate(rows):
        y = index * _ROW + _ROW / 2
        value, bounds = row.values[0], row.intervals[0] if row.intervals else None
        style = f"series{row.style}"
        parts.append(f'<text x="0" y="{y + 4:.1f}">{escape(row.name)}</text>')
        if value is None:
            continue
        if bounds is not None:
            parts.append(
                f'<line class="{style}" x1="{x(bounds[0]):.1f}" x2="{x(bounds[1]):.1f}" y1="{y}" y2="{y}"/>'
            )
        parts.append(f'<circle class="{style}" cx="{x(value):.1f}" cy="{y}" r="5"/>')
        parts.append(f'<text class="value" x="{_WIDTH}" y="{y + 4:.1f}">{value:.4f}</text>')
    return _figure(title, parts, height=height)


def line_chart(
    title: str, places: Sequence[str], series: Sequence[Series], *, axis: str, from_zero: bool
) -> str:
    """Lines over named places.

    Args:
        title: what is shown.
        places: names along the horizontal axis.
        series: the lines, the most important one first.
        axis: what the places are.
        from_zero: start the vertical axis at zero.
    """
    bottom, top, step = _scale(series, from_zero=from_zero)
    base = _PLOT_HEIGHT + _MARGIN

    def x(index: int) -> float:
        return _AXIS_WIDTH + 16 + index * (_WIDTH - _AXIS_WIDTH - 34) / max(len(places) - 1, 1)

    def y(value: float) -> float:
        return base - (value - bottom) / (top - bottom) * _PLOT_HEIGHT

    parts = [_horizontal(y(value), _short(value)) for value in _ticks(bottom, top, step)]
    slanted = sum(len(place) for place in places) > 30
    for index, place in enumerate(places):
        turn = f' transform="rotate(-35 {x(index):.1f} {base + 16})"' if slanted else ""
        anchor = "end" if slanted else "middle"
        parts.append(
            f'<text x="{x(index):.1f}" y="{base + 16}" text-anchor="{anchor}"{turn}>{escape(place)}</text>'
        )
    for one in reversed(series):
        parts += _line(one, x=x, y=y)
    legend_top = base + (68 if slanted else 38)
    parts.append(
        f'<text class="axis" x="{_WIDTH / 2}" y="{legend_top}" text-anchor="middle">{escape(axis)}</text>'
    )
    for number, one in enumerate(series):
        left, top_ = (number % 2) * _WIDTH / 2, legend_top + 24 + number // 2 * 20
        parts.append(f'<circle class="series{one.style}" cx="{left + 7}" cy="{top_ - 4}" r="5"/>')
        parts.append(f'<text x="{left + 18}" y="{top_}">{escape(one.name)}</text>')
    return _figure(title, parts, height=legend_top + 24 + (len(series) + 1) // 2 * 20)


def reliability_chart(title: str, bins: Sequence[tuple[float, float]]) -> str:
    """Observed over predicted frequency, beside the diagonal that a calibrated model would follow.

    Args:
        title: what is shown.
        bins: predicted and observed share of positives.
    """
    side = _WIDTH - _AXIS_WIDTH - 60

    def x(value: float) -> float:
        return _AXIS_WIDTH + value * side

    def y(value: float) -> float:
        return _MARGIN + (1 - value) * side

    parts = [f'<line class="even" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}" stroke-dasharray="5 5"/>']
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<text x="{_AXIS_WIDTH - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        parts.append(f'<text x="{x(value):.1f}" y="{y(0) + 20:.1f}" text-anchor="middle">{value:g}</text>')
        parts.append(f'<line class="grid" x1="{x(0)}" x2="{x(1)}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
    path = " ".join(f"{x(predicted):.1f},{y(observed):.1f}" for predicted, observed in bins)
    parts.append(f'<polyline class="series0" points="{path}"/>')
    parts += [
        f'<circle class="series0" cx="{x(predicted):.1f}" cy="{y(observed):.1f}" r="4"/>'
        for predicted, observed in bins
    ]
    parts.append(
        f'<text class="axis" x="{x(0.5):.1f}" y="{y(0) + 42:.1f}" text-anchor="middle">'
        "predicted (observed upwards)</text>"
    )
    return _figure(title, parts, height=round(y(0) + 52))


def _line(one: Series, *, x: Callable[[int], float], y: Callable[[float], float]) -> list[str]:
    """A series as runs of connected points, with whiskers where it has intervals."""
    parts = []
    style = f"series{one.style}"
    runs: list[list[str]] = [[]]
    for index, value in enumerate(one.values):
        if value is None:
            runs.append([])
            continue
        runs[-1].append(f"{x(index):.1f},{y(value):.1f}")
        parts.append(f'<circle class="{style}" cx="{x(index):.1f}" cy="{y(value):.1f}" r="3.5"/>')
        bounds = one.intervals[index] if one.intervals else None
        if bounds is not None:
            parts.append(
                f'<line class="{style}" x1="{x(index):.1f}" x2="{x(index):.1f}" '
                f'y1="{y(bounds[0]):.1f}" y2="{y(bounds[1]):.1f}"/>'
            )
    parts += [f'<polyline class="{style}" points="{" ".join(run)}"/>' for run in runs if len(run) > 1]
    return parts


def _scale(series: Sequence[Series], *, from_zero: bool) -> tuple[float, float, float]:
    """First and last tick around all values and intervals, and the round distance between ticks."""
    shown = [value for one in series for value in one.values if value is not None]
    shown += [bound for one in series for bounds in one.intervals or () if bounds for bound in bounds]
    highest, lowest = max(shown, default=1.0), min(shown, default=0.0)
    if from_zero:
        lowest = min(lowest, 0.0)
    rough = max(highest - lowest, 1e-9) / _TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    bottom = math.floor(lowest / step + 1e-9) * step
    return bottom, max(math.ceil(highest / step - 1e-9) * step, bottom + step), step


def _ticks(bottom: float, top: float, step: float) -> list[float]:
    return [bottom + index * step for index in range(round((top - bottom) / step) + 1)]


def _short(value: float) -> str:
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"


def _vertical(x: float, bottom: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom}"/>'
        f'<text class="axis" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>'
    )


def _horizontal(y: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{_AXIS_WIDTH}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="axis" x="{_AXIS_WIDTH - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _figure(title: str, parts: Sequence[str], *, height: float) -> str:
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )
