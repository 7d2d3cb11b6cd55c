"""A lock for what many threads read and one at a time changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ReadersWriterLock:
    """Lets many readers in at once, or one writer alone, and neither kind waits for ever.

    A writer that waits goes before readers that come after it; the readers that wait when it is done go
    before the next writer. Not re-entrant: a thread that reads must not ask to read or write again.

    Example:
        >>> lock = ReadersWriterLock()
        >>> with lock.reading():
        ...     pass
        >>> with lock.writing():
        ...     pass
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._is_written = False
        self._readers = 0
        self._waiting_writers = 0
        self._waiting_readers = 0
        # Readers that go before the next writer.
        self._admitted = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Holds the lock beside other readers."""
        with self._changed:
            if self._is_written or self._waiting_writers:
                self._waiting_readers += 1
                while self._is_written or (self._waiting_writers and not self._admitted):
                    self._changed.wait()
                self._waiting_readers -= 1
                self._admitted = max(self._admitted - 1, 0)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                if not self._readers:
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the lock alone."""
        with self._changed:
            self._waiting_writers += 1
            while self._is_written or self._readers or self._admitted:
                self._changed.wait()
            self._waiting_writers -= 1
            self._is_written = True
        try:
            yield
        finally:
            with self._changed:
                self._is_written = False
                self._admitted = self._waiting_readers
                self._changed.notify_all()
