"""Journal: a log and the state that follows from it, kept together while processes come and go.

Records are written in groups: whatever waits while the disk is busy goes into the next group, which costs one
fsync. A future is resolved when its records can't be lost any more and the state has seen them.

    one file (LMDB)       log and state change in one transaction
    log and store apart   the log acknowledges first; then the store applies whatever of the log it has not
                          seen, together with the position up to which it has
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import msgspec

from recsys.serving.log.interface import FeedbackLog
from recsys.serving.log.lmdb import LmdbLog
from recsys.serving.records import Event, Forget, Record, Request, decode, encode
from recsys.serving.rules import DAY, SECOND, Rules
from recsys.serving.state import ShownList, apply, counted_at, of_its_reader, touched
from recsys.serving.store.interface import StateStore, StoreAway, Transaction
from recsys.serving.store.lmdb import LmdbStore, LmdbTransaction
from recsys.serving.working import Working, list_key

logger = logging.getLogger(__name__)

_BATCH = 1000
_UPKEEP_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Counts the events among some records: those accepted, and those that repeat earlier ones.

    Args:
        accepted: were counted.
        repeated: had been counted before, and changed nothing.
        applied: whether the state has seen them; not while the store is away.
    """

    accepted: int
    repeated: int
    applied: bool = True


@dataclasses.dataclass
class _Waiting:
    records: Sequence[Record]
    future: Future[Outcome] | asyncio.Future[Outcome]


_Settled = tuple[Future[Outcome] | asyncio.Future[Outcome], Outcome | Exception]


class Journal:
    """Writes records, and has the state follow.

    Args:
        log: the truth.
        store: the state.
        rules: by which events are counted.
    """

    def __init__(self, log: FeedbackLog, store: StateStore, rules: Rules) -> None:
        self.log = log
        self.store = store
        self.rules = rules
        # Sharing a file, they share transactions.
        self._embedded = (
            log if isinstance(log, LmdbLog) and isinstance(store, LmdbStore)
            and log.environment is store.environment else None
        )  # fmt: skip
        self._waiting: list[_Waiting] = []
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        # When the state was last known to have seen all of the log.
        self._current_at = now_microseconds()
        self._is_behind = False

    def start(self) -> None:
        """Brings the state up to the log, and begins to write in a thread."""
        self.catch_up()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def submit(self, records: Sequence[Record]) -> Future[Outcome]:
        """Has records written; the future tells when they are durable, or why they are not."""
        future: Future[Outcome] = Future()
        self._take(_Waiting(records, future))
        return future

    async def written(self, records: Sequence[Record]) -> Outcome:
        """Writes records and waits until they are durable; an event loop is woken once for a whole group."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._take(_Waiting(records, future))
        return await future

    def _take(self, waiting: _Waiting) -> None:
        with self._wake:
            self._waiting.append(waiting)
            self._wake.notify()

    @property
    def waiting(self) -> int:
        """Counts the submissions that are not durable yet."""
        return len(self._waiting)

    def close(self) -> None:
        """Writes what waits, and stops."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def commit(self, records: Sequence[Record]) -> Outcome:
        """Writes records at once, in the calling thread."""
        [outcome] = self._commit([records])
        return outcome

    def age(self, now: int) -> int:
        """Microseconds since the state had last seen all of the log; 0 while it has."""
        return max(now - self._current_at, 0) if self._is_behind else 0

    def lag(self) -> int:
        """Position of the log's end minus that of the state; 0 when all is applied."""
        return self.log.end() - self.store.position()

    def catch_up(self, until: int | None = None) -> int:
        """Applies what the state has not seen of the log, and returns how many records.

        Args:
            until: stops once this position is applied; None goes to the end.
        """
        applied = 0
        while until is None or self.store.position() < until:
            count = self.store.transact(self._apply_next)
            applied += count
            if not count:
                break
        self._note(is_behind=False)
        return applied

    def _note(self, *, is_behind: bool) -> None:
        self._is_behind = is_behind
        if not is_behind:
            self._current_at = now_microseconds()

    def rebuild(self) -> int:
        """Makes the state again from the log, by the same functions."""
        self.store.clear()
        return self.catch_up()

    def _apply_next(self, transaction: Transaction) -> int:
        batch = [
            (position, decode(content))
            for position, content in self.log.read(transaction.position, limit=_BATCH)
        ]
        self._apply(transaction, batch)
        return len(batch)

    def _apply(self, transaction: Transaction, batch: Sequence[tuple[int, Record]]) -> None:
        if not batch:
            return
        working = Working(transaction, touched(record for _, record in batch))
        for position, record in batch:
            apply(working, record, position=position, rules=self.rules)
        working.finish()
        transaction.position = batch[-1][0]

    def _run(self) -> None:
        upkeep = time.monotonic() + _UPKEEP_SECONDS
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closed, timeout=1.0)
                taken, self._waiting = self._waiting, []
                if not taken and self._closed:
                    return
            if taken:
                self._settle(taken)
            if time.monotonic() > upkeep:
                upkeep = time.monotonic() + _UPKEEP_SECONDS
                self._attempt(self.keep_up)

    def _settle(self, taken: Sequence[_Waiting]) -> None:
        outcomes: Sequence[Outcome | Exception]
        try:
            outcomes = self._commit([one.records for one in taken])
        except Exception as error:
            if not isinstance(error, StoreAway):
                if len(taken) > 1:  # what one of them holds must not cost the others theirs
                    for one in taken:
                        self._settle([one])
                    return
                logger.exception("records could not be written")
            outcomes = [error] * len(taken)
        by_loop: dict[asyncio.AbstractEventLoop | None, list[_Settled]] = {}
        for one, outcome in zip(taken, outcomes, strict=True):
            loop = one.future.get_loop() if isinstance(one.future, asyncio.Future) else None
            by_loop.setdefault(loop, []).append((one.future, outcome))
        for loop, settled in by_loop.items():
            if loop is None:
                _resolve(settled)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, settled)

    def _commit(self, groups: Sequence[Sequence[Record]]) -> list[Outcome]:
        records = self._with_readers([record for group in groups for record in group])
        if self._embedded is not None:
            new = self.store.transact(lambda transaction: self._append_and_apply(transaction, records))
            applied = True
        else:
            positions = self.log.append([encode(record) for record in records])
            new, applied = self._follow(records, positions)
            self._note(is_behind=not applied)
        for record in records:
            if isinstance(record, Forget):
                self.log.forget(record.user_hash)
        outcomes, begin = [], 0
        for group in groups:
            events = [new[begin + place] for place, record in enumerate(group) if isinstance(record, Event)]
            outcomes.append(Outcome(sum(events), len(events) - sum(events), applied))
            begin += len(group)
        return outcomes

    def _with_readers(self, records: Sequence[Record]) -> list[Record]:
        """Records whose events name the reader of their list, so that they are forgotten with them."""
        nameless = [one for one in records if isinstance(one, Event) and one.request_id and one.is_nameless]
        if not nameless:
            return list(records)
        lists = {one.request_id: one for one in records if isinstance(one, Request) and not one.shadow}
        named: dict[str, Request | ShownList] = dict(lists)
        wanted = list({str(one.request_id) for one in nameless} - set(lists))
        try:
            contents = self.store.get([list_key(one) for one in wanted])
        except StoreAway:
            contents = [None] * len(wanted)
        for request_id, content in zip(wanted, contents, strict=True):
            if content is not None:
                named[request_id] = msgspec.msgpack.decode(content, type=ShownList)
        return [of_its_reader(one, named) if isinstance(one, Event) else one for one in records]

    def _append_and_apply(self, transaction: Transaction, records: Sequence[Record]) -> list[bool]:
        """Whether each record is new; events that are not are left out of the log."""
        assert self._embedded is not None
        assert isinstance(transaction, LmdbTransaction)
        working = Working(transaction, touched(records))
        seen: set[str] = set()
        new = []
        for record in records:
            name = record.event_id if isinstance(record, Event) else None
            new.append(name is None or (name not in seen and counted_at(working, name) is None))
            if name is not None:
                seen.add(name)
        fresh = [record for record, is_new in zip(records, new, strict=True) if is_new]
        positions = self._embedded.append_within(transaction, fresh)
        for position, record in zip(positions, fresh, strict=True):
            apply(working, record, position=position, rules=self.rules)
            transaction.position = position
        working.finish()
        return new

    def _follow(self, records: Sequence[Record], positions: Sequence[int]) -> tuple[list[bool], bool]:
        """Whether each record is new and whether the state has seen them; while it is away, all are new."""
        mine = dict(zip(positions, records, strict=True))

        def work(transaction: Transaction) -> bool:
            behind = (
                transaction.position < positions[0] - 1
                and self.log.read(transaction.position, limit=1)[0][0] != positions[0]
            )
            if behind or transaction.position >= positions[0]:
                return False
            self._apply(transaction, list(mine.items()))
            return True

        try:
            # Mostly nobody else has written in between, and the log need not be read again.
            if not self.store.transact(work):
                self.catch_up(positions[-1])
            keys = [record.event_id if isinstance(record, Event) else None for record in records]
            return self.store.transact(
                lambda transaction: [
                    key is None or counted_at(Working(transaction), key) == position
                    for key, position in zip(keys, positions, strict=True)
                ]
            ), True
        except StoreAway:
            return [True] * len(records), False

    def keep_up(self, now: int | None = None) -> None:
        """Deletes what has expired, and what the log keeps no longer; applies what others have left."""
        now = now_microseconds() if now is None else now
        while self.store.expire(now) > 0:
            pass
        self.log.trim(now - int(self.rules.retention_days * DAY))
        self.catch_up()

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except StoreAway as error:
            logger.warning("%s; trying again in %d seconds", error, _UPKEEP_SECONDS)


def _resolve(settled: Sequence[_Settled]) -> None:
    for future, outcome in settled:
        if future.cancelled():  # whoever waited has left
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def now_microseconds() -> int:
    """The server's clock."""
    return time.time_ns() // 1000


def seconds(microseconds: int) -> float:
    """Microseconds as seconds."""
    return microseconds / SECOND
