"""Runs a command in front of a terminal, as a user does; what it cost, and how long it said nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.terminal import run_on_terminal, text_of


@dataclasses.dataclass(frozen=True)
class Cost:
    """Holds what one command took.

    Args:
        seconds: from its start to its end.
        cpu_seconds: of it and the processes that it started.
        peak_bytes: the largest resident set among them.
        silent_seconds: the longest time without a sign on the terminal.
        silent_behind: the line that was written before it.
        last_line: of its stdout.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    silent_seconds: float
    silent_behind: str
    last_line: str

    def to_dict(self) -> dict[str, float | str]:
        """Plain data, for JSON."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "last_line"}


def watched(arguments: Sequence[str]) -> Cost:
    """Runs `python ARGUMENTS` as `run_on_terminal` does, and says what it cost."""
    shown = run_on_terminal(arguments)
    signs = [(shown.started, b""), *shown.signs, (shown.ended, b"")]
    pause, at = longest_pause([instant for instant, _ in signs])
    before = text_of(signs[: at + 1])
    return Cost(
        seconds=shown.ended - shown.started,
        cpu_seconds=shown.usage.ru_utime + shown.usage.ru_stime,
        peak_bytes=shown.usage.ru_maxrss * 1024,  # kilobytes on Linux
        silent_seconds=pause,
        silent_behind=([line.strip() for line in re.split(r"[\r\n]", before) if line.strip()] or [""])[-1],
        last_line=shown.stdout.strip().splitlines()[-1] if shown.stdout.strip() else "",
    )


def longest_pause(instants: Sequence[float]) -> tuple[float, int]:
    """The longest time between two signs in a row, and the number of the first of them.

    Example:
        >>> longest_pause([0.0, 1.0, 4.0, 4.5])
        (3.0, 1)
    """
    return max((later - earlier, at) for at, (earlier, later) in enumerate(pairwise(instants)))
