"""Prints the metrics of one run: a table, or a line in the log where it is one of several."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.schema.terminal import plainly

logger = logging.getLogger(__name__)

_is_one_of_several: ContextVar[bool] = ContextVar("is_one_of_several", default=False)


@contextlib.contextmanager
def one_of_several() -> Iterator[None]:
    """While inside, `print_figures` speaks of one of several runs."""
    token = _is_one_of_several.set(True)
    try:
        yield
    finally:
        _is_one_of_several.reset(token)


# Of the metrics of a list, what fits a terminal; metrics.json has them all.
_SHOWN = ("ndcg", "hit_rate", "recall", "mrr", "coverage", "novelty")


def print_figures(figures: Mapping[str, Mapping[str, float]], *, title: str, k: int) -> None:
    """Prints metrics, a row for each of those judged; of those with a cut-off, the ones at `k`.

    One of several runs gets a line in the log: their table comes at the end.
    """
    if _is_one_of_several.get():
        shown = [
            f"{system} {name} {values[name]:.4f}"
            for system, values in figures.items()
            for name in (f"ndcg@{k}", "auc")
            if name in values
        ]
        logger.info("%s: %s", title, ", ".join(shown))
        return
    table = Table("", title=title)
    measured = next(iter(figures.values()))
    names = [name for name in measured if "@" not in name] or [
        key for key in (f"{name}@{k}" for name in _SHOWN) if key in measured
    ]
    for name in names:
        table.add_column(name, justify="right")
    for judged, values in figures.items():
        table.add_row(judged, *(f"{values[name]:.4f}" for name in names))
    console().print(table)


def console() -> Console:
    """On stderr, as wide as a log file likes where that is no terminal."""
    console = _PlainConsole(stderr=True)
    # A log file has no width to keep to.
    return console if console.is_terminal else _PlainConsole(stderr=True, width=160)


class _PlainConsole(Console):
    """Shows text as it is: `[user_id]` is a value, not a style."""

    def render_str(self, text: str, **how: Any) -> Text:
        """See `rich.console.Console`."""
        return super().render_str(plainly(text), **{**how, "markup": False, "emoji": False})
