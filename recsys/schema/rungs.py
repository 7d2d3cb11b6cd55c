"""Names the rungs of the ladder that an answer of a model with a gate stands on.

personal      behaviour weighs a half or more
few_events    content of the few events that are known weighs more
profile       no event is known: profile and context, what people like them like
segment       the bundle did not answer: what is popular of late among readers with the same profile
popular       likewise: what is popular of late with everybody
new           new arrivals, shown to be explored
"""

from __future__ import annotations

PERSONAL, FEW_EVENTS, PROFILE = "personal", "few_events", "profile"
SEGMENT, POPULAR, NEW = "segment", "popular", "new"

_EVEN = 0.5


def rung_name(weight: float, num_events: int) -> str:
    """Names the rung of an answer of a model.

    Args:
        weight: of behaviour in the query, from 0 to 1.
        num_events: that are known.

    Example:
        >>> rung_name(0.0, 0), rung_name(0.3, 1), rung_name(0.7, 8)
        ('profile', 'few_events', 'personal')
    """
    if not num_events:
        return PROFILE
    return PERSONAL if weight >= _EVEN else FEW_EVENTS
