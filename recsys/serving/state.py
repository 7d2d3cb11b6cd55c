"""Events -> state: pure functions, so that replaying the log gives the same state again.

What is kept does not depend on the order in which events arrive, but for rounding: histories are sorted by
the events' own times, sums that fade are brought to a common instant, and an event that arrives before the
list it refers to waits for it. So a late event is placed where it belongs, and a clock that goes backwards
breaks nothing.

    user    latest events by time, lists that events may refer to
    item    shown, reward and expected reward, fading with a half-life; the same by the hour, for windows
    list    what was shown in a request, until its events count no more
    event   the position of the log that an event id was first counted at
    head    sufficient statistics of the linear policy, fading alike
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from recsys.serving.records import Event, Forget, Id, Record, Request, ShownItem, hash_of
from recsys.serving.rules import DAY, HOUR, NEGATIVE, Rules
from recsys.serving.store.interface import Transaction

T = TypeVar("T", bound=msgspec.Struct)
_LONGEST_KEY = 300
HEAD = b"head"
POPULAR = b"popular"
CATALOGUE = b"catalogue"
# Items that are popular of late; twice as many are counted.
NUM_POPULAR = 500


class UserEvent(msgspec.Struct, array_like=True, frozen=True):
    """An event in a user's history; `inferred` for a skip that nobody said."""

    time: int
    item_id: Id
    kind: str
    value: float | None
    event_id: str
    inferred: bool = False


class UserState(msgspec.Struct):
    """Holds the events of a user by time, the oldest first, and the lists that events may refer to."""

    user_id: Id
    events: list[UserEvent] = []
    requests: list[tuple[int, str]] = []


class ItemState(msgspec.Struct):
    """Holds the counts of an item: how often it was shown, and its reward.

    Args:
        since: instant that the sums are brought to.
        shown: how often it was shown.
        reward: what came of that.
        expected: what the linear head foretold.
        hours: by hour since 1970, how often shown and the reward.
        first: when it was first heard of.
    """

    since: int = 0
    shown: float = 0.0
    reward: float = 0.0
    expected: float = 0.0
    hours: dict[int, tuple[float, float]] = {}
    first: int = 0


class ShownList(msgspec.Struct):
    """A list that events may refer to.

    Args:
        request_id, time, user_id, items: as logged.
        rewards: by position.
        last: the lowest position that was chosen, from 0; what is above it was chosen or passed over.
        waiting: events that came before the list.
    """

    request_id: str = ""
    time: int = 0
    user_id: Id | None = None
    items: list[ShownItem] = []
    rewards: list[float] = []
    last: int = 0
    waiting: list[Event] = []


class LinearHead(msgspec.Struct):
    """Rewards over features: the Gram matrix row by row, and the reward by feature."""

    since: int
    gram: list[float]
    reward: list[float]


class PopularState(msgspec.Struct):
    """Rewards of items of late, fading: brought to `since`, by the item id's text."""

    since: int = 0
    rewards: dict[str, tuple[Id, float]] = {}


class CatalogueState(msgspec.Struct):
    """Positions in the log of what changed the catalogue or the bundle."""

    positions: list[int] = []


def user_key(user_id: Id) -> bytes:
    """Key of a user's state."""
    return _user_key(hash_of(user_id))


def _user_key(user_hash: str) -> bytes:
    return b"u:" + user_hash.encode()


def item_key(item_id: Id) -> bytes:
    """Key of an item's state."""
    return _key(b"i:", str(item_id))


def list_key(request_id: str) -> bytes:
    """Key of a list that was shown."""
    return _key(b"l:", request_id)


def event_key(event_id: str) -> bytes:
    """Key of an event that was counted."""
    return _key(b"e:", event_id)


def _key(prefix: bytes, name: str) -> bytes:
    content = name.encode()
    return prefix + (
        content if len(content) <= _LONGEST_KEY else b"#" + hashlib.sha256(content).hexdigest().encode()
    )


class Working:
    """The state that a transaction works on: unpacked once, and packed once at its end.

    Args:
        transaction: of the store.
        records: that will be applied; what they touch is read at once.
    """

    def __init__(self, transaction: Transaction, records: Iterable[Record] = ()) -> None:
        self._transaction = transaction
        self._values: dict[bytes, msgspec.Struct | None] = {}
        self._raw: dict[bytes, bytes | None] = {}
        self._expires: dict[bytes, int] = {}
        self._changed: set[bytes] = set()
        keys = {key for record in records for key in _touched(record)}
        self._raw.update(zip(keys, transaction.get(list(keys)), strict=True))

    def get(self, key: bytes, kind: type[T]) -> T | None:
        """The value of a key, to be read."""
        if key not in self._values:
            if key not in self._raw:
                [self._raw[key]] = self._transaction.get([key])
            content = self._raw[key]
            self._values[key] = None if content is None else msgspec.msgpack.decode(content, type=kind)
        return self._values[key]  # type: ignore[return-value]

    def put(self, key: bytes, value: msgspec.Struct | None, *, expires: int | None = None) -> None:
        """Sets or deletes a value."""
        self._values[key] = value
        self._raw.pop(key, None)
        if expires is not None:
            self._expires[key] = expires
        self._changed.add(key)

    def finish(self) -> None:
        """Hands what was changed to the transaction."""
        for key in self._changed:
            value = self._values[key]
            content = None if value is None else msgspec.msgpack.encode(value)
            self._transaction.put(key, content, expires=self._expires.get(key))


class EventPosition(msgspec.Struct, array_like=True):
    """Holds the position of the log at which an event was first counted."""

    position: int


def counted_at(working: Working, event_id: str) -> int | None:
    """Position of the log at which an event was first counted; None if it never was."""
    counted = working.get(event_key(event_id), EventPosition)
    return None if counted is None else counted.position


def apply(working: Working, record: Record, *, position: int, rules: Rules) -> None:
    """Changes the state by a record of the log; an event that was counted before changes nothing."""
    if isinstance(record, Request):
        if not record.shadow:
            _apply_request(working, record, rules)
    elif isinstance(record, Event):
        if counted_at(working, record.event_id) is None:
            expires = max(record.time, record.received) + int(rules.max_late_days * DAY)
            working.put(event_key(record.event_id), EventPosition(position), expires=expires)
            _apply_event(working, record, rules)
    elif isinstance(record, Forget):
        _forget(working, record)
    else:
        # Every process goes through these on its own bundle, from the first one on.
        catalogue = working.get(CATALOGUE, CatalogueState) or CatalogueState()
        if position not in catalogue.positions:
            catalogue.positions.append(position)
        working.put(CATALOGUE, catalogue)


def _apply_request(working: Working, request: Request, rules: Rules) -> None:
    key = list_key(request.request_id)
    before = working.get(key, ShownList)
    if before is not None and before.items:
        return  # the same record again
    rewards = [0.0] * len(request.items)
    shown = ShownList(request.request_id, request.time, request.user_id, request.items, rewards)
    expires = request.time + int(rules.attribution_hours * HOUR)
    working.put(key, shown, expires=expires)
    if request.user_id is not None:
        _remember_list(working, request.user_id, (request.time, request.request_id), rules)
    for item in request.items:
        _count_item(
            working, item.item_id, request.time, shown=1.0, reward=0.0, expected=item.expected, rules=rules
        )
    _learn(working, request.time, [(item.features, 1.0, 0.0) for item in request.items], rules)
    for event in before.waiting if before is not None else ():
        _credit_list(working, event, rules)


def _apply_event(working: Working, event: Event, rules: Rules) -> None:
    user_id = event.user_id
    if user_id is None and event.request_id is not None:
        shown = working.get(list_key(event.request_id), ShownList)
        user_id = None if shown is None else shown.user_id
    if user_id is not None:
        _add_to_history(
            working,
            user_id,
            UserEvent(event.time, event.item_id, event.kind, event.value, event.event_id),
            rules,
        )
    if event.request_id is not None:
        _credit_list(working, event, rules)
    else:
        reward = rules.reward(event.kind, event.value)
        _count_item(working, event.item_id, event.time, shown=0.0, reward=0.0, expected=0.0, hour=reward,
                    rules=rules)  # fmt: skip


def _credit_list(working: Working, event: Event, rules: Rules) -> None:
    """Counts an event for the position of the list that showed its item."""
    key = list_key(str(event.request_id))
    shown = working.get(key, ShownList)
    if shown is None or not shown.items:
        shown = shown or ShownList()
        shown.waiting = [*shown.waiting, event]
        working.put(key, shown, expires=event.time + int(rules.attribution_hours * HOUR))
        return
    places = [n for n, item in enumerate(shown.items) if str(item.item_id) == str(event.item_id)]
    if not places or event.time > shown.time + rules.attribution_hours * HOUR:
        return
    [place] = places
    reward = rules.reward(event.kind, event.value)
    # The best of an item's events counts, once: so they may come in any order.
    gained = reward - shown.rewards[place]
    if gained > 0:
        item = shown.items[place]
        shown.rewards[place] = reward
        _count_item(
            working,
            item.item_id,
            shown.time,
            shown=0.0,
            reward=gained,
            expected=0.0,
            hour=gained,
            rules=rules,
        )
        _learn(working, shown.time, [(item.features, 0.0, gained)], rules)
        _infer_skips(
            working, shown, place, shown.user_id if shown.user_id is not None else event.user_id, rules
        )
    working.put(key, shown)


def _infer_skips(working: Working, shown: ShownList, place: int, user_id: Id | None, rules: Rules) -> None:
    """Takes items above one that was chosen for passed over, where nothing came of them so far."""
    if user_id is None:
        return
    user = working.get(user_key(user_id), UserState)
    shown.last = max(shown.last, place)
    passed = {_passed(shown, position).event_id for position in range(shown.last + 1)}
    if user is not None:
        user.events = [event for event in user.events if event.event_id not in passed]
        working.put(user_key(user_id), user)
    for position in range(shown.last):
        if shown.rewards[position] == 0:
            _add_to_history(working, user_id, _passed(shown, position), rules)


def _passed(shown: ShownList, position: int) -> UserEvent:
    item_id = shown.items[position].item_id
    return UserEvent(shown.time, item_id, "skip", None, f"{shown.request_id}/{position}/passed", True)


def _add_to_history(working: Working, user_id: Id, event: UserEvent, rules: Rules) -> None:
    user = working.get(user_key(user_id), UserState) or UserState(user_id)
    bisect.insort(user.events, event, key=lambda other: (other.time, str(other.item_id), other.event_id))
    del user.events[: -rules.max_history]
    working.put(user_key(user_id), user)


def _remember_list(working: Working, user_id: Id, entry: tuple[int, str], rules: Rules) -> None:
    user = working.get(user_key(user_id), UserState) or UserState(user_id)
    bisect.insort(user.requests, entry)
    for _, request_id in user.requests[: -rules.max_requests]:
        working.put(list_key(request_id), None)
    user.requests = [
        one
        for one in user.requests[-rules.max_requests :]
        if one[0] > entry[0] - rules.attribution_hours * HOUR
    ]
    working.put(user_key(user_id), user)


def _count_item(
    working: Working,
    item_id: Id,
    time: int,
    *,
    shown: float,
    reward: float,
    expected: float,
    rules: Rules,
    hour: float = 0.0,
) -> None:
    item = working.get(item_key(item_id), ItemState) or ItemState(since=time, first=time)
    item.first = min(item.first, time)
    item.since, (old, new) = _brought_together(item.since, time, rules)
    item.shown = item.shown * old + shown * new
    item.reward = item.reward * old + reward * new
    item.expected = item.expected * old + expected * new
    number = time // HOUR
    if hour > 0:
        _count_popular(working, item_id, time, hour, rules)
    count, total = item.hours.get(number, (0.0, 0.0))
    item.hours[number] = (count + shown, total + hour)
    newest = max(item.hours)
    item.hours = {one: sums for one, sums in item.hours.items() if one > newest - rules.window_hours}
    working.put(item_key(item_id), item)


def _count_popular(working: Working, item_id: Id, time: int, reward: float, rules: Rules) -> None:
    popular = working.get(POPULAR, PopularState) or PopularState(time)
    popular.since, (old, new) = _brought_together(popular.since, time, rules)
    if old != 1.0:
        popular.rewards = {name: (one, total * old) for name, (one, total) in popular.rewards.items()}
    _, before = popular.rewards.get(str(item_id), (item_id, 0.0))
    popular.rewards[str(item_id)] = (item_id, before + reward * new)
    if len(popular.rewards) > 2 * NUM_POPULAR:
        kept = sorted(popular.rewards.items(), key=lambda entry: -entry[1][1])[:NUM_POPULAR]
        popular.rewards = dict(kept)
    working.put(POPULAR, popular)


def _learn(
    working: Working, time: int, rows: Sequence[tuple[list[float], float, float]], rules: Rules
) -> None:
    """Adds features of items that were shown, and what came of them, to the linear head."""
    rows = [row for row in rows if row[0]]
    if not rows:
        return
    size = len(rows[0][0])
    head = working.get(HEAD, LinearHead)
    if head is None or len(head.reward) != size:
        head = LinearHead(time, [0.0] * size**2, [0.0] * size)
    head.since, (old, new) = _brought_together(head.since, time, rules)
    features_ND = np.array([row[0] for row in rows])
    weights_N, gained_N = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    gram_DD = (features_ND * weights_N[:, None]).T @ features_ND
    head.gram = (np.array(head.gram) * old + gram_DD.ravel() * new).tolist()
    head.reward = (np.array(head.reward) * old + gained_N @ features_ND * new).tolist()
    working.put(HEAD, head)


def _brought_together(since: int, time: int, rules: Rules) -> tuple[int, tuple[float, float]]:
    """The later of two instants, and what remains at it of what was counted until either."""
    latest = max(since, time)
    half_life = rules.half_life_hours * HOUR
    return latest, (0.5 ** ((latest - since) / half_life), 0.5 ** ((latest - time) / half_life))


def _forget(working: Working, record: Forget) -> None:
    """Deletes what is known of a user; what items earned with them stays, as nobody's."""
    key = _user_key(record.user_hash)
    user = working.get(key, UserState)
    for _, request_id in user.requests if user is not None else ():
        working.put(list_key(request_id), None)
    working.put(key, None)


def _touched(record: Record) -> list[bytes]:
    """Keys that a record is sure to touch."""
    if isinstance(record, Request):
        keys = [list_key(record.request_id), HEAD, *(item_key(item.item_id) for item in record.items)]
    elif isinstance(record, Event):
        keys = [event_key(record.event_id), item_key(record.item_id), POPULAR]
        keys += [list_key(record.request_id)] if record.request_id is not None else []
    else:
        return []
    return [*keys, user_key(record.user_id)] if record.user_id is not None else keys


def liked(event: UserEvent, rules: Rules) -> bool:
    """Whether an event says that its item is liked."""
    return event.kind not in NEGATIVE and rules.reward(event.kind, event.value) > 0
