"""Rules by which events become state: kinds of feedback, their weights, limits and times."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from recsys.schema.errors import InputError

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR

# What each kind of event is worth as a reward; `dwell` is worth its share of `dwell_seconds`.
_WEIGHTS = {
    "click": 1.0,
    "like": 1.0,
    "purchase": 1.0,
    "dwell": 1.0,
    "view": 0.0,
    "skip": 0.0,
    "dislike": 0.0,
}
KINDS = tuple(_WEIGHTS)
_ABOVE_0 = (
    *("dwell_seconds", "max_history", "max_seen", "max_requests", "attribution_hours", "repeated_days"),
    *("max_future_seconds", "half_life_hours", "window_hours", "retention_days"),
)
# Kinds after which an item is not liked.
NEGATIVE = ("skip", "dislike")


@dataclasses.dataclass(frozen=True)
class Rules:
    """Sets how events are counted.

    Args:
        weights: reward by kind of event, 0 to 1; kinds that are left out keep their own.
        dwell_seconds: a dwell of so long counts in full, a shorter one by its share.
        max_history: latest events of a user that are kept: so many that like an item, so many that do not.
        max_seen: latest items that a user liked before those; they are not shown again either.
        max_requests: latest lists of a user that events can still refer to.
        attribution_hours: how long after a list its events count for it.
        repeated_days: an event that is sent again is known as repeated for so long.
        max_future_seconds: events further ahead of the server's clock are refused.
        half_life_hours: after so long, what is known of an item's reward counts half.
        window_hours: events of an item are counted by the hour for so long.
        retention_days: requests and events are deleted from the log after so long.
        segment_fields: what is popular is counted apart, too, for readers with the same values of these
            fields of the user or the context.
    """

    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    dwell_seconds: float = 60.0
    max_history: int = 200
    max_seen: int = 1000
    max_requests: int = 200
    attribution_hours: float = 24.0
    repeated_days: float = 7.0
    max_future_seconds: float = 60.0
    half_life_hours: float = 24.0
    window_hours: int = 48
    retention_days: float = 90.0
    segment_fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "segment_fields", tuple(self.segment_fields))
        unknown = [kind for kind in self.weights if kind not in _WEIGHTS]
        if unknown:
            raise InputError(
                f"`rules.weights` must name kinds of event among {', '.join(KINDS)}, got `{unknown[0]}`"
            )
        for kind, weight in self.weights.items():
            if not 0 <= weight <= 1:
                raise InputError(f"`rules.weights.{kind}` must lie between 0 and 1, got {weight}")
        for name in _ABOVE_0:
            if not getattr(self, name) > 0:
                raise InputError(f"`rules.{name}` must be above 0, got {getattr(self, name)}")

    def segment(self, user: Mapping[str, Any], context: Mapping[str, Any]) -> str:
        """Names the segment of a reader; empty where one of its fields is not known.

        Example:
            >>> Rules(segment_fields=("country", "device")).segment({"country": "FR"}, {"device": "phone"})
            '["FR","phone"]'
        """
        values = [user.get(name, context.get(name)) for name in self.segment_fields]
        if not values or any(value is None for value in values):
            return ""
        return json.dumps(values, separators=(",", ":"), default=str, ensure_ascii=False)

    def reward(self, kind: str, value: float | None) -> float:
        """Returns the reward of an event, 0 to 1.

        Example:
            >>> Rules().reward("click", None), Rules().reward("dwell", 15.0)
            (1.0, 0.25)
        """
        weight = self.weights.get(kind, _WEIGHTS[kind])
        if kind == "dwell":
            return weight * min(max(value or 0.0, 0.0) / self.dwell_seconds, 1.0)
        return weight
