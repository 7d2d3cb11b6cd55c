"""Pages through Jinja2 templates that escape whatever they are given, and the tables that stand in them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


class Cell(NamedTuple):
    """A cell of a table, in plain text.

    Args:
        text: first line.
        below: second line, set smaller.
        style: class that colours the first line.
        title: shown when the pointer rests on the first line.
        after: behind the first line.
    """

    text: str
    below: str = ""
    style: str = ""
    title: str = ""
    after: str = ""


class Row(NamedTuple):
    """A row of a table; of style `group` it is a heading across the table."""

    name: Cell
    cells: Sequence[Cell] = ()
    style: str = ""


class Table(NamedTuple):
    """A table with a row heading in its first column."""

    headings: Sequence[Cell]
    rows: Sequence[Row]


def table_of(headings: Sequence[str], rows: Iterable[Sequence[str | Cell]], *, style: str = "") -> Table:
    """A table of plain texts and cells; what follows a line break in a heading is set smaller."""
    heads = [Cell(first, below) for first, _, below in (heading.partition("\n") for heading in headings)]
    cells = [[Cell(each) if isinstance(each, str) else each for each in row] for row in rows]
    return Table(heads, [Row(first, rest, style) for first, *rest in cells])


def figure(
    value: float | None, interval: Sequence[float] | None = None, *, digits: int = 4, sign: str = ""
) -> Cell:
    """A number above its interval; `sign="+"` writes the sign of what is above zero too."""
    if value is None:
        return Cell("-")
    form = f"{sign}.{digits}f"
    return Cell(f"{value:{form}}", f"{interval[0]:{form}} to {interval[1]:{form}}" if interval else "")


def figure_of(block: Mapping[str, Any], key: str) -> Cell:
    """A metric of a system or slice with its interval; large numbers (bits, ratios) get two digits."""
    value = block["metrics"].get(key)
    return figure(value, block["intervals"].get(key), digits=digits_of(value))


def digits_of(value: float | None) -> int:
    """Digits behind the point that tell figures of this size apart."""
    return 2 if value is not None and abs(value) >= 1.5 else 4


def listed(names: Iterable[str], *, last: str = " and ") -> str:
    """Names with commas: `a, b and c`."""
    *first, end = names
    return f"{', '.join(first)}{last}{end}" if first else end


def p_value(p: float) -> str:
    """A p value with the digits that say something."""
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.1e}"


def render(template: str, **content: Any) -> str:
    """A page in the look of the reports; strings are escaped, only `Markup` is taken as it is."""
    return _environment().get_template(template).render(**content)


def piece(name: str, *arguments: Any) -> Markup:
    """HTML of a macro of `pieces.html`: `table`, `facts`, `charts`, `note` or `figure`."""
    return Markup(getattr(_environment().get_template("pieces.html").module, name)(*arguments))


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("recsys.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"plain": _plain, "words": _words, "code": _code, "breakable": _breakable}
    return made


def _plain(value: Any) -> str:
    """A value as people write it: nested names with colons, lists with commas."""
    if isinstance(value, Mapping):
        return "; ".join(f"{_words(name)}: {_plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(f"({_plain(each)})" if isinstance(each, Mapping) else _plain(each) for each in value)
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _breakable(name: str) -> Markup:
    """A name that may break behind an underscore, or eight names of runs do not fit on paper."""
    return escape(name).replace("_", Markup("_\u200b"))


def _code(text: str) -> Markup:
    """Marks up as code what a message has between backticks."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
