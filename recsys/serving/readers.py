"""Readers: what the state knows of whoever asks, and the query that a bundle is asked for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from recsys.schema.tables import TIMESTAMP
from recsys.serving.learning import LinearHead, Positions, Taste
from recsys.serving.messages import RecommendRequest
from recsys.serving.options import ServeOptions
from recsys.serving.records import Id
from recsys.serving.rules import HOUR, NEGATIVE
from recsys.serving.served import Query, iso_text
from recsys.serving.state import UserEvent, UserState, liked
from recsys.serving.store.interface import StateStore, StoreAway
from recsys.serving.working import HEAD, POSITIONS, reader_key, session_key, taste_key

T = TypeVar("T", bound=msgspec.Struct)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Holds what the state knows of whoever asks.

    Args:
        events: by time, the oldest first; of the user, and of the session before they were known.
        seen: items that were liked before those.
        taste, head, positions: what was learned, of the reader and of all.
        is_away: whether the state could not be read.
    """

    events: Sequence[UserEvent] = ()
    seen: Sequence[Id] = ()
    taste: Taste | None = None
    head: LinearHead | None = None
    positions: Positions | None = None
    is_away: bool = False


def read_reader(store: StateStore, user_id: Id | None, session: str | None) -> Reader:
    """Reads a reader at once.

    Args:
        store: the state.
        user_id: of the reader; None for somebody unknown.
        session: of the visit, which remembers somebody unknown; None without one.
    """
    key = reader_key(user_id, session)
    wanted: dict[bytes, type[msgspec.Struct]] = {HEAD: LinearHead, POSITIONS: Positions}
    if key is not None:
        wanted |= {key: UserState, taste_key(key): Taste}
    if session is not None:
        wanted[session_key(session)] = UserState
    try:
        contents = dict(zip(wanted, store.get(list(wanted)), strict=True))
    except StoreAway:
        return Reader(is_away=True)
    visits = {one for one in (key, None if session is None else session_key(session)) if one is not None}
    states = [_read(contents[one], UserState) for one in sorted(visits)]
    events = [event for state in states if state is not None for event in state.events]
    if len(states) > 1:
        events.sort(key=lambda event: event.time)
    return Reader(
        events,
        [item_id for state in states if state is not None for item_id in state.seen],
        None if key is None else _read(contents[taste_key(key)], Taste),
        _read(contents[HEAD], LinearHead),
        _read(contents[POSITIONS], Positions),
    )


def _read(content: bytes | None, kind: type[T]) -> T | None:
    return None if content is None else msgspec.msgpack.decode(content, type=kind)


def query_of(
    asked: RecommendRequest, reader: Reader, now: int, options: ServeOptions, *, reads_skips: bool
) -> Query:
    """The query that a request asks a bundle; a history that it brings replaces all that is stored."""
    context = asked.context if TIMESTAMP in asked.context else {**asked.context, TIMESTAMP: iso_text(now)}
    if asked.history is not None:
        history: list[Id] = list(asked.history)
        times, are_liked, gone, seen = None, [True] * len(history), [], []
    else:
        rules = options.rules
        since = now - int(options.exclude_skipped_hours * HOUR)
        gone = [
            event.item_id
            for event in reader.events
            if event.kind in NEGATIVE and not event.inferred and event.time > since
        ]
        with_likes = [(event, liked(event, rules)) for event in reader.events]
        read = [(event, good) for event, good in with_likes if reads_skips or good]
        history = [event.item_id for event, _ in read]
        times = [event.time for event, _ in read]
        are_liked = [good for _, good in read]
        seen = list(reader.seen)
    exclude = [*asked.exclude, *gone]
    return Query(asked.user, context, history, times, are_liked, exclude, asked.where, asked.candidates, seen)
