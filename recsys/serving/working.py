"""Working: the state that a transaction works on, and the keys under which it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from recsys.serving.records import Id, hash_of
from recsys.serving.store.interface import Transaction

T = TypeVar("T", bound=msgspec.Struct)
_LONGEST_KEY = 300
HEAD = b"head"
POSITIONS = b"positions"
POPULAR = b"popular"
CATALOGUE = b"catalogue"
POLICIES = b"policies"
SPACE = b"space"


def user_key(user_id: Id) -> bytes:
    """Key of a user's state."""
    return user_key_of(hash_of(user_id))


def user_key_of(user_hash: str) -> bytes:
    """Key of the state of a user whose id has this digest."""
    return b"u:" + user_hash.encode()


def session_key(session: str) -> bytes:
    """Key of the state of a session of somebody unknown."""
    return b"s:" + hash_of(session).encode()


def reader_key(user_id: Id | None, session: str | None) -> bytes | None:
    """Key of the state of whoever asks: of the user, else of the session, else None."""
    if user_id is not None:
        return user_key(user_id)
    return None if session is None else session_key(session)


def taste_key(reader: bytes) -> bytes:
    """Key of the taste of a reader whose state has this key."""
    return b"t:" + reader


def popular_key(segment: str) -> bytes:
    """Key of what is popular with a segment of the readers; with everybody where it is empty."""
    return _key(b"popular:", segment) if segment else POPULAR


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
        touched: keys that are read at once.
    """

    def __init__(self, transaction: Transaction, touched: Iterable[bytes] = ()) -> None:
        self._transaction = transaction
        self._values: dict[bytes, msgspec.Struct | None] = {}
        self._raw: dict[bytes, bytes | None] = {}
        self._expires: dict[bytes, int] = {}
        self._changed: set[bytes] = set()
        keys = list(set(touched))
        self._raw.update(zip(keys, transaction.get(keys), strict=True))

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
