"""FeedbackLog: what happened, in one order, kept for good once it was acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class FeedbackLog(Protocol):
    """Records at positions 1, 2, ... that ascend, perhaps with gaps."""

    def append(self, records: Sequence[bytes]) -> list[int]:
        """Adds records, and returns their positions once none of them can be lost any more."""
        ...

    def read(self, after: int, *, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Positions and records after a position, oldest first, at most `limit`; empty at the end."""
        ...

    def end(self) -> int:
        """Position of the last record that was appended; 0 for none."""
        ...

    def forget(self, user_hash: str) -> int:
        """Deletes the records of a user where the log can; how many.

        A log that cannot (Kafka) keeps them until its own retention; who reads it as tables leaves them out.
        """
        ...

    def trim(self, before: int) -> int:
        """Deletes the oldest records, of requests and events before an instant; how many.

        Args:
            before: microseconds since 1970 (UTC).
        """
        ...

    def size_bytes(self) -> int:
        """Bytes that the records take; 0 where the log does not say."""
        ...

    def close(self) -> None:
        """Lets go of files and connections."""
        ...
