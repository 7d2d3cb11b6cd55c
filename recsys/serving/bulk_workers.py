"""Numbered parts of one work, made by this process and by others that help it."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any

import torch

from recsys.schema.errors import InputError


@dataclasses.dataclass(frozen=True)
class _Shared:
    """The parts of a work, and the number of those taken, which all processes see."""

    numbers: Sequence[int]
    taken: Any  # a `multiprocessing.Value`, whose type has no public name

    def __iter__(self) -> Iterator[int]:
        """The parts that this process takes, each when it is free for it."""
        while True:
            with self.taken.get_lock():
                at = self.taken.value
                self.taken.value += 1
            if at >= len(self.numbers):
                return
            yield self.numbers[at]


def in_processes(
    numbers: Sequence[int], processes: int, make: Callable[[int], None], make_here: Callable[[int], None]
) -> Iterator[None]:
    """Makes every part once, and yields whenever one is done.

    This process begins at once; the others take parts from the moment that they have started, and have no
    part to wait for when the work is short. Each calculates on one thread, because results of several
    threads differ in their last bits.

    Args:
        numbers: of the parts, in the order in which they are begun.
        processes: how many there are with this one.
        make: makes a part in another process, to which it is pickled.
        make_here: makes a part in this one.

    Raises:
        InputError: another process has ended before its part was done.
        Exception: what making a part raised, in whatever process.
    """
    context = multiprocessing.get_context("spawn")
    shared = _Shared(numbers, context.Value("q", 0))
    helpers: dict[Any, Any] = {}
    for _ in range(processes - 1):
        ours, theirs = context.Pipe(duplex=False)
        helpers[ours] = context.Process(target=_help, args=(theirs, shared, make), daemon=True)
        helpers[ours].start()
        theirs.close()  # so that its end is seen here
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left = len(numbers)
        for number in shared:
            make_here(number)
            yield
            left -= 1
            for _ in _done(helpers, timeout=0):
                yield
                left -= 1
        while left:
            for _ in _done(helpers, timeout=None):
                yield
                left -= 1
    finally:
        torch.set_num_threads(threads)
        for helper in helpers.values():
            helper.terminate()
            helper.join()


def _help(done: connection.Connection, shared: _Shared, make: Callable[[int], None]) -> None:
    """Makes parts in a process of its own, and says of each that it is done, or why not."""
    torch.set_num_threads(1)
    try:
        for number in shared:
            make(number)
            done.send(None)
    except KeyboardInterrupt:
        os._exit(130)  # the process that waits for this one says what there is to say
    except Exception as error:
        done.send(error)


def _done(helpers: dict[Any, Any], *, timeout: float | None) -> Iterator[None]:
    """Yields for each part that others have said to be done; waits until one is, or so many seconds."""
    ours: Any
    for ours in connection.wait([*helpers], timeout):
        try:
            said = ours.recv()
        except EOFError:
            helper = helpers.pop(ours)
            helper.join()
            if helper.exitcode:
                raise InputError(
                    f"a process that made lists ended with status {helper.exitcode}, perhaps for want of "
                    "memory; the same command goes on where it stopped, `processes=1` takes least"
                ) from None
            continue
        if said is not None:
            raise said
        yield
