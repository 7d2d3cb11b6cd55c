"""StateStore: keys and packed values, changed by transactions that happen one after the other.

The store is a cache of the log: with every change it keeps the position of the log that the change came from,
in the same transaction, so that whatever is lost of it can be made again by replaying the log from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

R = TypeVar("R")


class StoreAway(Exception):  # noqa: N818 (a state, which the server answers in spite of)
    """The store or the log cannot be reached."""


class Transaction(Protocol):
    """Reads and writes that become visible together, or not at all."""

    position: int

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of keys, None where there is none."""
        ...

    def put(self, key: bytes, value: bytes | None, *, expires: int | None = None) -> None:
        """Sets a value, or deletes the key for None.

        Args:
            key: at most 400 bytes.
            value: packed.
            expires: event time in microseconds from which `StateStore.expire` may delete it; None keeps what
                was said before.
        """
        ...


class StateStore(Protocol):
    """Values by key, and the position of the log that they were made from."""

    def position(self) -> int:
        """Position of the last record that was applied; 0 for none."""
        ...

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values of keys at one instant, None where there is none."""
        ...

    def transact(self, work: Callable[[Transaction], R]) -> R:
        """Runs `work`, and makes all that it put visible at once.

        `work` sees no other's half-finished changes; it may run again where another process was quicker, so
        that it changes nothing but through the transaction. What it sets as `position` is kept with it.
        """
        ...

    def expire(self, before: int, *, limit: int = 10_000) -> int:
        """Deletes up to `limit` values whose `expires` lies before an instant; how many there were."""
        ...

    def clear(self) -> None:
        """Forgets everything, the position included, so that the log is replayed from its beginning."""
        ...

    def size_bytes(self) -> int:
        """Bytes that the values take."""
        ...

    def close(self) -> None:
        """Lets go of files and connections."""
        ...
