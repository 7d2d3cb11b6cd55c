"""check_statistics_before: statistics of some events counted again, by looking at every other event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ibis
import numpy as np
from ibis import _

from recsys.data.preparing.splits import SPLIT
from recsys.data.preparing.statistics import HELD, KEYS, EventKeys, value_of
from recsys.data.reading.engine import Engine
from recsys.data.reading.tables import SEQUENCE
from recsys.schema.feature_kinds import StatisticFeature
from recsys.schema.tables import ITEM_ID, LABEL, POSITIVE, RAW_PREFIX, TIMESTAMP, USER_ID

# How many pairs of events may be looked at for one statistic, if all events had one key.
_PAIRS = 20_000_000
_MOST_EVENTS = 200
_TOLERANCE = 1e-9


def check_statistics_before(
    engine: Engine, events: ibis.Table, statistics: Sequence[StatisticFeature], keyed: EventKeys
) -> dict[str, Any]:
    """Whether statistics count what was strictly before an event, in no later split, and nothing else.

    Args:
        engine: runs the expressions.
        events: with a column for each statistic.
        statistics: fitted.
        keyed: gives events their keys.
    """
    num_events = engine.count(events)
    step = max(num_events // max(min(_PAIRS // num_events, _MOST_EVENTS), 10), 1)
    sample = engine.keep(events.filter(_[SEQUENCE] % step == 0))
    size, wrong = 0, []
    by_window: dict[Any, list[StatisticFeature]] = {}
    for feature in statistics:
        by_window.setdefault((feature.of, feature.window_microseconds, feature.window_events), []).append(
            feature
        )
    for own in by_window.values():
        again = engine.collect(_counted_again(engine, sample, events, own, keyed))
        size = again.num_rows
        for feature in own:
            stored, expected = (
                again[name].to_numpy(zero_copy_only=False).astype(float)
                for name in (RAW_PREFIX + feature.name, feature.name)
            )
            if not np.allclose(stored, expected, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
                wrong.append(feature.name)
    counted = f"{size} events of {len(statistics)} statistics counted again"
    return {"passed": not wrong, "detail": f"{counted}, differing: {wrong or 'none'}"}


def _counted_again(
    engine: Engine,
    sample: ibis.Table,
    events: ibis.Table,
    statistics: Sequence[StatisticFeature],
    keyed: EventKeys,
) -> ibis.Table:
    """Statistics of one key and window, as found and as counted."""
    feature = statistics[0]
    held = dict.fromkeys([*HELD, SPLIT, *(name for name in feature.of if name in events.columns)])
    keys = list(KEYS[: len(feature.of)])
    own, others = sample.select(*held), events.select(*held)
    for name, key in zip(feature.of, keys, strict=True):
        own, others = (keyed.with_key(engine, table, name, key) for table in (own, others))
    seen = _seen(own, others, feature, keys=keys)
    by_key = seen.group_by([SEQUENCE, *keys]).aggregate(
        _count_0=_.count(),
        _positive_share_0=_._positive.cast("int64").sum(),
        _label_mean_0=_._label.sum(),
        _last_0=_._time.max(),
    )
    num_keys = own.group_by(SEQUENCE).aggregate(_num_keys=_.count())
    summed = [name for name in by_key.columns if name.endswith("_0") and name not in ("_last_0", *keys)]
    sums = {name: by_key[name].sum() for name in summed}
    by_event = by_key.group_by(SEQUENCE).aggregate(**sums, _last_0=_._last_0.max()).join(num_keys, SEQUENCE)
    means = {name: by_event[name] / by_event._num_keys for name in summed}
    counted = sample.left_join(by_event.mutate(**means), SEQUENCE, rname="_of_{name}")
    values = {statistic.name: value_of(counted, statistic, 0) for statistic in statistics}
    return counted.select(*(RAW_PREFIX + name for name in values), **values)


def _seen(own: ibis.Table, others: ibis.Table, feature: StatisticFeature, *, keys: list[str]) -> ibis.Table:
    """Each event beside all that count for it: a join, no window."""
    others = others.select(
        *keys,
        _time=_[TIMESTAMP],
        _split=_[SPLIT],
        _label=_[LABEL],
        _positive=_[POSITIVE],
        _user=_[USER_ID],
        _item=_[ITEM_ID],
    )
    pairs = own.join(others, keys)
    before = (pairs._time < pairs[TIMESTAMP]) & (pairs._split <= pairs[SPLIT])
    if feature.window_microseconds:
        before &= pairs._time >= pairs[TIMESTAMP] - feature.window_microseconds
    seen = pairs.filter(before)
    if feature.window_events:
        latest = [ibis.desc(name) for name in ("_time", "_user", "_item")]
        place = ibis.row_number().over(ibis.window(group_by=[SEQUENCE, *keys], order_by=latest))
        seen = seen.mutate(_place=place).filter(_._place < feature.window_events)
    return seen
