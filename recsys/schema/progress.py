"""Progress of long work on stderr, so that nothing is silent for more than ten seconds."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_EVERY_SECONDS = 10.0

Item = TypeVar("Item")
logger = logging.getLogger(__name__)


def progress(items: Iterable[Item], what: str, *, total: int | None = None) -> Iterator[Item]:
    """Yields the items; meanwhile a bar on a terminal, elsewhere a line in the log every ten seconds.

    Args:
        items: to go through.
        what: is done, in a few words: `scoring 52,455 queries`.
        total: how many items there are, where they do not say it.
    """
    number = total if total is not None else getattr(items, "__len__", lambda: None)()
    if sys.stderr.isatty():
        from tqdm.auto import tqdm  # type: ignore[import-untyped]  # here: no bar, no wait for it

        yield from tqdm(items, desc=what, total=number, leave=False, mininterval=0.5)
        return
    last = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - last >= _EVERY_SECONDS:
            last = time.monotonic()
            logger.info("%s: %s", what, f"{done / number:.0%}" if number else f"{done:,} parts")
        yield item


@contextlib.contextmanager
def at_work(what: str) -> Iterator[Callable[[str], None]]:
    """Says every ten seconds, from a thread, what is being done: for work that is no loop of ours.

    Args:
        what: is done at first, in a few words: `reading the tables`.

    Yields:
        What takes what is done from now on.
    """
    started, over = time.monotonic(), threading.Event()

    def say() -> None:
        while not over.wait(_EVERY_SECONDS):
            logger.info("%s (%.0f s so far)", what, time.monotonic() - started)

    def doing(now: str) -> None:
        nonlocal what
        what = now

    thread = threading.Thread(target=say, name="at work", daemon=True)
    thread.start()
    try:
        yield doing
    finally:
        over.set()
        thread.join()
