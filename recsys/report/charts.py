"""Charts: dots in rows, lines over named places, and curves in a unit square, as figures for a page."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from html import escape

from markupsafe import Markup

from recsys.report.drawing import (
    AXIS_WIDTH,
    LETTER,
    MARGIN,
    PLOT_HEIGHT,
    WIDTH,
    Caption,
    Interval,
    axis_names,
    captioned,
    framed,
    horizontal_grid,
    legend,
    mark,
    scale_of,
    short,
    shown,
    text_lines,
    top_of,
    vertical_grid,
    whisker,
    wrapped,
)

__all__ = ["Caption", "Curve", "Series", "dot_chart", "line_chart", "unit_chart"]

_ROW = 30
_LABEL_WIDTH = 150
# More marks than these would touch each other.
_MOST_MARKS = 30
_MOST_NAMES = 12

Point = float | None


@dataclasses.dataclass(frozen=True)
class Series:
    """A line of a chart.

    Args:
        name: in the legend.
        style: which of the page's six colours, marks and dashes, 0 being those of the system in focus.
        values: one for each place on the horizontal axis; None leaves a gap.
        intervals: (low, high) of each value; None draws none.
    """

    name: str
    style: int
    values: Sequence[Point]
    intervals: Sequence[Interval] | None = None

    def interval(self, index: int) -> Interval:
        """That of the value at `index`, where it has one."""
        return self.intervals[index] if self.intervals else None


@dataclasses.dataclass(frozen=True)
class Curve:
    """Points of a unit square, in order.

    Args:
        name: in the legend.
        style: as of `Series`.
        points: across and up, each from 0 to 1.
        intervals: (low, high) upwards of each point; None draws none.
        has_marks: a mark at each point.
    """

    name: str
    style: int
    points: Sequence[tuple[float, float]]
    intervals: Sequence[Interval] | None = None
    has_marks: bool = True


def dot_chart(
    caption: Caption | str, rows: Sequence[Series], *, from_zero: bool, reference: float | None = None
) -> Markup:
    """A row for each series, which has one value, as a mark with its interval.

    Args:
        caption: what is shown.
        rows: from top to bottom.
        from_zero: start the axis at zero.
        reference: a value that all are to be compared with, as a line.
    """
    extra = [] if reference is None else [reference]
    scale = scale_of([*_all_values(rows), *extra], from_zero=from_zero)

    def x(value: float) -> float:
        return _LABEL_WIDTH + scale.share(value) * (WIDTH - _LABEL_WIDTH - MARGIN - 44)

    labels = [wrapped(line.name, _LABEL_WIDTH - 6) for line in rows]
    tops = [0, *itertools.accumulate(max(_ROW, 16 * len(lines) + 6) for lines in labels)]
    base = tops[-1] + 4
    ticks = scale.ticks()
    parts = vertical_grid([x(value) for value in ticks], base, [short(value) for value in ticks])
    if reference is not None:
        at = f"{x(reference):.1f}"
        parts.append(f'<line class="even" x1="{at}" x2="{at}" y1="0" y2="{base}"/>')
    for line, lines, (top, end) in zip(rows, labels, itertools.pairwise(tops), strict=True):
        y = (top + end) / 2
        value, bounds = line.values[0], line.interval(0)
        parts.append(text_lines(lines, 0, y + 4 - 7.5 * (len(lines) - 1)))
        if value is None:
            continue
        if bounds is not None:
            parts.append(whisker(line.style, (x(bounds[0]), x(bounds[1])), (y, y)))
        parts.append(mark(line.style, x(value), y, 5))
        digits = 2 if abs(value) >= 1.5 or reference is not None else 4
        parts.append(f'<text class="value" x="{WIDTH}" y="{y + 4:.1f}">{value:.{digits}f}</text>')
    name = captioned(caption).vertical
    if name:
        middle = (_LABEL_WIDTH + WIDTH - MARGIN - 44) / 2
        parts.append(
            f'<text class="axis" x="{middle:g}" y="{base + 38}" text-anchor="middle">{escape(name)}</text>'
        )
    numbers = [[line.name, shown(line.values[0], line.interval(0))] for line in rows]
    return framed(
        caption, parts, height=base + (44 if name else 24), numbers=(["", name or "value"], numbers)
    )


def line_chart(
    caption: Caption | str,
    places: Sequence[str],
    series: Sequence[Series],
    *,
    axis: str,
    from_zero: bool,
    focus: int | None = None,
) -> Markup:
    """Lines over named places.

    Args:
        caption: what is shown.
        places: names along the horizontal axis.
        series: the lines, the most important one first.
        axis: what the places are.
        from_zero: start the vertical axis at zero.
        focus: the place to be marked by a line upwards.
    """
    scale, top = scale_of(_all_values(series), from_zero=from_zero), top_of(caption)
    base = PLOT_HEIGHT + top

    def x(index: int) -> float:
        return AXIS_WIDTH + 16 + index * (WIDTH - AXIS_WIDTH - 34) / max(len(places) - 1, 1)

    def y(value: float) -> float:
        return base - scale.share(value) * PLOT_HEIGHT

    parts = [horizontal_grid(y(value), short(value)) for value in scale.ticks()]
    if focus is not None:
        parts.append(f'<line class="even" x1="{x(focus):.1f}" x2="{x(focus):.1f}" y1="{top}" y2="{base}"/>')
    names, below = _place_names(places, x=x, base=base)
    parts += names
    for line in reversed(series):
        parts += _line(line, x=x, y=y)
    entries, end = legend([(line.style, line.name) for line in series], base + below + 26)
    parts += [axis_names(caption, axis, base + below), *entries]
    lines = [
        [place, *(shown(line.values[index], line.interval(index)) for line in series)]
        for index, place in enumerate(places)
    ]
    headings = [axis, *(line.name for line in series)]
    return framed(caption, parts, height=end + 10, numbers=(headings, lines))


def unit_chart(
    caption: Caption | str, curves: Sequence[Curve], *, axis: str, is_share: bool = False
) -> Markup:
    """Curves in a unit square beside its diagonal, which an even or a calibrated one would follow.

    Args:
        caption: what is shown.
        curves: the most important one first.
        axis: what goes from 0 to 1 across.
        is_share: write the axes in percent.
    """
    top, side = top_of(caption), WIDTH - AXIS_WIDTH - 60

    def x(value: float) -> float:
        return AXIS_WIDTH + value * side

    def y(value: float) -> float:
        return top + (1 - value) * side

    parts = [f'<line class="even" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>']
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        label = f"{value:.0%}" if is_share else f"{value:g}"
        parts.append(
            f'<text class="axis" x="{AXIS_WIDTH - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>'
            f'<text class="axis" x="{x(value):.1f}" y="{y(0) + 20:.1f}" text-anchor="middle">{label}</text>'
            f'<line class="grid" x1="{x(0)}" x2="{x(1)}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        )
    for curve in reversed(curves):
        parts += _curve(curve, x=x, y=y)
    base = y(0) + 42
    entries, end = legend([(curve.style, curve.name) for curve in curves], base + 26)
    parts += [axis_names(caption, axis, base), *entries]
    lines = [
        [curve.name, shown(across), shown(up, curve.intervals[index] if curve.intervals else None)]
        for curve in curves
        for index, (across, up) in enumerate(curve.points)
    ]
    headings = ["", axis, captioned(caption).vertical or "up"]
    return framed(caption, parts, height=end + 10, numbers=(headings, lines))


def _all_values(series: Sequence[Series]) -> list[float]:
    """Values and bounds of intervals."""
    values = [value for line in series for value in line.values if value is not None]
    return values + [
        bound for line in series for bounds in line.intervals or () if bounds for bound in bounds
    ]


def _place_names(places: Sequence[str], *, x: Callable[[int], float], base: float) -> tuple[list[str], float]:
    """Names below the plot, slanted where they would touch, some of many left out; and how deep they go."""
    every = -(-len(places) // _MOST_NAMES)
    named = list(enumerate(places))[::every]
    slanted = sum(len(place) for _, place in named) > 30
    anchor = "end" if slanted else "middle"
    parts = []
    for index, place in named:
        beyond = not slanted and x(index) + len(place) * LETTER / 2 > WIDTH
        turn = f' transform="rotate(-60 {x(index):.1f} {base + 16:g})"' if slanted else ""
        parts.append(
            f'<text x="{WIDTH if beyond else x(index):.1f}" y="{base + 16:g}" '
            f'text-anchor="{"end" if beyond else anchor}"{turn}>'
            f"{escape(place)}</text>"
        )
    longest = max((len(place) for _, place in named), default=0)
    return parts, 30 + 6.5 * longest if slanted else 38


def _line(line: Series, *, x: Callable[[int], float], y: Callable[[float], float]) -> list[str]:
    """A series as runs of connected points, with whiskers where it has intervals."""
    parts: list[str] = []
    marks: list[str] = []
    runs: list[list[str]] = [[]]
    has_marks = len(line.values) <= _MOST_MARKS
    for index, value in enumerate(line.values):
        if value is None:
            runs.append([])
            continue
        runs[-1].append(f"{x(index):.1f},{y(value):.1f}")
        bounds = line.interval(index)
        if bounds is not None:
            parts.append(whisker(line.style, (x(index), x(index)), (y(bounds[0]), y(bounds[1]))))
        if has_marks or len(runs[-1]) == 1:
            marks.append(mark(line.style, x(index), y(value), 4))
    parts += [
        f'<polyline class="series{line.style}" points="{" ".join(run)}"/>' for run in runs if len(run) > 1
    ]
    return parts + marks


def _curve(curve: Curve, *, x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    path = " ".join(f"{x(across):.1f},{y(up):.1f}" for across, up in curve.points)
    parts = [f'<polyline class="series{curve.style}" points="{path}"/>']
    for index, (across, up) in enumerate(curve.points):
        bounds = curve.intervals[index] if curve.intervals else None
        if bounds is not None:
            parts.append(whisker(curve.style, (x(across), x(across)), (y(bounds[0]), y(bounds[1]))))
        if curve.has_marks:
            parts.append(mark(curve.style, x(across), y(up), 4))
    return parts
