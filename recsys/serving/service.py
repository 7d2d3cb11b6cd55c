"""Service: what each route of the server does; HTTP is `recsys.serving.app`."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec

from recsys.schema.errors import InputError
from recsys.schema.tables import ITEM_ID, USER_ID
from recsys.serving.catalogue import (
    VALID_UNTIL,
    Follower,
    NewItemList,
    catalogue_changes,
    take_up_space,
    without_validity,
)
from recsys.serving.feed import Feed
from recsys.serving.journal import Outcome, now_microseconds
from recsys.serving.learning import Policies
from recsys.serving.messages import (
    AvailabilityAnswer,
    AvailabilityRequest,
    BundleAnswer,
    BundleRequest,
    FeedbackAnswer,
    FeedbackEvent,
    FeedbackRequest,
    FieldError,
    ForgottenAnswer,
    GivenField,
    GivenId,
    HistoryEvent,
    ItemsAnswer,
    ItemsRequest,
    Recommendation,
    RecommendRequest,
    UserAnswer,
    microseconds_of,
)
from recsys.serving.metrics import Metrics, labelled
from recsys.serving.opening import open_journal
from recsys.serving.options import ServeOptions
from recsys.serving.records import Availability, BundleChange, Event, Forget, Id, NewItems, hash_of
from recsys.serving.rules import SECOND, Rules
from recsys.serving.served import BundleBox, ServedBundle, open_beside
from recsys.serving.state import UserState
from recsys.serving.store.interface import StoreAway
from recsys.serving.working import POLICIES, user_key


class Overloaded(Exception):  # noqa: N818 (a state)
    """More waits than is answered in time."""


class Service:
    """A process of the server.

    Args:
        options: of the server.
        started: when the server, not this process, began; later changes of the bundle hold.
    """

    def __init__(self, options: ServeOptions, *, started: int) -> None:
        self.options = options
        self.journal = open_journal(options)
        self.journal.catch_up()
        first = ServedBundle(self._bundle(started))
        if spaces := take_up_space(first, self.journal.store, now_microseconds()):
            self.journal.commit(spaces)
        self.box = BundleBox(first)
        self.new_items = NewItemList(hours=options.new_item_hours)
        self.follower = Follower(self.journal, self.box, self.new_items)
        self.feed = Feed(self.box, self.journal, self.new_items, options)
        self.metrics = Metrics(Path(options.folder) / "metrics" if options.workers > 1 else None)
        self._waiting = 0
        self._turn = asyncio.Lock()

    def start(self) -> None:
        """Begins to write and to follow."""
        self.journal.start()
        self.follower.start()

    def close(self) -> None:
        """Writes what waits, and stops."""
        self.follower.close()
        self.journal.close()

    def _bundle(self, started: int) -> Path:
        """The bundle that the server was told to serve last."""
        changes = [record for record in catalogue_changes(self.journal) if isinstance(record, BundleChange)]
        later = [Path(change.path) for change in changes if change.time > started]
        return later[-1] if later else Path(self.options.bundle)

    async def recommend(self, asked: RecommendRequest) -> Recommendation:
        """Answers a request for a list, and logs it.

        Raises:
            Overloaded: too many wait.
        """
        user_id = asked.user.get(USER_ID)
        if user_id is not None:
            check_id(user_id, field=f"user.{USER_ID}")
        check_record(asked.user, "user")
        check_record(asked.context, "context")
        if asked.k > self.options.max_k:
            raise FieldError(f"`k` must be at most {self.options.max_k}, got {asked.k}", field="k")
        if self._waiting >= self.options.max_waiting:
            self.metrics.count("recsys_refused_total")
            raise Overloaded
        self._waiting += 1
        try:
            # One after the other: the model takes a whole core. In between, others are refused or answered.
            async with self._turn:
                answer, records = self.feed.recommend(asked, now=now_microseconds())
        finally:
            self._waiting -= 1
        # The answer does not wait for the disk: what is lost with it is a list that nobody has acted on yet.
        self.journal.submit(records).add_done_callback(self._note_lost)
        self.metrics.count(
            "recsys_lists_total", policy=answer.policy, rung=answer.rung, arm=records[0].arm or ""
        )
        return answer

    def _note_lost(self, written: Future[Outcome]) -> None:
        if written.exception() is not None:
            self.metrics.count("recsys_lost_lists_total")

    async def feedback(self, given: FeedbackRequest) -> FeedbackAnswer:
        """Counts events; answers once they can't be lost any more.

        Raises:
            Overloaded: too many wait.
        """
        if self.journal.waiting > 4 * self.options.max_waiting:
            self.metrics.count("recsys_refused_total")
            raise Overloaded
        now = now_microseconds()
        events = [self.event(one, f"events[{n}]", now) for n, one in enumerate(given.events)]
        if not events:
            return FeedbackAnswer(0, 0)
        outcome = await self.journal.written(events)
        for event in events:
            self.metrics.count("recsys_events_total", kind=event.kind)
        self.metrics.count("recsys_repeated_events_total", outcome.repeated)
        return FeedbackAnswer(outcome.accepted, outcome.repeated)

    def event(self, given: FeedbackEvent, name: str, now: int) -> Event:
        """The record of an event.

        Args:
            given: as sent.
            name: of it in the request, for messages.
            now: microseconds since 1970 (UTC).

        Raises:
            ValueError: naming the field.
        """
        if given.user_id is None and given.request_id is None and given.session is None:
            raise FieldError(
                f"`{name}` must have a `user_id`, a `request_id` or a `session`, got none of them",
                field=f"{name}.user_id",
            )
        time = now
        if given.timestamp is not None:
            time = _time_of(given.timestamp, f"{name}.timestamp", now, self.options.rules)
        if given.event_id is not None:
            event_id = given.event_id
        elif given.request_id is not None:
            event_id = f"{given.request_id}/{given.item_id}/{given.event}"
        elif given.timestamp is not None:
            reader = given.session if given.user_id is None else given.user_id
            event_id = f"{reader}/{given.item_id}/{given.event}/{time}"
        else:
            event_id = uuid.uuid4().hex
        return Event(
            event_id=event_id,
            request_id=given.request_id,
            user_id=given.user_id,
            item_id=given.item_id,
            kind=given.event,
            value=given.value,
            time=time,
            received=now,
            session=given.session,
        )

    async def add_items(self, given: ItemsRequest) -> ItemsAnswer:
        """Has items join the catalogue of every process."""
        for n, item in enumerate(given.items):
            check_id(item.get(ITEM_ID), field=f"items[{n}].{ITEM_ID}")
            check_record(item, f"items[{n}]")
            if item.get(VALID_UNTIL) is not None:
                microseconds_of(item[VALID_UNTIL], field=f"items[{n}].{VALID_UNTIL}")
        self.follower.catch_up()
        # This process's bundle says whether they can be read, before any other hears of them.
        added = self.box.current.add_items([without_validity(item) for item in given.items])
        await self.journal.written([NewItems(given.items, now_microseconds())])
        self.follower.catch_up()
        return ItemsAnswer(added)

    async def set_available(self, given: AvailabilityRequest) -> AvailabilityAnswer:
        """Says in every process whether items may be recommended."""
        self.follower.catch_up()
        known = sum(self.box.current.knows(given.item_ids))
        record = Availability(list(given.item_ids), given.available, now_microseconds())
        await self.journal.written([record])
        self.follower.catch_up()
        return AvailabilityAnswer(known)

    def user(self, user_id: Id) -> UserAnswer:
        """Returns what is known of a user; no events for an unknown one."""
        [content] = self.journal.store.get([user_key(user_id)])
        if content is None:
            return UserAnswer(user_id, [], [])
        state = msgspec.msgpack.decode(content, type=UserState)
        events = [
            HistoryEvent(event.item_id, event.kind, event.time / SECOND, event.value, event.inferred)
            for event in state.events
        ]
        requests = [request_id for _, request_id in state.requests]
        return UserAnswer(state.user_id or user_id, events, requests, list(state.seen))

    async def forget(self, user_id: Id) -> ForgottenAnswer:
        """Deletes a user from state and log."""
        record = Forget(hash_of(user_id), now_microseconds())
        await self.journal.written([record])
        return ForgottenAnswer(True)

    async def exchange(self, asked: BundleRequest) -> BundleAnswer:
        """Serves by another bundle, once it is loaded and has answered its recorded requests.

        Raises:
            ValueError: it can't; the present one goes on.
        """
        if asked.back == (asked.path is not None):
            raise FieldError(
                "expected either `path`, of a bundle, or `back`: true, got both or none", field="path"
            )
        if asked.back:
            new = self.box.previous
            if new is None:
                raise FieldError("there is no bundle to go back to: this one was the first", field="back")
        else:
            try:
                new = await asyncio.to_thread(open_beside, Path(str(asked.path)))
            except InputError as error:
                raise FieldError(str(error), field="path") from error
            except Exception as error:
                raise FieldError(f"`{asked.path}` can't be opened: {error}", field="path") from error
        changes = await asyncio.to_thread(self.follower.exchange, new, now_microseconds())
        await self.journal.written(changes)
        return BundleAnswer(new.fingerprint)

    def gauges(self) -> dict[str, float]:
        """Measures how far the state lags behind the log, the size of both, and what policies have earned."""
        return {
            **self._earned(),
            "recsys_log_lag": float(max(self.journal.lag(), 0)),
            "recsys_log_bytes": float(self.journal.log.size_bytes()),
            "recsys_state_bytes": float(self.journal.store.size_bytes()),
        }

    def _earned(self) -> dict[str, float]:
        """Lists, rewards and regret by policy or arm since the log began; none while the state is away."""
        try:
            [content] = self.journal.store.get([POLICIES])
        except StoreAway:
            content = None
        totals = {} if content is None else msgspec.msgpack.decode(content, type=Policies).totals
        return {
            labelled(f"recsys_policy_{what}", {"policy": name}): float(getattr(one, what))
            for name, one in totals.items()
            for what in one.__struct_fields__
        }


def _time_of(given: float | str, field: str, now: int, rules: Rules) -> int:
    """When an event happened; however late, for it is placed where it belongs."""
    time = microseconds_of(given, field=field)
    if time > now + rules.max_future_seconds * SECOND:
        raise FieldError(
            f"`{field}` must not lie more than {rules.max_future_seconds:g} seconds ahead of the server's "
            f"clock, got {given}",
            field=field,
        )
    if time < 0:
        raise FieldError(f"`{field}` must not lie before 1970, got {given}", field=field)
    return time


def check_record(record: dict[str, Any], argument: str) -> None:
    """Raises where a field is none that the log could keep.

    Raises:
        ValueError: naming the field.
    """
    try:
        msgspec.convert(record, dict[str, GivenField])
    except (msgspec.ValidationError, RecursionError) as error:
        for name, value in record.items():
            try:
                msgspec.convert(value, GivenField)
            except (msgspec.ValidationError, RecursionError):
                raise FieldError(
                    f"`{argument}.{name[:80]}` must be text, a number of 64 bits, true, false, null, a list "
                    f"of them, or such by name: {error}",
                    field=f"{argument}.{name[:80]}",
                ) from None
        raise


def check_id(value: object, *, field: str) -> None:
    """Raises where a value is no id.

    Raises:
        ValueError: naming the field.
    """
    try:
        msgspec.convert(value, GivenId)
    except msgspec.ValidationError as error:
        raise FieldError(f"`{field}` must be an id, a whole number or text: {error}", field=field) from None
