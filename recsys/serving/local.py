"""LocalServer: a server in this process, without HTTP, whose clock is told: for simulations of long times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys.serving.catalogue import without_validity
from recsys.serving.journal import now_microseconds
from recsys.serving.log.interface import FeedbackLog
from recsys.serving.messages import FeedbackAnswer, FeedbackEvent, Recommendation, RecommendRequest
from recsys.serving.options import ServeOptions
from recsys.serving.records import NewItems, Record
from recsys.serving.rules import DAY, SECOND
from recsys.serving.served import ServedBundle
from recsys.serving.service import Service

_UPKEEP_REQUESTS = 2000


class LocalServer:
    """Answers as `recsys.serving.client.Client` does, one after the other.

    A list is written with the feedback that follows it, in one transaction. Its clock begins on the last
    Thursday at midnight (UTC), so that models that read hours and weekdays answer alike whenever it is run.

    Args:
        options: of the server.
        step_seconds: by which its clock goes on with each request.
    """

    def __init__(self, options: ServeOptions, *, step_seconds: float) -> None:
        self.service = Service(options, started=0)
        now = now_microseconds()
        self.now = now - now % (7 * DAY)  # 1970 began on a Thursday
        self._step = round(step_seconds * SECOND)
        self._waiting: list[Record] = []
        self._requests = 0

    def recommend(self, user: dict[str, Any], k: int = 10, **more: Any) -> Recommendation:
        """A list, see `RecommendRequest`."""
        self._write()
        self.now += self._step
        answer, records = self.service.feed.recommend(RecommendRequest(user=user, k=k, **more), now=self.now)
        self._waiting += records
        self._requests += 1
        self.service.follower.leave(self.now)
        if self._requests % _UPKEEP_REQUESTS == 0:
            self._write()
            self.service.journal.keep_up(self.now)
        return answer

    def feedback(self, events: Sequence[FeedbackEvent]) -> FeedbackAnswer:
        """Counts events."""
        read = [self.service.event(event, f"events[{n}]", self.now) for n, event in enumerate(events)]
        self._waiting += read
        outcome = self._write()
        return FeedbackAnswer(*outcome)

    def add_items(self, items: Sequence[dict[str, Any]]) -> int:
        """Adds items to the catalogue; how many."""
        self._waiting.append(NewItems(list(items), self.now))
        self.service.new_items.add(items, self.now)
        return self.service.box.current.add_items([without_validity(item) for item in items])

    def ready(self) -> dict[str, Any]:
        """Where the bundle and the folder are."""
        options = self.service.options
        return {"bundle_path": str(self.service.box.current.folder), "folder": str(options.folder)}

    @property
    def log(self) -> FeedbackLog:
        """Everything that was shown and heard, once it is written."""
        self._write()
        return self.service.journal.log

    def exchange_bundle(self, path: str) -> str:
        """Serves by another bundle; its fingerprint."""
        self._write()
        new = ServedBundle(Path(path))
        self._waiting += self.service.follower.exchange(new, self.now)
        return new.fingerprint

    def close(self) -> None:
        """Writes what waits."""
        self._write()

    def _write(self) -> tuple[int, int]:
        if not self._waiting:
            return 0, 0
        waiting, self._waiting = self._waiting, []
        outcome = self.service.journal.commit(waiting)
        return outcome.accepted, outcome.repeated
