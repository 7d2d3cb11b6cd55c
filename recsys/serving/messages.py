"""Requests and answers of the server, as JSON."""

from __future__ import annotations

import datetime
import math
from typing import Annotated, Any, Literal

import msgspec

from recsys.schema.errors import InputError
from recsys.schema.values import plain_instant
from recsys.serving.records import Id
from recsys.serving.rules import SECOND

Kind = Literal["click", "like", "purchase", "dwell", "skip", "dislike", "view"]
GivenId = (
    Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    | Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
)
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
# A field of a record, as the log can keep it and read it again: shallow, its whole numbers of 64 bits.
_One = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float | bool | str | None
GivenField = _One | list[_One] | dict[str, _One | list[_One]]
Instant = float | Annotated[str, msgspec.Meta(max_length=64)]

# Numbers this large are milliseconds, or microseconds, since 1970; seconds would lie beyond the year 5000.
_MILLISECONDS_FROM, _MICROSECONDS_FROM = 1e11, 1e14


class FieldError(InputError):
    """A request that is not answered.

    Args:
        message: what was expected and what was received.
        field: which it is about.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class RecommendRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Asks for a list.

    Args:
        user: `user_id` and fields of the users' table; without an id nothing is remembered.
        k: length of the list.
        context: fields of the interactions' table; without a time of the request, the server's is used.
        where: raw values by attribute; of each, an item must hold one.
        exclude: items to leave out.
        session: of the visit; somebody without a user id is remembered by it while it lasts, and whoever
            signs in during a visit is known by what came before.
        history: ids of what the user liked, oldest first, in place of what is stored.
        candidates: the items to choose from; a bundle that only ranks needs them.
        timing: whether the answer says how long its parts took.
    """

    user: dict[str, Any] = {}
    k: Annotated[int, msgspec.Meta(ge=1)] = 10
    context: dict[str, Any] = {}
    where: dict[str, list[Any]] | None = None
    exclude: list[GivenId] = []
    session: Text | None = None
    history: list[GivenId] | None = None
    candidates: Annotated[list[GivenId], msgspec.Meta(max_length=10_000)] | None = None
    timing: bool = False


class RecommendedItem(msgspec.Struct):
    """An item of the list; see `recsys.serving.records.ShownItem`."""

    item_id: Id
    position: int
    score: float
    propensity: float
    propensity_given_above: float
    source: str


class Recommendation(msgspec.Struct, omit_defaults=True):
    """The answer to a request for a list.

    Args:
        request_id: for feedback about it.
        items: best first.
        policy: that chose them.
        bundle: fingerprint of the bundle that scored them.
        degraded: whether the state could not be read, or the bundle did not answer.
        state_age_seconds: how old the oldest event is that the state has not seen; 0 where it has seen all.
        rung: `bundle`; or, by rule (`ladder`) or because the bundle did not answer, what is popular with the
            `segment` of the reader or with everybody, `popular`.
        milliseconds: by part, when asked.
        behaviour_weight: of what the user did in the answer, from 0, content and profile alone, to 1; of
            bundles whose model has a gate.
    """

    request_id: str
    items: list[RecommendedItem]
    policy: str
    bundle: str
    degraded: bool
    state_age_seconds: float
    rung: str
    milliseconds: dict[str, float] | None = None
    behaviour_weight: float | None = None


class FeedbackEvent(msgspec.Struct, forbid_unknown_fields=True):
    """Reports an action of a user.

    Args:
        item_id: about which item.
        event: kind.
        request_id: of the list that showed it; null without one.
        user_id: who; may be left out with a request id, or a session.
        value: of a dwell, its seconds.
        timestamp: when: seconds (or milliseconds) since 1970 or ISO 8601; null: now.
        event_id: under which it counts once; null: made of request, item and kind.
        session: of the visit, see `RecommendRequest`.
    """

    item_id: GivenId
    event: Kind
    request_id: Text | None = None
    user_id: GivenId | None = None
    value: float | None = None
    timestamp: Instant | None = None
    event_id: Text | None = None
    session: Text | None = None


class FeedbackRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Events, any number of them up to ten thousand."""

    events: Annotated[list[FeedbackEvent], msgspec.Meta(max_length=10_000)]


class FeedbackAnswer(msgspec.Struct):
    """Says how many events are counted now, and how many had been before."""

    accepted: int
    repeated: int


class ItemsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """New items: `item_id`, fields of the items' table, and perhaps `valid_until`, after which they leave."""

    items: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=10_000)]


class ItemsAnswer(msgspec.Struct):
    """Says how many items joined the catalogue."""

    added: int


class AvailabilityRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Whether items may be recommended from now on."""

    item_ids: Annotated[list[GivenId], msgspec.Meta(max_length=10_000)]
    available: bool


class AvailabilityAnswer(msgspec.Struct):
    """Says how many of the items the catalogue knows."""

    known: int


class HistoryEvent(msgspec.Struct):
    """An event of a user; `inferred` where nobody said it."""

    item_id: Id
    event: str
    timestamp: float
    value: float | None = None
    inferred: bool = False


class UserAnswer(msgspec.Struct, omit_defaults=True):
    """Shows a user's events, the oldest first, the lists that they may still refer to, and older likes."""

    user_id: Id
    history: list[HistoryEvent]
    requests: list[str]
    seen: list[str] = []


class ForgottenAnswer(msgspec.Struct):
    """The user is forgotten."""

    forgotten: bool


class BundleRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A bundle that is to serve; `back` returns to the one before."""

    path: Annotated[str, msgspec.Meta(max_length=4000)] | None = None
    back: bool = False


class BundleAnswer(msgspec.Struct):
    """Fingerprint of the bundle that serves."""

    bundle: str


class ErrorAnswer(msgspec.Struct):
    """Why a request was not answered, and which field it is about."""

    error: str
    field: str


def microseconds_of(value: float | str, *, field: str) -> int:
    """An instant in microseconds since 1970 (UTC).

    Args:
        value: seconds, milliseconds or microseconds since 1970, told apart by their size; or ISO 8601, UTC
            where it names no zone.
        field: of the request, for messages.

    Raises:
        ValueError: it is no instant.

    Example:
        >>> microseconds_of(1.5, field="t"), microseconds_of("1970-01-01T00:00:01", field="t")
        (1500000, 1000000)
    """
    if isinstance(value, str):
        try:
            instant = datetime.datetime.fromisoformat(plain_instant(value.strip()))
        except ValueError:
            raise FieldError(
                f"`{field}` must be seconds since 1970 or ISO 8601, got `{value}`", field=field
            ) from None
        zoned = instant if instant.tzinfo else instant.replace(tzinfo=datetime.UTC)
        return int(zoned.timestamp() * SECOND)
    size = abs(value)
    if not math.isfinite(value) or size >= _MICROSECONDS_FROM * 100:
        raise FieldError(f"`{field}` must be seconds since 1970 or ISO 8601, got {value}", field=field)
    scale = 1 if size >= _MICROSECONDS_FROM else 1000 if size >= _MILLISECONDS_FROM else SECOND
    return round(value * scale)
