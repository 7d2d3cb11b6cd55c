"""Events -> state: pure functions, so that replaying the log gives the same state again.

What is kept does not depend on the order in which events arrive, but for rounding: histories are sorted by
the events' own times, sums that fade are brought to a common instant, and an event that arrives before the
list it refers to waits for it. So a late event is placed where it belongs, and a clock that goes backwards
breaks nothing.

    user    latest events by time, lists that events may refer to; of a session, where there is no user
    list    what was shown in a request, until its events count no more
    event   the position of the log that an event id was first counted at

What is learned of rewards is in `recsys.serving.learning`.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping

import msgspec

from recsys.serving.learning import count_gained, count_item, count_policy, count_shown
from recsys.serving.records import Event, Forget, Id, Record, Request, ShownItem, Space
from recsys.serving.rules import DAY, HOUR, NEGATIVE, Rules
from recsys.serving.working import (
    CATALOGUE,
    HEAD,
    POLICIES,
    POPULAR,
    POSITIONS,
    SPACE,
    Working,
    event_key,
    item_key,
    list_key,
    reader_key,
    taste_key,
    user_key_of,
)


class UserEvent(msgspec.Struct, array_like=True, frozen=True):
    """An event in a user's history; `inferred` for a skip that nobody said."""

    time: int
    item_id: Id
    kind: str
    value: float | None
    event_id: str
    inferred: bool = False


class UserState(msgspec.Struct):
    """Holds the events of a user by time, the oldest first, and the lists that events may refer to.

    Args:
        user_id: None in a session of somebody unknown.
        events: the latest that say that an item is liked, and as many that do not, so that skips, of which
            there are many, crowd out nothing.
        requests: time and id of lists.
        latest: when the user was last heard of.
        seen: when items were liked before `events`, by the text of their ids.
    """

    user_id: Id | None
    events: list[UserEvent] = []
    requests: list[tuple[int, str]] = []
    latest: int = 0
    seen: dict[str, int] = {}


class ShownList(msgspec.Struct):
    """A list that events may refer to.

    Args:
        request_id, time, user_id, session, space, items: as logged.
        rewards: by position.
        last: the lowest position that was chosen, from 0; what is above it was chosen or passed over.
        waiting: events that came before the list.
        segment: of the reader, see `Rules.segment`.
        chosen_by: the arm, else the policy.
    """

    request_id: str = ""
    time: int = 0
    user_id: Id | None = None
    session: str | None = None
    space: str = ""
    items: list[ShownItem] = []
    rewards: list[float] = []
    last: int = 0
    waiting: list[Event] = []
    segment: str = ""
    chosen_by: str = ""


class CatalogueState(msgspec.Struct):
    """Positions in the log of what changed the catalogue or the bundle."""

    positions: list[int] = []


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
            expires = max(record.time, record.received) + int(rules.repeated_days * DAY)
            working.put(event_key(record.event_id), EventPosition(position), expires=expires)
            _apply_event(working, record, rules)
    elif isinstance(record, Forget):
        _forget(working, record)
    elif isinstance(record, Space):
        working.put(SPACE, record)
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
    shown = ShownList(
        request_id=request.request_id,
        time=request.time,
        user_id=request.user_id,
        session=request.session,
        space=request.space,
        items=request.items,
        rewards=[0.0] * len(request.items),
        segment=rules.segment(request.user, request.context),
        chosen_by=request.arm or request.policy,
    )
    working.put(key, shown, expires=request.time + int(rules.attribution_hours * HOUR))
    reader = reader_key(request.user_id, request.session)
    if reader is not None:
        _remember_list(working, reader, request, rules)
    count_shown(working, request.items, request.time, taste_key=_taste_of(reader), space=request.space,
                rules=rules)  # fmt: skip
    count_policy(working, shown.chosen_by, lists=1, regret=request.regret)
    for event in before.waiting if before is not None else ():
        if reader is not None and event.is_nameless:
            _add_to_history(working, reader, request.user_id, _heard(event), event.received, rules)
        _credit_list(working, event, rules)


def _apply_event(working: Working, event: Event, rules: Rules) -> None:
    user_id, session = event.user_id, event.session
    if event.is_nameless and event.request_id is not None:
        shown = working.get(list_key(event.request_id), ShownList)
        user_id, session = (None, None) if shown is None else (shown.user_id, shown.session)
    reader = reader_key(user_id, session)
    if reader is not None:
        _add_to_history(working, reader, user_id, _heard(event), event.received, rules)
    if event.request_id is not None:
        _credit_list(working, event, rules)
    else:
        reward = rules.reward(event.kind, event.value)
        count_item(working, event.item_id, event.time, hour=reward, rules=rules)


def of_its_reader(event: Event, lists: Mapping[str, Request | ShownList]) -> Event:
    """The event; one that names nobody then names the reader of its list, where that is known."""
    shown = lists.get(event.request_id or "") if event.is_nameless else None
    if shown is None:
        return event
    return msgspec.structs.replace(event, user_id=shown.user_id, session=shown.session)


def _heard(event: Event) -> UserEvent:
    return UserEvent(event.time, event.item_id, event.kind, event.value, event.event_id)


def _credit_list(working: Working, event: Event, rules: Rules) -> None:
    """Counts an event for the position of the list that showed its item."""
    key = list_key(str(event.request_id))
    shown = working.get(key, ShownList)
    if shown is None or not shown.items:
        shown = shown or ShownList()
        shown.waiting = [*shown.waiting, event]
        expires = max(event.time, event.received) + int(rules.attribution_hours * HOUR)
        working.put(key, shown, expires=expires)
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
        reader = reader_key(shown.user_id, shown.session)
        count_gained(working, item, place, gained, shown.time, taste_key=_taste_of(reader), space=shown.space,
                     rules=rules, segment=shown.segment)  # fmt: skip
        count_policy(working, shown.chosen_by, reward=gained)
        if reader is None:
            reader = reader_key(event.user_id, event.session)
        _infer_skips(working, shown, place, reader, rules)
    working.put(key, shown)


def _taste_of(reader: bytes | None) -> bytes | None:
    return None if reader is None else taste_key(reader)


def _infer_skips(working: Working, shown: ShownList, place: int, reader: bytes | None, rules: Rules) -> None:
    """Takes items above one that was chosen for passed over, where nothing came of them so far."""
    if reader is None:
        return
    user = working.get(reader, UserState)
    shown.last = max(shown.last, place)
    passed = {_passed(shown, position).event_id for position in range(shown.last + 1)}
    if user is not None:
        user.events = [event for event in user.events if event.event_id not in passed]
        _keep(working, reader, user, shown.time, rules)
    for position in range(shown.last):
        if shown.rewards[position] == 0:
            _add_to_history(working, reader, shown.user_id, _passed(shown, position), shown.time, rules)


def _passed(shown: ShownList, position: int) -> UserEvent:
    item_id = shown.items[position].item_id
    return UserEvent(shown.time, item_id, "skip", None, f"{shown.request_id}/{position}/passed", True)


def _add_to_history(
    working: Working, reader: bytes, user_id: Id | None, event: UserEvent, received: int, rules: Rules
) -> None:
    user = working.get(reader, UserState) or UserState(user_id)
    bisect.insort(user.events, event, key=lambda other: (other.time, str(other.item_id), other.event_id))
    _make_room(user, liked(event, rules), rules)
    _keep(working, reader, user, received, rules)


def _make_room(user: UserState, good: bool, rules: Rules) -> None:
    """Drops the oldest of too many events that like their items, or that do not; `seen` keeps the former."""
    if len(user.events) <= rules.max_history:
        return
    alike = [event for event in user.events if liked(event, rules) == good]
    for event in alike[: -rules.max_history]:
        user.events.remove(event)
        if good:
            _remember_seen(user, event, rules)


def _remember_seen(user: UserState, event: UserEvent, rules: Rules) -> None:
    """Adds an item to those that were liked earlier, which lie by time, then by id."""
    name = str(event.item_id)
    time = max(event.time, user.seen.pop(name, event.time))
    is_late = bool(user.seen) and time <= next(reversed(user.seen.values()))
    user.seen[name] = time
    if is_late:
        user.seen = dict(sorted(user.seen.items(), key=lambda entry: entry[::-1]))
    if len(user.seen) > rules.max_seen:
        del user.seen[next(iter(user.seen))]


def _remember_list(working: Working, reader: bytes, request: Request, rules: Rules) -> None:
    user = working.get(reader, UserState) or UserState(request.user_id)
    bisect.insort(user.requests, (request.time, request.request_id))
    for _, request_id in user.requests[: -rules.max_requests]:
        working.put(list_key(request_id), None)
    user.requests = [
        one
        for one in user.requests[-rules.max_requests :]
        if one[0] > request.time - rules.attribution_hours * HOUR
    ]
    _keep(working, reader, user, request.time, rules)


def _keep(working: Working, reader: bytes, user: UserState, time: int, rules: Rules) -> None:
    """Keeps what is known of a reader for as long as the log keeps it, to the day."""
    user.latest = max(user.latest, time)
    working.put(reader, user, expires=int((user.latest // DAY + 1 + rules.retention_days) * DAY))


def _forget(working: Working, record: Forget) -> None:
    """Deletes what is known of a user; what items earned with them stays, as nobody's."""
    key = user_key_of(record.user_hash)
    user = working.get(key, UserState)
    for _, request_id in user.requests if user is not None else ():
        working.put(list_key(request_id), None)
    working.put(key, None)
    working.put(taste_key(key), None)


def touched(records: Iterable[Record]) -> list[bytes]:
    """Keys that records are sure to touch."""
    return [key for record in records for key in _touched(record)]


def _touched(record: Record) -> list[bytes]:
    if isinstance(record, Request):
        keys = [
            list_key(record.request_id),
            HEAD,
            POSITIONS,
            POLICIES,
            *(item_key(item.item_id) for item in record.items),
        ]
    elif isinstance(record, Event):
        keys = [event_key(record.event_id), item_key(record.item_id), POPULAR]
        keys += [list_key(record.request_id), POLICIES] if record.request_id is not None else []
    else:
        return []
    reader = reader_key(record.user_id, record.session)
    return keys if reader is None else [*keys, reader, taste_key(reader)]


def liked(event: UserEvent, rules: Rules) -> bool:
    """Whether an event says that its item is liked."""
    return event.kind not in NEGATIVE and rules.reward(event.kind, event.value) > 0
