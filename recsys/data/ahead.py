"""ahead: the items of an iterator, a few of them made in a thread before they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], count: int) -> Iterator[T]:
    """The items, in order; up to `count` are ready before they are asked for.

    An error of the iterator is raised where its item would have come. The thread never waits for the consumer
    but for work, so it ends with the generator, with the program, and when nobody asks any more.

    Args:
        items: used in one thread alone.
        count: at least 1.
    """
    over: Any = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as thread:
        waiting = deque(thread.submit(next, items, over) for _ in range(count))
        try:
            while (item := waiting.popleft().result()) is not over:
                waiting.append(thread.submit(next, items, over))
                yield item
        finally:
            for future in waiting:
                future.cancel()
