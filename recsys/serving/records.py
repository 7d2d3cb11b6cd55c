"""Records of the feedback log: what the server writes down, in the order in which it happened to it.

Times are microseconds since 1970 (UTC). Ids are as the client gave them, whole numbers or text; `5` and `"5"`
are the same user.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

Id = int | str


class ShownItem(msgspec.Struct, array_like=True, frozen=True):
    """An item in a position of a list.

    Args:
        item_id: which.
        score: of the bundle, or of the fall-back that chose it.
        propensity: marginal probability of this item in this position.
        propensity_given_above: its probability given the items above.
        source: which part of the bundle, or which fall-back, proposed it.
        features: what the linear head reads of it.
        expected: reward that was expected of it, were it looked at.
        looked: the chance that it is looked at in its position.
        taste: the part of what was expected that rests on the reader's taste.
        own: the part that rests on what the item itself has earned.
        coordinates: of the item in the bundle's space, 32-bit floats.
    """

    item_id: Id
    score: float
    propensity: float
    propensity_given_above: float
    source: str
    features: list[float] = []
    expected: float = 0.0
    looked: float = 1.0
    taste: float = 0.0
    own: float = 0.0
    coordinates: bytes = b""


class Request(msgspec.Struct, tag="request", frozen=True, kw_only=True):
    """A list that was shown, with all that is needed to judge another policy on it."""

    request_id: str
    time: int
    user_id: Id | None
    user: dict[str, Any]
    context: dict[str, Any]
    bundle: str
    policy: str
    parameters: dict[str, Any]
    seed: int
    judges_others: bool
    items: list[ShownItem]
    candidates: list[Id]
    candidate_scores: list[float]
    num_candidates: int
    candidates_hash: str
    rung: str
    degraded: bool
    history_length: int
    arm: str | None = None
    keep_probability: float = 1.0
    # The list of a shadow is logged and not shown.
    shadow: bool = False
    # Of the items' coordinates.
    space: str = ""
    session: str | None = None
    # Whether the history came with the request, and whether it holds what was skipped.
    brought_history: bool = False
    reads_skips: bool = False
    # By what was believed then, how much more the best list would have earned.
    regret: float = 0.0


class Event(msgspec.Struct, tag="event", frozen=True, kw_only=True):
    """Records an action of a user on an item, shown (`request_id`) or not."""

    event_id: str
    request_id: str | None
    user_id: Id | None
    item_id: Id
    kind: str
    value: float | None
    time: int
    received: int
    session: str | None = None

    @property
    def is_nameless(self) -> bool:
        """Whether only its list says whose it is."""
        return self.user_id is None and self.session is None


class NewItems(msgspec.Struct, tag="items", frozen=True):
    """Items that join the catalogue, by their raw features."""

    items: list[dict[str, Any]]
    time: int


class Availability(msgspec.Struct, tag="availability", frozen=True):
    """Whether items may be recommended from now on."""

    item_ids: list[Id]
    available: bool
    time: int


class Forget(msgspec.Struct, tag="forget", frozen=True):
    """A person who wants to be forgotten: whatever was logged of them before is nobody's any more.

    Args:
        user_hash: `hash_of` the user id, since the id itself is to be forgotten.
        time: when.
    """

    user_hash: str
    time: int


class BundleChange(msgspec.Struct, tag="bundle", frozen=True):
    """A bundle that serves from now on."""

    path: str
    fingerprint: str
    time: int


class Space(msgspec.Struct, tag="space", frozen=True):
    """Where some items lie in the space that readers' tastes are learnt over, for the bundles that follow.

    Args:
        name: of the space, which the items' coordinates in lists are of.
        bundle: fingerprint of the bundle that places the items there.
        item_ids: N of them.
        coordinates: [N, C] 32-bit floats.
        time: when.
    """

    name: str
    bundle: str
    item_ids: list[Id]
    coordinates: bytes
    time: int


Record = Request | Event | NewItems | Availability | Forget | BundleChange | Space

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    """A record as MessagePack.

    Example:
        >>> record = Availability([7], False, 0)
        >>> decode(encode(record)) == record
        True
    """
    return _ENCODER.encode(record)


def decode(content: bytes) -> Record:
    """The record that `encode` wrote."""
    record: Record = _DECODER.decode(content)
    return record


def user_of(record: Record) -> Id | None:
    """The user a record is about, if any."""
    return record.user_id if isinstance(record, Request | Event) else None


def received_of(record: Request | Event) -> int:
    """When the server heard of it: how long it is kept goes by that, however late it came."""
    return record.time if isinstance(record, Request) else record.received


def hash_of(user_id: Id) -> str:
    """Digest of a user id, the same for a number and its text."""
    return hashlib.sha256(str(user_id).encode()).hexdigest()[:32]
