"""Audit: what was known when a list was made, as it was logged, against the state made again from the log.

The log is replayed, record by record, by the functions that served it. Before each list is applied, what the
state then knows is compared with what the list says that it was made from: a point-in-time join in which each
event counts from when it was known on, not from when it happened.

A list that was made while another was still being written has not seen that one: so a few differ under load.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from recsys.serving.beliefs import head_weights, looked_at
from recsys.serving.learning import LinearHead, Positions
from recsys.serving.records import Record, Request
from recsys.serving.rules import Rules
from recsys.serving.state import UserState, apply, liked, touched
from recsys.serving.working import HEAD, POSITIONS, Working, reader_key, session_key

_TOLERANCE = 1e-6


class MemoryState:
    """A state in a dictionary, for a replay."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.position = 0

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of keys."""
        return [self.values.get(key) for key in keys]

    def put(self, key: bytes, value: bytes | None, *, expires: int | None = None) -> None:
        """Sets or deletes a value; nothing expires."""
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value


@dataclasses.dataclass
class Agreement:
    """Counts how often a logged feature was what the replayed state says, and the largest difference."""

    compared: int = 0
    equal: int = 0
    largest_difference: float = 0.0

    def add(self, logged: float, replayed: float) -> None:
        """Compares two values."""
        difference = abs(logged - replayed)
        self.compared += 1
        self.equal += difference <= _TOLERANCE
        self.largest_difference = max(self.largest_difference, difference)


def audit(records: Iterable[tuple[int, Record]], rules: Rules) -> dict[str, Any]:
    """Compares logged features with those of the replayed state; see the top of this file.

    Args:
        records: of the log from its beginning on, with their positions.
        rules: by which the server counted events.

    Returns:
        By feature, how many were compared, how many were equal to 1e-6, and the largest difference:
        `history_length`, `head` (what the linear head foretold of the shown items) and `looked`.
    """
    state = MemoryState()
    found = {name: Agreement() for name in ("history_length", "head", "looked")}
    for position, record in records:
        if isinstance(record, Request) and not record.shadow:
            _compare(state, record, rules, found)
        working = Working(state, touched([record]))
        apply(working, record, position=position, rules=rules)
        working.finish()
        state.position = position
    return {name: dataclasses.asdict(one) for name, one in found.items()}


def _compare(state: MemoryState, request: Request, rules: Rules, found: dict[str, Agreement]) -> None:
    working = Working(state)
    if not request.brought_history:
        found["history_length"].add(request.history_length, _history_length(working, request, rules))
    if not request.items or not request.items[0].features or request.degraded:
        return
    theta_D = head_weights(working.get(HEAD, LinearHead), len(request.items[0].features), request.time, rules)
    looked_K = looked_at(working.get(POSITIONS, Positions), len(request.items), request.time, rules)
    for item, looked in zip(request.items, looked_K.tolist(), strict=True):
        head = item.expected - item.taste - item.own
        found["head"].add(head, float(theta_D @ np.array(item.features)))
        found["looked"].add(item.looked, looked)


def _history_length(working: Working, request: Request, rules: Rules) -> int:
    keys = {reader_key(request.user_id, request.session)}
    keys |= {None if request.session is None else session_key(request.session)}
    states = [working.get(key, UserState) for key in keys if key is not None]
    events = [event for one in states if one is not None for event in one.events]
    return sum(request.reads_skips or liked(event, rules) for event in events)
