"""Draws the scales, marks, legends and frame of a chart.

A chart is inline SVG: it needs no script and no network, and takes its colours from the page's style. What a
colour says, marks and dashes say too, for grey print and for those who see colours alike.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from html import escape

from markupsafe import Markup

from recsys.report.pages import piece, table_of

# Narrow, so that letters stay readable when a phone shrinks the drawing to its width.
WIDTH = 400
MARGIN = 14
AXIS_WIDTH = 46
PLOT_HEIGHT = 190
_TICKS = 4
LETTER = 6.6  # pixels, of the mean letter
_LINE = 15

Interval = Sequence[float] | None


@dataclasses.dataclass(frozen=True)
class Caption:
    """Title, takeaway and axis of a chart.

    Args:
        title: what is shown.
        takeaway: in one sentence, what is to be seen in it.
        vertical: what the vertical axis is.
    """

    title: str
    takeaway: str = ""
    vertical: str = ""


@dataclasses.dataclass(frozen=True)
class _Scale:
    """An axis from its first to its last tick, `step` apart."""

    bottom: float
    top: float
    step: float

    def share(self, value: float) -> float:
        """Where a value lies between the ends, from 0 to 1."""
        return (value - self.bottom) / (self.top - self.bottom)

    def ticks(self) -> list[float]:
        """Round values along the axis."""
        num_steps = round((self.top - self.bottom) / self.step)
        return [self.bottom + index * self.step for index in range(num_steps + 1)]


def scale_of(shown: Iterable[float], *, from_zero: bool) -> _Scale:
    """The scale around all values, with round ticks."""
    values = list(shown)
    highest, lowest = max(values, default=1.0), min(values, default=0.0)
    if from_zero:
        lowest = min(lowest, 0.0)
    rough = max(highest - lowest, 1e-9 * max(abs(highest), 1.0)) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    bottom = math.floor(lowest / step + 1e-9) * step
    return _Scale(bottom, max(math.ceil(highest / step - 1e-9) * step, bottom + step), step)


def framed(
    caption: Caption | str,
    parts: Iterable[str],
    *,
    height: float,
    numbers: tuple[Sequence[str], Sequence[Sequence[str]]],
) -> Markup:
    """The drawing with its caption, and its numbers as a table for those who cannot see it or want them.

    Args:
        caption: title, or more.
        parts: of the drawing.
        height: of the drawing.
        numbers: headings, and rows of plain text.
    """
    told = captioned(caption)
    headings, lines = numbers
    drawing = Markup("".join(parts))
    return piece(
        "figure", told.title, told.takeaway, drawing, WIDTH, f"{height:g}", table_of(headings, lines)
    )


def captioned(caption: Caption | str) -> Caption:
    """The caption; of a title alone, one that says no more."""
    return Caption(caption) if isinstance(caption, str) else caption


def mark(style: int, x: float, y: float, size: float = 4.5) -> str:
    """The mark of a style: circle, square, triangle, diamond, ring, frame."""
    name = f"series{style}" + (" hollow" if style >= 4 else "")
    if style in (0, 4):
        return f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="{size:g}"/>'
    if style in (1, 5):
        side = 2 * size - 1
        return (
            f'<rect class="{name}" x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:g}" '
            f'height="{side:g}"/>'
        )
    corners = {
        2: [(0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
        3: [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    }[style]
    points = " ".join(f"{x + size * right:.1f},{y + size * down:.1f}" for right, down in corners)
    return f'<polygon class="{name}" points="{points}"/>'


def whisker(style: int, x: tuple[float, float], y: tuple[float, float]) -> str:
    """The line of an interval."""
    ends = f'x1="{x[0]:.1f}" x2="{x[1]:.1f}" y1="{y[0]:.1f}" y2="{y[1]:.1f}"'
    return f'<line class="series{style} whisker" {ends}/>'


def vertical_grid(xs: Sequence[float], bottom: float, labels: Sequence[str]) -> list[str]:
    """Lines upwards with what they stand for below, as many labels as do not touch."""
    wide = LETTER * max(map(len, labels), default=0) + 8
    apart = min((right - left for left, right in itertools.pairwise(xs)), default=wide)
    every = max(1, math.ceil(wide / max(apart, 1e-9)))
    parts = []
    for number, (x, label) in enumerate(zip(xs, labels, strict=True)):
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom}"/>')
        if number % every == 0:
            parts.append(
                f'<text class="axis" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>'
            )
    return parts


def horizontal_grid(y: float, label: str) -> str:
    """A line across with what it stands for on its left."""
    return (
        f'<line class="grid" x1="{AXIS_WIDTH}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="axis" x="{AXIS_WIDTH - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def top_of(caption: Caption | str) -> float:
    """Where the plot begins: below the name of the vertical axis, where there is one."""
    return 28.0 if captioned(caption).vertical else float(MARGIN)


def axis_names(caption: Caption | str, axis: str, y: float) -> str:
    """The name of the horizontal axis at `y`, and that of the vertical one above it."""
    vertical = captioned(caption).vertical
    above = f'<text class="axis" x="0" y="11">{escape(vertical)}</text>' if vertical else ""
    return (
        f'{above}<text class="axis" x="{(AXIS_WIDTH + WIDTH) / 2}" y="{y:g}" text-anchor="middle">'
        f"{escape(axis)}</text>"
    )


def legend(entries: Sequence[tuple[int, str]], top: float) -> tuple[list[str], float]:
    """Marks and names from `top` down, in two columns where all names fit into them, and where they end."""
    if len(entries) < 2:
        return [], top - 22
    columns = 2 if all(len(name) * LETTER <= WIDTH / 2 - 24 for _, name in entries) else 1
    parts, y = [], top
    for number, (style, name) in enumerate(entries):
        if number and number % columns == 0:
            y += 20
        x = number % columns * WIDTH / 2
        parts.append(mark(style, x + 8, y - 4))
        lines = wrapped(name, WIDTH / columns - 24)
        parts.append(text_lines(lines, x + 20, y))
        y += _LINE * (len(lines) - 1)
    return parts, y


def wrapped(text: str, width: float) -> list[str]:
    """The text in lines of so many pixels, broken at spaces and behind what joins words in names."""
    letters = max(int(width / LETTER), 1)
    lines = [""]
    for word in re.findall(r"[^\s_/:,.-]*[\s_/:,.-]?", text):
        while len((lines[-1] + word).rstrip()) > letters:
            if lines[-1].strip():
                lines.append("")
            else:
                lines[-1], word = word[:letters], word[letters:]
                lines.append("")
        lines[-1] += word
    return [line.strip() for line in lines if line.strip()] or [""]


def text_lines(lines: Sequence[str], x: float, y: float) -> str:
    """The lines one below the other, the first at `y`."""
    return "".join(
        f'<text x="{x:g}" y="{y + _LINE * number:.1f}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )


def short(value: float) -> str:
    """A tick's number."""
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"


def shown(value: float | None, interval: Interval = None) -> str:
    """A value with its interval in plain text."""
    if value is None:
        return "-"
    digits = 2 if abs(value) >= 1.5 else 4
    bounds = f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})" if interval else ""
    return f"{value:.{digits}f}{bounds}"
