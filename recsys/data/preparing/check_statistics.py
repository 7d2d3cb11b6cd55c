"""check_statistics_before: statistics of some events counted again, by looking at every other event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ibis
import numpy as np
from ibis import _

from recsys.data.preparing.engines import DuckDBEngine
from recsys.data.preparing.read_tables import SEQUENCE
from recsys.data.preparing.splits import SPLIT
from recsys.data.preparing.statistics import DAY_MICROSECONDS, KEYS, Keyed, value_of, with_key
from recsys.schema.features import Feature
from recsys.schema.tables import ITEM_ID, ITEM_ROW, LABEL, POSITIVE, RAW_PREFIX, TIMESTAMP, USER_ID, USER_ROW

# How many pairs of events may be looked at for one statistic, if all events had one key.
_PAIRS = 20_000_000
_MOST_EVENTS = 200
_HELD = (USER_ID, ITEM_ID, USER_ROW, ITEM_ROW, TIMESTAMP, LABEL, POSITIVE, SEQUENCE, SPLIT)
_TOLERANCE = 1e-9


def check_statistics_before(
    engine: DuckDBEngine, events: ibis.Table, statistics: Sequence[Feature], keyed: Keyed
) -> dict[str, Any]:
    """Whether statistics count what was strictly before an event, in no later split, and nothing else.

    Args:
        engine: runs the expressions.
        events: with a column for each statistic.
        statistics: fitted.
        keyed: what tells keys.
    """
    num_events = int(engine.collect(events.aggregate(size=_.count()))["size"][0].as_py())
    step = max(num_events // max(min(_PAIRS // num_events, _MOST_EVENTS), 10), 1)
    sample = engine.keep(events.filter(_[SEQUENCE] % step == 0))
    size, wrong = 0, []
    for feature in statistics:
        own = sample.mutate(_found=_[RAW_PREFIX + feature.name]).select(
            *_HELD, "_found", *_held(feature, events)
        )
        again = engine.collect(_counted_again(engine, own, events, feature, keyed))
        size = again.num_rows
        found, expected = (
            again[name].to_numpy(zero_copy_only=False).astype(float) for name in ("_found", "_value")
        )
        if not np.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
            wrong.append(feature.name)
    counted = f"{size} events of {len(statistics)} statistics counted again"
    return {"passed": not wrong, "detail": f"{counted}, differing: {wrong or 'none'}"}


def _held(feature: Feature, events: ibis.Table) -> list[str]:
    """Encoded features of events that make the key."""
    return [name for name in feature.of if name in events.columns and name not in _HELD]


def _counted_again(
    engine: DuckDBEngine, sample: ibis.Table, events: ibis.Table, feature: Feature, keyed: Keyed
) -> ibis.Table:
    """`_found` and `_value` of each event of the sample: a join with all that may count, no window."""
    keys = list(KEYS[: len(feature.of)])
    own, others = sample, events.select(*_HELD, *_held(feature, events))
    for name, key in zip(feature.of, keys, strict=True):
        own, others = (
            with_key(engine, table, keyed.features[name], keyed, key=key) for table in (own, others)
        )
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
    if feature.window_days:
        before &= pairs._time >= pairs[TIMESTAMP] - feature.window_days * DAY_MICROSECONDS
    seen = pairs.filter(before)
    if feature.window_events:
        latest = [ibis.desc(name) for name in ("_time", "_user", "_item")]
        place = ibis.row_number().over(ibis.window(group_by=[SEQUENCE, *keys], order_by=latest))
        seen = seen.mutate(_place=place).filter(_._place < feature.window_events)
    by_key = seen.group_by([SEQUENCE, *keys]).aggregate(
        _count_0=_.count(),
        _positive_share_0=_._positive.cast("int64").sum(),
        _label_mean_0=_._label.sum(),
        _last_0=_._time.max(),
    )
    num_keys = own.group_by(SEQUENCE).aggregate(_num_keys=_.count())
    by_event = (
        by_key.group_by(SEQUENCE)
        .aggregate(
            **{name: by_key[name].sum() for name in ("_count_0", "_positive_share_0", "_label_mean_0")},
            _last_0=by_key._last_0.max(),
        )
        .join(num_keys, SEQUENCE)
    )
    means = {
        name: by_event[name] / by_event._num_keys
        for name in ("_count_0", "_positive_share_0", "_label_mean_0")
    }
    found = sample.left_join(by_event.mutate(**means), SEQUENCE, rname="_of_{name}")
    return found.select("_found", _value=value_of(found, feature, 0))
