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
from recsys.data.preparing.context import count_context
from recsys.data.preparing.idf import with_idf
from recsys.data.preparing.splits import SPLIT, SPLIT_NAMES, TRAIN
from recsys.data.preparing.statistics import EventKeys, fit_statistics, with_priors
from recsys.data.preparing.vocabulary import Fitted, fit
from recsys.data.reading.engine import DuckDBEngine
from recsys.schema.feature_kinds import Feature, StatisticFeature
from recsys.schema.tables import (
    HISTORY_LENGTH,
    HISTORY_ROW,
    ITEM_ID,
    ITEM_ROW,
    LABEL,
    POSITIVE,
    RAW_PREFIX,
    TIMESTAMP,
    USER_ID,
    USER_ROW,
)

Checks = dict[str, dict[str, Any]]
_KEY = [USER_ID, ITEM_ID, TIMESTAMP]
# Splits that promise that training knows nothing of a test event's future.
_BY_TIME: tuple[SplitKind, ...] = ("global_time", "leave_last_out")


@dataclasses.dataclass(frozen=True)
class PreparedFiles:
    """A prepared folder, complete but for its manifest, and what it was made from.

    Args:
        folder: the files.
        split: kind of the split.
        has_time: whether the raw interactions have timestamps.
        events: all events, with their split.
        features: not fitted.
        fitted: what they became.
        earlier: what was extended, which comes from an earlier train split.
        entities: users and items.
        keyed: what tells the keys of statistics.
    """

    folder: Path
    split: SplitKind
    has_time: bool
    events: ibis.Table
    features: Sequence[Feature]
    fitted: Fitted
    earlier: Fitted | None
    entities: tuple[Entities, Entities]
    keyed: EventKeys


def check_leakage(engine: DuckDBEngine, written: PreparedFiles) -> Checks:
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
            engine, written.events, statistics, written.keyed
        )
    broken = [
        f"{name}: {check['detail']}"
        for name, check in checks.items()
        if not check["passed"] and (name != "train_before_test" or written.split in _BY_TIME)
    ]
    assert not broken, f"leakage in {written.folder}: {'; '.join(broken)}"
    return checks


def _events_on_disk(engine: DuckDBEngine, written: PreparedFiles, split: int) -> ibis.Table:
    """user_id, item_id and timestamp of the rows in a split's files."""
    rows = engine.read_parquet(sorted((written.folder / SPLIT_NAMES[split]).glob("*.parquet")))
    if split != TRAIN:
        return rows.select(*_KEY)
    # Train files hold rows of users and items, not ids, but where each row is a user of its own.
    for row, name, file in ((USER_ROW, USER_ID, "users"), (ITEM_ROW, ITEM_ID, "items")):
        if name in rows.columns:
            continue
        ids = engine.read_parquet([written.folder / f"{file}.parquet"]).select(row, name).filter(_[row] > 0)
        rows = rows.join(ids, row)
    return rows.select(*_KEY)


def _no_event_twice(engine: DuckDBEngine, parts: Sequence[ibis.Table]) -> dict[str, Any]:
    train, validation, test = parts
    later = ibis.union(validation, test)
    shared = _count(engine, train.semi_join(later, _KEY)) + _count(engine, validation.semi_join(test, _KEY))
    return _result(shared == 0, f"{shared} events (user, item, instant) stand in more than one split")


def _train_before_test(
    engine: DuckDBEngine, written: PreparedFiles, parts: Sequence[ibis.Table]
) -> dict[str, Any]:
    train, _validation, test = parts
    if not written.has_time:
        return _result(
            False, f"unknown: there are no timestamps, and `{written.split}` does not look at them"
        )
    first = engine.collect(test.aggregate(first=_[TIMESTAMP].min()))["first"][0].as_py()
    if first is None:
        return _result(True, "there are no test events")
    num_train, num_test = _count(engine, train), _count(engine, test)
    late = _count(engine, train.filter(_[TIMESTAMP] > first))
    latest = train.group_by(USER_ID).aggregate(_latest=_[TIMESTAMP].max())
    own = _count(engine, test.join(latest, USER_ID).filter(_._latest > _[TIMESTAMP]))
    found = (
        f"{late} of {num_train} train events are later than the first test event; "
        f"{own} of {num_test} test events have a later train event of their own user"
    )
    passed = late == 0 if written.split == "global_time" else own == 0
    return _result(passed, f"{_MEANING[written.split]}: {found}")


_MEANING: dict[SplitKind, str] = {
    "global_time": "all of train is earlier than all of test",
    "leave_last_out": "each user is cut at an instant of their own; train knows what others did later",
    "random": "rows are drawn regardless of time, so that train knows the future",
    "cold_item": "items are drawn regardless of time, so that train knows the future of other items",
    "cold_user": "users are drawn regardless of time, so that train knows the future of other users",
    "predefined": "whoever made the split decided on time",
}


def _histories_before(written: PreparedFiles) -> dict[str, Any]:
    num_rows = num_wrong = 0
    for split, name in enumerate(SPLIT_NAMES):
        histories = _Histories.read(written.folder / "histories" / f"{name}.parquet")
        if (histories.splits > split).any():
            return _result(False, f"histories of {name} hold events of a later split")
        for file in sorted((written.folder / name).glob("*.parquet")):
            columns = [USER_ROW, ITEM_ROW, TIMESTAMP, HISTORY_ROW, HISTORY_LENGTH]
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
        table = pq.read_table(path, columns=[USER_ROW, "item_rows", "timestamps", "splits"])
        lengths = pc.list_value_length(table["timestamps"]).to_numpy().astype(np.int64)
        flat = {
            name: pc.list_flatten(table[name]).to_numpy() for name in ("item_rows", "timestamps", "splits")
        }
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return _Histories(starts=starts, user_rows=table[USER_ROW].to_numpy(), **flat)

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


def _fitted_on_train(engine: DuckDBEngine, written: PreparedFiles, train: ibis.Table) -> Checks:
    """Fits once more, on what the train files hold, and compares."""
    counted = {}
    differing = []
    rows = engine.read_parquet(sorted((written.folder / SPLIT_NAMES[TRAIN]).glob("*.parquet")))
    for entities, row in zip(written.entities, (USER_ROW, ITEM_ROW), strict=True):
        recounted = _recount(engine, rows, entities, row=row)
        # The counts alone: a NaN of a raw column, or of a list in one, equals nothing.
        if not recounted.table.select(_COUNTS).equals(entities.table.select(_COUNTS)):
            differing.append(f"counts of {entities.role}s")
        counted.update(recounted.counted(written.features))
    on_disk = written.events.semi_join(train, _KEY).drop(SPLIT).mutate(**{SPLIT: ibis.literal(TRAIN)})
    context = [f for f in written.features if f.role == "context" and f.has_column]
    if context:
        counted.update(count_context(engine, on_disk, context))
    declared = [f for f in written.features if not isinstance(f, StatisticFeature)]
    again = with_idf(fit(declared, counted, written.earlier), counted, written.earlier)
    differing += [t for t, v in again.vocabularies.items() if not v.equals(written.fitted.vocabularies[t])]
    features = [*again.features, *_statistics_again(engine, on_disk, written)]
    statistics = [new.name for new, old in zip(features, written.fitted.features, strict=True) if new != old]
    return {
        "vocabularies_from_train_alone": _result(
            not differing,
            f"{len(again.vocabularies)} fitted again on train files, differing: {differing or 'none'}",
        ),
        "statistics_from_train_alone": _result(
            not statistics,
            f"{len(features)} features fitted again on train files, differing: {statistics or 'none'}",
        ),
    }


def _statistics_again(
    engine: DuckDBEngine, train: ibis.Table, written: PreparedFiles
) -> list[StatisticFeature]:
    statistics = [feature for feature in written.features if isinstance(feature, StatisticFeature)]
    if not statistics:
        return []
    values = [RAW_PREFIX + feature.column for feature in statistics]
    train = engine.keep(train.select(SPLIT, LABEL, POSITIVE, *values))
    with_mean = with_priors(engine, train, statistics, written.earlier)
    return fit_statistics(engine, train, with_mean, written.earlier)


def _recount(engine: DuckDBEngine, train: ibis.Table, entities: Entities, *, row: str) -> Entities:
    counts = engine.collect(train.group_by(row).aggregate(rows=_.count(), positives=_[POSITIVE].sum()))
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


def _count(engine: DuckDBEngine, table: ibis.Table) -> int:
    return int(engine.collect(table.aggregate(rows=_.count()))["rows"][0].as_py())


def _result(passed: bool, detail: str) -> dict[str, Any]:
    return {"passed": bool(passed), "detail": detail}
