"""check_observing: the test split is replayed, so that what is observed must give what was prepared.

The statistics of a file stand as they are after all events. Replayed from before the first row that is asked,
event by event, they must have for each row the values that preparing has computed, and be in the end what the
file holds.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from recsys.exporting.gate.differences import ParityError
from recsys.exporting.observed import Log, statistics_of
from recsys.exporting.program.statistics import Statistics
from recsys.schema.features import ITEM_ID, USER_ID
from recsys.schema.tables import RAW_PREFIX

_TOLERANCE = 1e-6
_DAY_MICROSECONDS = 86_400_000_000


@dataclasses.dataclass
class Replay:
    """Events that are observed one after the other, and what is asked in between.

    Args:
        log: all events.
        statistics: as they stood before the event `done`, scripted.
        done: how many events they have observed.
    """

    log: Log
    statistics: Any
    done: int

    def until(self, instant: int | None) -> None:
        """Observes every event before an instant; all for None."""
        size = self.log.size_before(instant)
        events = range(self.done, size)
        if events:
            self.statistics.add(
                columns_at(self.log, events),
                self.log.times[self.done : size].tolist(),
                self.log.labels[self.done : size].tolist(),
            )
        self.done = size

    def ask(self, event: int, instant: int) -> Mapping[str, float | None]:
        """Every statistic of an event as of an instant, by field."""
        return ask(self.statistics, self.log, event, instant)


def ask(statistics: Any, log: Log, event: int, instant: int) -> Mapping[str, float | None]:
    """Every statistic of an event as of an instant, by field."""
    columns = columns_at(log, range(event, event + 1))
    return {**statistics(columns, [instant], False)[0], **statistics(columns, [instant], True)[0]}


def columns_at(log: Log, events: range) -> dict[str, list[list[int]]]:
    """Values of every feature that makes keys, for neighbouring events."""
    of = {name for feature in statistics_of(log.dataset) for name in feature.of}
    found = {}
    for name in sorted(of | {USER_ID, ITEM_ID}):
        where, values = log.values(name)
        begin, end = np.searchsorted(where, [events.start, events.stop])
        own: list[list[int]] = [[] for _ in events]
        for event, value in zip(where[begin:end].tolist(), values[begin:end].tolist(), strict=True):
            own[event - events.start].append(value)
        found[name] = own
    return found


def check_observing(
    program: Any, log: Log, statistics_before: Callable[[int], Statistics], *, num_rows: int
) -> None:
    """Replays the latest test rows, or validation rows where there is no test.

    Args:
        program: the file, loaded again.
        log: all events.
        statistics_before: the statistics of such a file as of an instant.
        num_rows: how many rows are asked, the latest.

    Raises:
        ParityError: naming the row and the statistic that differs.
    """
    events, table = log.latest_rows(num_rows)
    features = statistics_of(log.dataset)
    first = int(log.times[events[0]])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        scripted = torch.jit.script(statistics_before(first))
    replay = Replay(log, scripted, log.size_before(first))
    for at, event in enumerate(events):
        instant = int(log.times[event])
        replay.until(instant)
        found = replay.ask(event, instant)
        for feature, field in zip(features, program.statistics.fields, strict=True):
            expected = table[RAW_PREFIX + feature.name][at].as_py()
            _check(expected, found[field], feature.name, f"test row {at} ({_ids(table, at)})", "preparing")
    replay.until(None)
    for event in events:
        for later in (1, _DAY_MICROSECONDS):
            instant = int(log.times[-1]) + later
            expected_all, found = replay.ask(event, instant), ask(program.statistics, log, event, instant)
            for field, expected in expected_all.items():
                _check(expected, found[field], field, f"a request {later} us after all events", "observing")


def _check(expected: float | None, found: float | None, name: str, asked: str, source: str) -> None:
    if expected is None or found is None:
        same = expected is found
    else:
        same = math.isclose(expected, found, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    if not same:
        raise ParityError(
            f"the statistics of the file must be what {source} gives; but for {asked} `{name}` is {expected} "
            f"by {source}, {found} in the file; nothing was written"
        )


def _ids(table: pa.Table, at: int) -> str:
    return f"{USER_ID} {table[USER_ID][at].as_py()}, {ITEM_ID} {table[ITEM_ID][at].as_py()}"
