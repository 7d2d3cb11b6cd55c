"""check_observing: the test split is replayed, so that what is observed must give what was prepared.

The statistics of a file stand as they are after all events. Replayed from before the first row that is asked,
event by event, they must have for each row the values that preparing has computed, and be in the end what the
file holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from recsys.exporting.build import scripted, statistics_before
from recsys.exporting.gate.differences import ParityError
from recsys.exporting.observed import Log
from recsys.exporting.stage import Stage
from recsys.schema.features import ITEM_ID, USER_ID
from recsys.schema.tables import RAW_PREFIX

_TOLERANCE = 1e-6
_DAY_MICROSECONDS = 86_400_000_000


def check_observing(program: Any, stage: Stage, *, num_rows: int) -> None:
    """Replays the latest test rows, or validation rows where there is no test.

    Args:
        program: the file, loaded again.
        stage: the trained model and its dataset.
        num_rows: how many rows are asked, the latest.

    Raises:
        ParityError: naming the row and the statistic that differs.
    """
    log = Log.read(stage.dataset)
    events, table = log.latest_rows(num_rows)
    first = int(log.times[events[0]])
    replayed: Any = scripted(statistics_before(stage, log, first))
    observed = log.size_before(first)
    for at, event in enumerate(events):
        instant = int(log.times[event])
        observed = _observe(replayed, log, observed, log.size_before(instant))
        answers = _ask(replayed, log, event, instant)
        row = f"test row {at} ({', '.join(f'{key} {table[key][at].as_py()}' for key in (USER_ID, ITEM_ID))})"
        for feature, field in zip(stage.dataset.schema.statistics, program.statistics.fields, strict=True):
            expected = table[RAW_PREFIX + feature.name][at].as_py()
            _check(expected, answers[field], feature.name, row, "preparing")
    _observe(replayed, log, observed, len(log.times))
    for event in events:
        for later in (1, _DAY_MICROSECONDS):
            instant = int(log.times[-1]) + later
            answers = _ask(program.statistics, log, event, instant)
            for field, expected in _ask(replayed, log, event, instant).items():
                _check(expected, answers[field], field, f"a request {later} us after all events", "observing")


def _observe(statistics: Any, log: Log, begin: int, end: int) -> int:
    """Shows neighbouring events to statistics; returns where they end."""
    if begin < end:
        columns = _columns(log, range(begin, end))
        statistics.add(columns, log.times[begin:end].tolist(), log.labels[begin:end].tolist())
    return end


def _ask(statistics: Any, log: Log, event: int, instant: int) -> Mapping[str, float | None]:
    """Every statistic of an event as of an instant, by field."""
    columns = _columns(log, range(event, event + 1))
    return {**statistics([{}], columns, [instant], False)[0], **statistics([{}], columns, [instant], True)[0]}


def _columns(log: Log, events: range) -> dict[str, list[list[int]]]:
    """Values of every feature that makes keys, for neighbouring events."""
    of = {name for feature in log.dataset.schema.statistics for name in feature.of}
    columns = {}
    for name in sorted(of | {USER_ID, ITEM_ID}):
        where, values = log.values(name)
        begin, end = np.searchsorted(where, [events.start, events.stop])
        own: list[list[int]] = [[] for _ in events]
        for event, value in zip(where[begin:end].tolist(), values[begin:end].tolist(), strict=True):
            own[event - events.start].append(value)
        columns[name] = own
    return columns


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
