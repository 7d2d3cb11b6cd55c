"""Finds which rung of the ladder an answer comes from, and how much behaviour weighs in it."""

from __future__ import annotations

from typing import Any, NamedTuple

from recsys.schema.requests import INTERESTS
from recsys.schema.rungs import rung_name


class Rung(NamedTuple):
    """The rung of an answer, see `recsys.schema.rungs`, and the weight of behaviour in it, from 0 to 1."""

    name: str
    weight: float


def rung_of(weight: float, user: dict[str, Any], history: list[Any]) -> Rung:
    """The rung of an answer.

    Args:
        weight: of behaviour in it, by a model that mixes content with behaviour.
        user: as it was read, with a field for each kind of interest.
        history: as it was read.
    """
    interests = [values for name, values in user.items() if name.startswith(f"{INTERESTS}.")]
    num_events = len(history) + sum(
        len(one) if isinstance(one, list) else one is not None for one in interests
    )
    return Rung(rung_name(weight, num_events), weight if num_events else 0.0)
