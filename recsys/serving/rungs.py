"""Finds which rung of the ladder a bundle's answer comes from, and how much behaviour weighs in it."""

from __future__ import annotations

from typing import Any, NamedTuple

from recsys.schema.requests import INTERESTS
from recsys.schema.rungs import rung_name
from recsys.serving.bundle import Bundle

Record = dict[str, Any]


class Rung(NamedTuple):
    """The rung of an answer, see `recsys.schema.rungs`, and the weight of behaviour in it, from 0 to 1."""

    name: str
    weight: float


def rung_of(bundle: Bundle, user: Record, history: list[Any], context: Record | None = None) -> Rung | None:
    """The rung of a user's list; None where the bundle's model does not mix content with behaviour.

    Args:
        bundle: with a retrieval model.
        user: as of `Bundle.recommend`, as are the others.
        history: see `user`.
        context: see `user`.

    Raises:
        RequestError: naming the argument or the field.
    """
    weights = getattr(bundle.retrieval, "behaviour_weights", None)
    if weights is None or not bundle.mixes_content:  # None: a bundle of an earlier release
        return None
    batch = bundle.requests.one(user, history, 1, context, None)
    with bundle._lock.reading():  # as every question to the program that items may be added to
        weight = float(weights(batch.users, batch.histories, batch.contexts)[0])
    if weight < 0:
        bundle.mixes_content = False  # nor will it the next time, and to ask takes an encoding
        return None
    interests = [values for name, values in batch.users[0].items() if name.startswith(f"{INTERESTS}.")]
    num_events = len(history) + sum(
        len(one) if isinstance(one, list) else one is not None for one in interests
    )
    return Rung(rung_name(weight, num_events), weight if num_events else 0.0)
