"""with_statistics: of every event, what came strictly before it with the same key.

An event sees those of its own split and of earlier ones, as its history does, at earlier instants. Events of
one instant do not see each other. Where only the latest so many events of a key count, those of one instant
stand in the order of user id and item id.

key: drama         a1   b0 c1   d0      (the digit is the label; b0 and c1 are of one instant)
count              0    1  1    3
last 2 events      -    a1 a1   b0 c1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ibis import _

from recsys.data.options import SplitKind
from recsys.data.preparing.catalogue import Entities
from recsys.data.preparing.declare_statistics import MEANS
from recsys.data.preparing.fit import FittedFeatures, count_values, fit
from recsys.data.preparing.splits import SPLIT, TEST, TRAIN
from recsys.data.reading.engine import Engine
from recsys.data.reading.tables import SEQUENCE
from recsys.schema import tables
from recsys.schema.feature_kinds import Feature, StatisticFeature

SUMMED = {"positive_share": tables.POSITIVE, "label_mean": tables.LABEL}
KEYS = ("_key_0", "_key_1")
# Columns of events that statistics are computed from.
HELD = (
    *(tables.USER_ID, tables.ITEM_ID, tables.USER_ROW, tables.ITEM_ROW),
    *(tables.TIMESTAMP, tables.LABEL, tables.POSITIVE, SEQUENCE),
)


@dataclasses.dataclass(frozen=True)
class EventKeys:
    """Gives each event the keys of its statistics.

    Args:
        features: all, fitted but for the statistics.
        entities: users and items.
        columns: their encoded features, by name of the column.
    """

    features: Mapping[str, Feature]
    entities: tuple[Entities, Entities]
    columns: Mapping[str, pa.Array]

    def with_key(self, engine: Engine, events: ibis.Table, name: str, key: str) -> ibis.Table:
        """The events with the values of a feature as `key`: an event a value, none for one without any."""
        feature = self.features[name]
        if _is_id(name):
            return events.mutate(**{key: events[name]})
        if name in events.columns:
            if feature.is_multivalued:
                return events.mutate(**{key: events[name].unique().unnest()})
            return events.mutate(**{key: events[name]}).filter(_[key] > 0)
        row = tables.USER_ROW if feature.role == "user" else tables.ITEM_ROW
        rows, values = _of_lists(self.columns[tables.encoded_column(name)])
        pairs = np.unique(np.stack([rows, values])[:, values > 0], axis=1).astype(np.int32)
        known = engine.upload(pa.table({"_row": pairs[0], key: pairs[1]}))
        return events.join(known, events[row] == known["_row"]).drop("_row")


def with_statistics(
    engine: Engine,
    events: ibis.Table,
    statistics: Sequence[StatisticFeature],
    *,
    keyed: EventKeys,
    split: SplitKind,
) -> ibis.Table:
    """The events with a column `raw.<name>` for each statistic: float64, null where there is nothing to tell.

    Args:
        engine: runs the expressions.
        events: with their split, rows of users and items, and encoded context features.
        statistics: with their prior.
        keyed: gives events their keys.
        split: kind of the split.
    """
    by_key: dict[tuple[str, ...], list[StatisticFeature]] = {}
    for feature in statistics:
        by_key.setdefault(feature.of, []).append(feature)
    for of, own in by_key.items():
        parts = []
        # Of a split by global time, what is of a later split is later too.
        for number in [TEST] if split == "global_time" else range(TEST + 1):
            visible = events if number == TEST else events.filter(_[SPLIT] <= number)
            counted = _of_key(engine, visible, of, own, keyed)
            parts.append(counted if split == "global_time" else counted.filter(_[SPLIT] == number))
        events = engine.keep_only(parts[0] if len(parts) == 1 else ibis.union(*parts))
    return events


def _of_key(
    engine: Engine,
    events: ibis.Table,
    of: tuple[str, ...],
    statistics: Sequence[StatisticFeature],
    keyed: EventKeys,
) -> ibis.Table:
    """The events with the statistics of one key, among these events alone."""
    windows: dict[tuple[int, int], list[StatisticFeature]] = {}
    for feature in statistics:
        windows.setdefault((feature.window_microseconds, feature.window_events), []).append(feature)
    table, keys = events, list(of)
    if not all(map(_is_id, of)):
        held = [f.name for f in keyed.features.values() if f.name in of and f.name in events.columns]
        table = events.select(*dict.fromkeys([*HELD, *held]))
        for name, key in zip(of, KEYS, strict=False):
            table = keyed.with_key(engine, table, name, key)
        keys = list(KEYS[: len(of)])
    counted = table
    for number, own in enumerate(windows.values()):
        counted = _with_sums(counted, own, keys=keys, number=number)
    if table is not events:
        sums = [name for name in counted.columns if name not in table.columns]
        each = {name: _[name].max() if name.startswith("_last") else _[name].mean() for name in sums}
        counted = events.left_join(counted.group_by(SEQUENCE).aggregate(**each), SEQUENCE, rname="_of_{name}")
    values = {
        tables.RAW_PREFIX + feature.name: value_of(counted, feature, number)
        for number, own in enumerate(windows.values())
        for feature in own
    }
    return counted.mutate(**values).select(*events.columns, *values)


def _of_lists(column: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Position and value of everything in a column of rows or of lists of rows."""
    if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        return np.arange(len(column)), column.to_numpy(zero_copy_only=False)
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(column)), lengths), column.flatten().to_numpy(zero_copy_only=False)


def _with_sums(
    table: ibis.Table, statistics: Sequence[StatisticFeature], *, keys: list[str], number: int
) -> ibis.Table:
    """Adds columns of what is in the window `number` of each event: how many, sums and the last instant."""
    wanted = {f"_count_{number}": SEQUENCE}
    for feature in statistics:
        if feature.measure in SUMMED:
            wanted[f"_{feature.measure}_{number}"] = SUMMED[feature.measure]
        elif feature.measure == "recency":
            wanted[f"_last_{number}"] = tables.TIMESTAMP
    first = statistics[0]
    if first.window_events:
        return _of_latest_events(table, wanted, keys=keys, num_events=first.window_events)
    # By instant first: of the events of one instant, all see the same, and a window is what takes long.
    instant = [*keys, tables.TIMESTAMP]
    by_instant = table.group_by(instant).aggregate(
        **{
            name: _aggregated(table, name, column)
            for name, column in wanted.items()
            if column != tables.TIMESTAMP
        }
    )
    age = first.window_microseconds
    bounds: dict[str, Any] = {"range": (-age, -1)} if age else {"rows": (None, -1)}
    frame = ibis.window(group_by=keys, order_by=tables.TIMESTAMP, **bounds)
    before = {
        name: by_instant[tables.TIMESTAMP].max().over(frame)
        if column == tables.TIMESTAMP
        else by_instant[name].sum().over(frame).fill_null(0)
        for name, column in wanted.items()
    }
    return table.join(by_instant.select(*instant, **before), instant)


def _of_latest_events(
    table: ibis.Table, wanted: Mapping[str, str], *, keys: list[str], num_events: int
) -> ibis.Table:
    in_order = [tables.TIMESTAMP, tables.USER_ID, tables.ITEM_ID]
    frame = ibis.window(group_by=keys, order_by=in_order, rows=(-num_events, -1))
    over = {name: _aggregated(table, name, column).over(frame) for name, column in wanted.items()}
    by_row = table.mutate(
        **{name: value if name.startswith("_last") else value.fill_null(0) for name, value in over.items()}
    )
    # The first of an instant sees none of the others: what it sees is right for all.
    instant = ibis.window(group_by=[*keys, tables.TIMESTAMP], order_by=in_order[1:])
    return by_row.mutate(**{name: by_row[name].first(include_null=True).over(instant) for name in wanted})


def _aggregated(table: ibis.Table, name: str, column: str) -> ibis.Scalar:
    if name.startswith("_count"):
        return table[column].count()
    if name.startswith("_last"):
        return table[column].max()
    return (table[column].cast("int64") if column == tables.POSITIVE else table[column]).sum()


def value_of(sums: ibis.Table, feature: StatisticFeature, number: int) -> ibis.Value:
    """A statistic from the columns of its window: how many, the sum and the last instant."""
    count = sums[f"_count_{number}"].fill_null(0).cast("float64")
    if feature.measure == "count":
        return count
    if feature.measure == "recency":
        return (sums[tables.TIMESTAMP] - sums[f"_last_{number}"]).cast("float64") / 1e6
    total = sums[f"_{feature.measure}_{number}"].fill_null(0).cast("float64")
    weight = count + feature.strength
    smoothed = (total + feature.strength * feature.prior) / weight.nullif(0.0)
    return smoothed.fill_null(feature.prior)


def with_priors(
    engine: Engine,
    events: ibis.Table,
    statistics: Sequence[StatisticFeature],
    earlier: FittedFeatures | None,
) -> list[StatisticFeature]:
    """The statistics with the mean over train that smoothed ones begin with; `earlier` ones keep theirs."""
    before = {feature.name: feature.prior for feature in earlier.statistics} if earlier else {}
    means: dict[str, float] = {}
    for measure in {feature.measure for feature in statistics} & set(MEANS):
        train = events.filter(_[SPLIT] == TRAIN).select(value=_[SUMMED[measure]].cast("float64"))
        counts = engine.collect(train.group_by("value").aggregate(size=_.count()).order_by("value"))
        means[measure] = float(np.average(counts["value"].to_numpy(), weights=counts["size"].to_numpy()))
    return [
        dataclasses.replace(feature, prior=before.get(feature.name, means.get(feature.measure, 0.0)))
        for feature in statistics
    ]


def _is_id(name: str) -> bool:
    """True for the features whose values are the raw ids, known to train or not."""
    return name in (tables.USER_ID, tables.ITEM_ID)


def fit_statistics(
    engine: Engine,
    events: ibis.Table,
    statistics: Sequence[StatisticFeature],
    earlier: FittedFeatures | None,
) -> list[StatisticFeature]:
    """The statistics with the scale or the buckets of their values in train."""
    fitted: list[StatisticFeature] = []
    for feature in statistics:  # one at a time: there may be as many values as events
        fitted += fit([feature], {feature.name: count_values(engine, events, feature)}, earlier).statistics
    return fitted
