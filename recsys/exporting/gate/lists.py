"""first_difference: whether two ranked lists are the same, but for the order of what scores alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def first_difference(
    expected: tuple[Sequence[Any], Sequence[float]],
    found: tuple[Sequence[Any], Sequence[float]],
    *,
    tolerance: float,
) -> int | None:
    """The first place, from 0, at which a list is another one; None where it is the same.

    Scores of a place must agree. Another item may stand there when it scores alike: its own score in the
    expected list, or the last one there when the tie goes on beyond the end, is that of the place.

    Args:
        expected: ids and scores, best first.
        found: the same.
        tolerance: largest difference of a score, as a share of scores beyond 1.

    Example:
        >>> first_difference((["a", "b"], [2.0, 1.0]), (["b", "a"], [2.0, 1.0]), tolerance=1e-5)
        0
        >>> first_difference((["a", "b"], [1.0, 1.0]), (["b", "c"], [1.0, 1.0]), tolerance=1e-5) is None
        True
    """
    ids, scores = expected
    own = dict(zip(ids, scores, strict=True))
    for place, (item_id, score, other_id, other) in enumerate(zip(ids, scores, *found, strict=False)):
        is_same = item_id == other_id or _alike(own.get(other_id, scores[-1]), other, tolerance)
        if not is_same or not _alike(score, other, tolerance):
            return place
    shorter, longer = sorted((len(ids), len(found[0])))
    if shorter < longer:
        return shorter
    return None if len(set(found[0])) == len(found[0]) else len(found[0]) - 1


def _alike(score: float, other: float, tolerance: float) -> bool:
    return abs(score - other) <= tolerance * max(1.0, abs(score))
