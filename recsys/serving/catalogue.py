"""Follower: brings into this process's bundle what any has logged: items, availability, bundles, events.

Every process has a bundle of its own, so each goes through the log by itself: through what changed the
catalogue from the beginning on, and then through all that comes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from recsys.schema.errors import InputError
from recsys.schema.tables import ITEM_ID, LABEL, TIMESTAMP, USER_ID
from recsys.serving.journal import Journal, now_microseconds
from recsys.serving.messages import microseconds_of
from recsys.serving.records import Availability, BundleChange, Event, Forget, Id, NewItems, Space
from recsys.serving.rules import HOUR
from recsys.serving.served import BundleBox, ServedBundle, open_beside
from recsys.serving.state import CatalogueState
from recsys.serving.store.interface import StateStore, StoreAway
from recsys.serving.working import CATALOGUE, SPACE

logger = logging.getLogger(__name__)

VALID_UNTIL = "valid_until"
_PAUSE_SECONDS = 0.02
_MOST_NEW = 200


class NewItemList:
    """Items that joined the catalogue while serving, and until when they may be shown.

    Args:
        hours: how long an item is new.
    """

    def __init__(self, *, hours: float) -> None:
        self._hours = hours
        self._items: dict[str, tuple[int, Id]] = {}
        self._leaving: dict[str, tuple[int, Id]] = {}
        self._unavailable: set[str] = set()

    def add(self, items: Sequence[dict[str, Any]], time: int) -> None:
        """Notes items with the instant at which they joined."""
        for item in items:
            name = str(item[ITEM_ID])
            self._items.setdefault(name, (time, item[ITEM_ID]))
            if item.get(VALID_UNTIL) is not None:
                until = microseconds_of(item[VALID_UNTIL], field=VALID_UNTIL)
                self._leaving[name] = (until, item[ITEM_ID])
        for name in list(self._items)[: -10 * _MOST_NEW]:
            del self._items[name]

    def set_available(self, item_ids: Sequence[Id], available: bool) -> None:
        """Notes whether items may be shown."""
        names = {str(one) for one in item_ids}
        self._unavailable = self._unavailable - names if available else self._unavailable | names

    def newest(self, now: int) -> list[Id]:
        """Items that are new and may be shown, the newest first."""
        since = now - int(self._hours * HOUR)
        fresh = [
            (time, item_id)
            for name, (time, item_id) in list(self._items.items())[-_MOST_NEW:]
            if time > since and name not in self._unavailable
        ]
        return [item_id for _, item_id in sorted(fresh, key=lambda entry: -entry[0])]

    def age_hours(self, item_id: Id, now: int) -> float | None:
        """Hours since an item joined; None for one that was there from the start."""
        joined = self._items.get(str(item_id))
        return None if joined is None else (now - joined[0]) / HOUR

    def leaving(self, now: int) -> list[Id]:
        """Items whose time is over, each once."""
        gone = [name for name, (until, _) in self._leaving.items() if until <= now]
        return [self._leaving.pop(name)[1] for name in gone]


class Follower:
    """Keeps this process's bundle up with the log.

    Args:
        journal: log and state.
        box: the bundle that serves.
        new_items: of the catalogue.
    """

    def __init__(self, journal: Journal, box: BundleBox, new_items: NewItemList) -> None:
        self._journal = journal
        self._box = box
        self._new_items = new_items
        self._position = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Catches up, and follows from then on in a thread."""
        self._position = self._journal.log.end()
        self.bring_up(self._box.current, now_microseconds())
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops following."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def bring_up(self, served: ServedBundle, time: int) -> None:
        """Has a bundle that was just opened go through all that was logged before an instant."""
        for record in catalogue_changes(self._journal):
            self._change_catalogue(served, record)
        self._leave(served, time)
        if served.statistics is not None:
            after = 0
            while after < self._position and (batch := _read(self._journal, after)):
                self._observe(served, [record for at, record in batch if at <= self._position])
                after = batch[-1][0]

    def catch_up(self) -> None:
        """Goes through what is new in the log."""
        with self._lock:
            while batch := _read(self._journal, self._position):
                records = [record for _, record in batch]
                for record in records:
                    self._change_catalogue(self._box.current, record)
                    if isinstance(record, BundleChange):
                        self._change_bundle(record)
                self._observe(self._box.current, records)
                self._position = batch[-1][0]

    def exchange(self, served: ServedBundle, time: int) -> list[Space | BundleChange]:
        """Brings a bundle up and serves by it from the next request on; returns what to log of it."""
        spaces = take_up_space(served, self._journal.store, time)
        with self._lock:
            self.bring_up(served, time)
            self._box.exchange(served)
        return [*spaces, BundleChange(str(served.folder), served.fingerprint, time)]

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            try:
                self.catch_up()
                self.leave(now_microseconds())
            except StoreAway:
                self._stop.wait(1.0)
            except Exception:
                logger.exception("the log could not be followed; trying again")
                self._stop.wait(1.0)

    def _change_catalogue(self, served: ServedBundle, record: _Followed) -> None:
        try:
            if isinstance(record, NewItems):
                self._new_items.add(record.items, record.time)
                served.add_items([without_validity(item) for item in record.items])
            elif isinstance(record, Availability):
                self._new_items.set_available(record.item_ids, record.available)
                served.set_available(record.item_ids, record.available)
        except InputError as error:
            # Another bundle has taken them; this one may read other fields.
            logger.warning("%s: %s", served.folder, error)

    def _change_bundle(self, record: BundleChange) -> None:
        if record.fingerprint == self._box.current.fingerprint:
            return
        logger.info("serving by %s, as another process does", record.path)
        served = open_beside(Path(record.path))
        take_up_space(served, self._journal.store, record.time)
        self.bring_up(served, now_microseconds())
        self._box.exchange(served)

    def leave(self, now: int) -> None:
        """Has the items leave whose time is over."""
        self._leave(self._box.current, now)

    def _leave(self, served: ServedBundle, now: int) -> None:
        gone = self._new_items.leaving(now)
        if gone:
            self._new_items.set_available(gone, available=False)
            served.set_available(gone, available=False)

    def _observe(self, served: ServedBundle, records: Sequence[_Followed]) -> None:
        """Counts events that are later than the bundle's data in its statistics."""
        statistics = served.statistics
        if statistics is None:
            return
        rows = [
            {
                USER_ID: record.user_id,
                ITEM_ID: record.item_id,
                TIMESTAMP: record.time,
                LABEL: self._label(record, statistics),
            }
            for record in records
            if isinstance(record, Event) and record.user_id is not None and record.time > served.data_until
        ]
        if rows:
            served.observe(sorted(rows, key=lambda row: row[TIMESTAMP]))

    def _label(self, event: Event, statistics: Any) -> float:
        positive = self._journal.rules.reward(event.kind, event.value) > 0
        return float(max(statistics.positive_at_least, 1.0)) if positive else 0.0


def take_up_space(served: ServedBundle, store: StateStore, time: int) -> list[Space]:
    """Has a bundle take up the space that readers' tastes were learnt over.

    Returns:
        What the log has to know before the bundle serves, so that the next one can do so too.
    """
    [content] = store.get([SPACE])
    known = None if content is None else msgspec.msgpack.decode(content, type=Space)
    if known is not None:
        served.lie_in(known)
    own = served.own_space(time)
    return [] if own is None or (known is not None and known.bundle == own.bundle) else [own]


def catalogue_changes(journal: Journal) -> list[_Followed]:
    """Returns the records that changed the catalogue or the bundle, from the beginning of the log on."""
    [content] = journal.store.get([CATALOGUE])
    if content is None:
        return []
    positions = msgspec.msgpack.decode(content, type=CatalogueState).positions
    read = [(position, _read(journal, position - 1, limit=1)) for position in positions]
    return [record for position, batch in read for at, record in batch if at == position]


class _List(msgspec.Struct, tag="request"):
    """A list that was shown: of no concern here, so that nothing of it is unpacked."""


class _Space(msgspec.Struct, tag="space"):
    """The space of tastes: of no concern here either."""


_Followed = _List | _Space | Event | NewItems | Availability | Forget | BundleChange
_followed = msgspec.msgpack.Decoder(_Followed)


def _read(journal: Journal, after: int, *, limit: int = 1000) -> list[tuple[int, _Followed]]:
    batch = journal.log.read(after, limit=limit)
    return [(position, _followed.decode(content)) for position, content in batch]


def without_validity(item: dict[str, Any]) -> dict[str, Any]:
    """An item's fields as the bundle reads them."""
    return {name: value for name, value in item.items() if name != VALID_UNTIL}
