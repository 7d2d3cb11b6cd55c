"""Pieces of HTML that every part of a report is made of; whatever comes from data is escaped here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any


def fill_page(title: str, body: str) -> str:
    """A page of its own in the look of the reports.

    Args:
        title: plain text.
        body: HTML.
    """
    page = resources.files("recsys.report").joinpath("page.html").read_text(encoding="utf-8")
    return Template(page).substitute(title=escape(title), body=body)


def table(headings: Sequence[str], rows: Iterable[str]) -> str:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        headings: plain text; a line break within one sets what follows smaller.
        rows: `<tr>` elements.
    """
    head = "".join(f'<th scope="col">{_heading(heading)}</th>' for heading in headings)
    body = "".join(rows)
    # The reader's keys scroll only what can have the focus.
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def row(name: str, cells: Iterable[str], *, style: str = "") -> str:
    """A row of a table; `name` and `cells` are HTML."""
    chosen = f' class="{style}"' if style else ""
    return f'<tr{chosen}><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def figure(value: float | None, interval: Sequence[float] | None = None, *, digits: int = 4) -> str:
    """A number, and below it the interval that it has."""
    if value is None:
        return "-"
    bounds = f"<small>{interval[0]:.{digits}f} to {interval[1]:.{digits}f}</small>" if interval else ""
    return f"{value:.{digits}f}{bounds}"


def figure_of(block: Mapping[str, Any], key: str) -> str:
    """A metric of a system or slice with its interval; large numbers (bits, ratios) get two digits."""
    value = block["metrics"].get(key)
    return figure(value, block["intervals"].get(key), digits=digits_of(value))


def digits_of(value: float | None) -> int:
    """Digits behind the point that tell figures of this size apart."""
    return 2 if value is not None and abs(value) >= 1.5 else 4


def p_value(p: float) -> str:
    """A p value with the digits that say something."""
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.1e}"


def facts(pairs: Mapping[str, Any]) -> str:
    """Names and values, one below the other."""
    lines = "".join(
        f"<dt>{escape(str(name).replace('_', ' '))}</dt><dd>{escape(_plain(value))}</dd>"
        for name, value in pairs.items()
    )
    return f"<dl>{lines}</dl>"


def section(name: str, title: str, body: str) -> str:
    """A part of the page that can be jumped to; `title` is plain text."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{body}</section>' if body else ""


def _heading(text: str) -> str:
    first, _, rest = text.partition("\n")
    # Names of runs may break behind an underscore, or eight of them do not fit on paper.
    breakable = escape(first).replace("_", "_\u200b")
    return breakable + (f"<small>{escape(rest)}</small>" if rest else "")


def _plain(value: Any) -> str:
    """A value as people write it: nested names with colons, lists with commas."""
    if isinstance(value, Mapping):
        return "; ".join(f"{str(name).replace('_', ' ')}: {_plain(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(f"({_plain(one)})" if isinstance(one, Mapping) else _plain(one) for one in value)
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
