"""Which rung of the ladder an answer comes from: behaviour, the content of a few events, or the profile.

personal      behaviour weighs a half or more
few_events    content of the few events that are known weighs more
profile       no event is known: profile and context, what people like them like
popular       the bundle did not answer: what is popular of late
new           new arrivals, shown to be explored
"""

from __future__ import annotations

from typing import Any, NamedTuple

from recsys.serving.bundle import Bundle

Record = dict[str, Any]

PERSONAL, FEW_EVENTS, PROFILE = "personal", "few_events", "profile"
_EVEN = 0.5


class Rung(NamedTuple):
    """The rung of an answer, and the weight of behaviour in it, from 0 to 1."""

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
    if weights is None:  # a bundle of an earlier release
        return None
    batch = bundle.requests.one(user, history, 1, context, None)
    with bundle._lock.reading():  # as every question to the program that items may be added to
        weight = float(weights(batch.users, batch.histories, batch.contexts)[0])
    if weight < 0:
        return None
    if not history:
        return Rung(PROFILE, 0.0)
    return Rung(PERSONAL if weight >= _EVEN else FEW_EVENTS, weight)
