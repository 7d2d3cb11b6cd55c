"""check_leakage: looks for the future, and for evaluation rows, in what a model learns from, on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ibis import _

from recsys.data.options import SplitKind
from recsys.data.preparing.catalogue import NUM_INTERACTIONS, NUM_POSITIVES, Entities
from recsys.data.preparing.check_statistics import check_statistics_before
from recsys.data.preparing.fit import FittedFeatures, count_values, fit
from recsys.data.preparing.idf import with_idf
from recsys.data.preparing.raw_data import RawData
from recsys.data.preparing.splits import SPLIT, SPLIT_NAMES, TRAIN
from recsys.data.preparing.statistics import EventKeys, fit_statistics, with_priors
from recsys.data.reading.engine import Engine
from recsys.schema import tables
from recsys.schema.feature_kinds import StatisticFeature

Checks = dict[str, dict[str, Any]]
_KEY = [tables.USER_ID, tables.ITEM_ID, tables.TIMESTAMP]
# Splits that promise that training knows nothing of a test event's future.
_BY_TIME: tuple[SplitKind, ...] = ("global_time", "leave_last_out")


@dataclasses.dataclass(frozen=True)
class PreparedFiles:
    """A prepared folder, complete but for its manifest, and what it was made from.

    Args:
        folder: the files.
        split: kind of the split.
        data: the raw tables, read.
        events: all events, with their split.
        fitted: the features.
        earlier: what was extended, which comes from an earlier train split.
        keys: entities and features of which statistics are computed.
    """

    folder: Path
    split: SplitKind
    data: RawData
    events: ibis.Table
    fitted: FittedFeatures
    earlier: FittedFeatures | None
    keys: EventKeys

    def rows(self, engine: Engine, split: int) -> ibis.Table:
        """The rows in the files of a split."""
        return engine.read_parquet(sorted((self.folder / SPLIT_NAMES[split]).glob("*.parquet")))


def check_leakage(engine: Engine, written: PreparedFiles) -> Checks:
    """Checks the files of a prepared dataset.

    Returns:
        By name of the check, whether it has passed and what was found.

    Raises:
        AssertionError: a promise of the split is broken, which is a fault of this package.
    """
    parts = [_events_on_disk(engine, written, split) for split in range(len(SPLIT_NAMES))]
    checks = {
        "no_event_in_two_splits": _no_event_twice(engine, parts),
        "train_before_test": _train_before_test(engine, written, parts),
        "histories_strictly_before": _histories_before(written),
        **_fitted_on_train(engine, written, parts[TRAIN]),
    }
    if statistics := written.fitted.statistics:
        checks["statistics_strictly_before"] = check_statistics_before(
            engine, written.events, statistics, written.keys
        )
    broken = [
        f"{name}: {check['detail']}"
        for name, check in checks.items()
        if not check["passed"] and (name != "train_before_test" or written.split in _BY_TIME)
    ]
    assert not broken, f"leakage in {written.folder}: {'; '.join(broken)}"
    return checks


def _events_on_disk(engine: Engine, written: PreparedFiles, split: int) -> ibis.Table:
    """user_id, item_id and timestamp of the rows in a split's files."""
    rows = written.rows(engine, split)
    if split != TRAIN:
        return rows.select(*_KEY)
    # Train files hold rows of users and items, not ids, but where each row is a user of its own.
    for table, name in tables.ID_COLUMNS.items():
        if name not in rows.columns:
            row = tables.ROW_COLUMNS[name]
            ids = engine.read_parquet([written.folder / f"{table}.parquet"])
            rows = rows.join(ids.select(row, name).filter(_[row] > 0), row)
    return rows.select(*_KEY)


def _no_event_twice(engine: Engine, parts: Sequence[ibis.Table]) -> dict[str, Any]:
    train, validation, test = parts
    later = ibis.union(validation, test)
    shared = engine.count(ibis.union(train.semi_join(later, _KEY), validation.semi_join(test, _KEY)))
    return _result(shared == 0, f"{shared} events (user, item, instant) stand in more than one split")


def _train_before_test(engine: Engine, written: PreparedFiles, parts: Sequence[ibis.Table]) -> dict[str, Any]:
    train, _validation, test = parts
    if written.data.interactions.time is None:
        return _result(
            False, f"unknown: there are no timestamps, and `{written.split}` does not look at them"
        )
    found = engine.row(test.aggregate(first=_[tables.TIMESTAMP].min(), rows=_.count()))
    if found["first"] is None:
        return _result(True, "there are no test events")
    is_late = _[tables.TIMESTAMP] > found["first"]
    counted = engine.row(train.aggregate(late=is_late.sum().fill_null(0), rows=_.count()))
    latest = train.group_by(tables.USER_ID).aggregate(_latest=_[tables.TIMESTAMP].max())
    own = engine.count(test.join(latest, tables.USER_ID).filter(_._latest > _[tables.TIMESTAMP]))
    counts = (
        f"{counted['late']} of {counted['rows']} train events are later than the first test event; "
        f"{own} of {found['rows']} test events have a later train event of their own user"
    )
    passed = counted["late"] == 0 if written.split == "global_time" else own == 0
    return _result(passed, f"{_MEANING[written.split]}: {counts}")


_MEANING: dict[SplitKind, str] = {
    "global_time": "all of train is earlier than all of test",
    "leave_last_out": "each user is cut at an instant of their own; train knows what others did later",
    "random": "rows are drawn regardless of time, so that train knows the future",
    "cold_item": "items are drawn regardless of time, so that train knows the future of other items",
    "cold_user": "users are drawn regardless of time, so that train knows the future of other users",
    "cold_both": "users and items are drawn regardless of time, so that train knows the future of others",
    "predefined": "whoever made the split decided on time",
}


def _histories_before(written: PreparedFiles) -> dict[str, Any]:
    num_rows = num_wrong = 0
    for split, name in enumerate(SPLIT_NAMES):
        histories = _Histories.read(written.folder / "histories" / f"{name}.parquet")
        if (histories.splits > split).any():
            return _result(False, f"histories of {name} hold events of a later split")
        for file in sorted((written.folder / name).glob("*.parquet")):
            columns = [
                tables.USER_ROW,
                tables.ITEM_ROW,
                tables.TIMESTAMP,
                tables.HISTORY_ROW,
                tables.HISTORY_LENGTH,
            ]
            for batch in pq.ParquetFile(file).iter_batches(columns=columns):
                num_rows += batch.num_rows
                num_wrong += histories.count_wrong(batch, ties_by_item=written.split == "leave_last_out")
    return _result(
        num_wrong == 0, f"{num_wrong} of {num_rows} histories are not what was strictly before the event"
    )


@dataclasses.dataclass(frozen=True)
class _Histories:
    """Events of all users of a split end to end, and where each user's begin."""

    starts: npt.NDArray[np.int64]
    user_rows: npt.NDArray[np.int32]
    item_rows: npt.NDArray[np.int32]
    timestamps: npt.NDArray[np.int64]
    splits: npt.NDArray[np.int8]

    @staticmethod
    def read(path: Path) -> _Histories:
        table = pq.read_table(path, columns=[tables.USER_ROW, "item_rows", "timestamps", "splits"])
        lengths = pc.list_value_length(table["timestamps"]).to_numpy().astype(np.int64)
        flat = {
            name: pc.list_flatten(table[name]).to_numpy() for name in ("item_rows", "timestamps", "splits")
        }
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return _Histories(starts=starts, user_rows=table[tables.USER_ROW].to_numpy(), **flat)

    def count_wrong(self, batch: pa.RecordBatch, *, ties_by_item: bool) -> int:
        """Rows whose history is of another user, too long or too short."""
        if not batch.num_rows:
            return 0
        user, item, instant, row, length = (column.to_numpy().astype(np.int64) for column in batch.columns)
        here = self.starts[row] + length
        inside = here < self.starts[row + 1]
        here = np.minimum(here, len(self.timestamps) - 1)
        follows = self.timestamps[np.maximum(here - 1, 0)] < instant
        if ties_by_item:
            # The event itself is the first that its history does not hold.
            right = (self.timestamps[here] == instant) & (self.item_rows[here] == item)
            follows |= self.timestamps[np.maximum(here - 1, 0)] == instant
        else:
            right = self.timestamps[here] >= instant
        right &= inside & (follows | (length == 0)) & (self.user_rows[row] == user)
        return int((~right).sum())


_COUNTS = [NUM_INTERACTIONS, NUM_POSITIVES]


def _fitted_on_train(engine: Engine, written: PreparedFiles, train: ibis.Table) -> Checks:
    """Fits once more, on what the train files hold, and compares."""
    counted = {}
    differing = []
    features = written.data.features
    rows = written.rows(engine, TRAIN)
    for entities in written.keys.entities:
        recounted = _recount(engine, rows, entities)
        # The counts alone: a NaN of a raw column, or of a list in one, equals nothing.
        if not recounted.table.select(_COUNTS).equals(entities.table.select(_COUNTS)):
            differing.append(f"counts of {entities.role}s")
        counted.update(recounted.counted(features))
    on_disk = written.events.semi_join(train, _KEY).drop(SPLIT).mutate(**{SPLIT: ibis.literal(TRAIN)})
    context = [f for f in features if f.role == "context" and f.has_column]
    counted |= {f.name: count_values(engine, on_disk, f) for f in context}
    declared = [f for f in features if not isinstance(f, StatisticFeature)]
    again = with_idf(fit(declared, counted, written.earlier), counted, written.earlier)
    differing += [t for t, v in again.vocabularies.items() if not v.equals(written.fitted.vocabularies[t])]
    anew = [*again.features, *_statistics_again(engine, on_disk, written)]
    statistics = [new.name for new, old in zip(anew, written.fitted.features, strict=True) if new != old]
    return {
        "vocabularies_from_train_alone": _result(
            not differing,
            f"{len(again.vocabularies)} fitted again on train files, differing: {differing or 'none'}",
        ),
        "statistics_from_train_alone": _result(
            not statistics,
            f"{len(anew)} features fitted again on train files, differing: {statistics or 'none'}",
        ),
    }


def _statistics_again(engine: Engine, train: ibis.Table, written: PreparedFiles) -> list[StatisticFeature]:
    statistics = [feature for feature in written.data.features if isinstance(feature, StatisticFeature)]
    if not statistics:
        return []
    values = [feature.source for feature in statistics]
    train = engine.keep(train.select(SPLIT, tables.LABEL, tables.POSITIVE, *values))
    with_mean = with_priors(engine, train, statistics, written.earlier)
    return fit_statistics(engine, train, with_mean, written.earlier)


def _recount(engine: Engine, train: ibis.Table, entities: Entities) -> Entities:
    row = tables.ROW_COLUMNS[entities.name]
    counts = engine.collect(train.group_by(row).aggregate(rows=_.count(), positives=_[tables.POSITIVE].sum()))
    table = entities.table
    for name, source in zip(_COUNTS, ("rows", "positives"), strict=True):
        recounted = np.zeros(table.num_rows, np.int64)
        recounted[counts[row].to_numpy()] = counts[source].to_numpy()
        if entities.name in train.columns:  # each row is of its own, and the unknown one has no events
            recounted[0] = 0
        table = table.set_column(
            table.column_names.index(name), table.schema.field(name), pa.array(recounted)
        )
    return dataclasses.replace(entities, table=table)


def _result(passed: bool, detail: str) -> dict[str, Any]:
    return {"passed": bool(passed), "detail": detail}
