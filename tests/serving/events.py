"""Records for tests of state: a list that was shown, and events about it."""

import numpy as np

from recsys.serving.records import Event, Request, ShownItem
from recsys.serving.rules import SECOND

COORDINATES = np.array([2.0, -1.0], dtype="<f4")
NOW = 1_700_000_000 * SECOND


def shown(request_id, items, *, user="u", at=0.0, **changes):
    """A list of items at so many seconds."""
    values = {
        "request_id": request_id,
        "time": NOW + int(at * SECOND),
        "user_id": user,
        "user": {},
        "context": {},
        "bundle": "b",
        "policy": "softmax",
        "parameters": {},
        "seed": 0,
        "judges_others": True,
        "items": [
            item
            if isinstance(item, ShownItem)
            else ShownItem(
                item,
                score=0.5,
                propensity=0.1,
                propensity_given_above=0.2,
                source="retrieval",
                features=[1.0, 0.5],
                expected=0.5,
                looked=1 / (1 + place),
                taste=0.25,
                own=0.125,
                coordinates=COORDINATES.tobytes(),
            )
            for place, item in enumerate(items)
        ],
        "candidates": list(items),
        "candidate_scores": [0.5] * len(items),
        "num_candidates": len(items),
        "candidates_hash": "",
        "rung": "bundle",
        "degraded": False,
        "history_length": 0,
    }
    return Request(**{**values, **changes})


def did(kind, item, request_id=None, *, user="u", at=1.0, event_id=None, value=None, session=None):
    """An event at so many seconds."""
    time = NOW + int(at * SECOND)
    event_id = event_id or f"{request_id}/{item}/{kind}/{'' if request_id else time}"
    return Event(
        event_id=event_id,
        request_id=request_id,
        user_id=user,
        item_id=item,
        kind=kind,
        value=value,
        time=time,
        received=time,
        session=session,
    )
