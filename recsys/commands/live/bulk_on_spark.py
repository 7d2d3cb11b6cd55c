"""on_spark: parts of the lists of all users, made by the workers of Spark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.schema.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_LOOK_SECONDS = 0.5


def on_spark(
    options: Mapping[str, Any], make_part: Callable[[int], None], parts: Mapping[int, Path]
) -> Iterator[None]:
    """Makes each part in a task of Spark, and yields when one is done.

    A part is written by the task that makes it, as by a process of this machine, so that what is done stays
    done when Spark is stopped.

    Args:
        options: of Spark, as `data.engine_options`.
        make_part: makes the part of a number, on a worker.
        parts: their files by number.

    Raises:
        InputError: a worker refused a row of the table.
    """
    from recsys.data.reading.spark import start_session

    session, is_own = start_session(options)
    numbers = list(parts)

    def made(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            for at in frame["id"]:
                make_part(numbers[at])
            yield frame

    tasks = session.range(0, len(numbers), 1, len(numbers)).mapInPandas(made, "id long")
    try:
        with ThreadPoolExecutor(1) as waiting:
            work, seen = waiting.submit(tasks.count), 0
            while not work.done() or (work.exception() is None and seen < len(parts)):
                wait([work], timeout=_LOOK_SECONDS)
                there = sum(file.is_file() for file in parts.values())
                yield from [None] * (there - seen)
                seen = there
            _raise_refusal(work.exception())
    finally:
        if is_own:
            session.stop()


def _raise_refusal(error: BaseException | None) -> None:
    """Raises what a worker says of a row as if this process had said it, and any other error as it is."""
    if error is None:
        return
    _, is_refusal, text = str(error).partition("RequestError: ")
    if is_refusal:
        raise InputError(text.splitlines()[0]) from error
    raise error
