"""follow_users: one pass over all events, user by user, for histories and how much of them each event sees.

user 7, in order      a0   b0   c1   d0   e2      (the digit is the split: 0 train, 1 validation, 2 test)

train may see         a    b         d
validation            a    b    c    d            c has history_length 2
test                  a    b    c    d    e       e has history_length 4
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.preparing.splits import SPLIT, SPLIT_NAMES
from recsys.data.preparing.write import COMPRESSION
from recsys.data.reading.engine import ROW_GROUP_ROWS, Engine
from recsys.schema import tables

_USER_ORDER = [tables.USER_ROW, tables.USER_ID, tables.TIMESTAMP, tables.ITEM_ID]
_LISTED = {
    "item_rows": (tables.ITEM_ROW, pa.int32()),
    "timestamps": (tables.TIMESTAMP, pa.int64()),
    "labels": (tables.LABEL, pa.float32()),
    "positives": (tables.POSITIVE, pa.bool_()),
    "splits": (SPLIT, pa.int8()),
}
_HISTORY = pa.schema(
    {
        tables.HISTORY_ROW: pa.int32(),
        tables.USER_ROW: pa.int32(),
        **{name: pa.list_(kind) for name, (_, kind) in _LISTED.items()},
    }
)


def follow_users(
    engine: Engine, events: ibis.Table, *, histories: Path, ties_by_item: bool
) -> tuple[Path, Path, Path]:
    """Writes `<split>.parquet` into the folder of histories, and each split's rows for the writer of splits.

    Args:
        engine: runs the expressions.
        events: with their split and rows of users and items.
        histories: folder of the station.
        ties_by_item: whether of two events at one instant the one with the lower item id is the earlier;
            otherwise neither is before the other.

    Returns:
        For each split a Parquet file of its events with history_row and history_length, in the order of
        users.
    """
    histories.mkdir()
    rows = tuple(engine.scratch / f"rows-{name}.parquet" for name in SPLIT_NAMES)
    with contextlib.ExitStack() as stack:
        writers = [
            _SplitWriter(
                split,
                stack.enter_context(_writer(histories / f"{name}.parquet", _HISTORY)),
                stack.enter_context(_writer(rows[split], _rows_schema(events))),
            )
            for split, name in enumerate(SPLIT_NAMES)
        ]
        for table in _whole_users(engine.stream(events.order_by(_USER_ORDER))):
            users = _Users.of(table, ties_by_item=ties_by_item)
            for writer in writers:
                writer.write(table, users)
    return rows[0], rows[1], rows[2]


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression=COMPRESSION, use_dictionary=False)


def _rows_schema(events: ibis.Table) -> pa.Schema:
    fields = [(name, kind) for name, kind in zip(*_names_and_types(events), strict=True)]
    return pa.schema([*fields, (tables.HISTORY_ROW, pa.int32()), (tables.HISTORY_LENGTH, pa.int32())])


def _names_and_types(events: ibis.Table) -> tuple[list[str], list[pa.DataType]]:
    schema = events.schema().to_pyarrow()
    return schema.names, schema.types


def _whole_users(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Tables of at least ROW_GROUP_ROWS rows (but the last) that hold all events of each of their users."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(part.num_rows for part in waiting) < ROW_GROUP_ROWS:
            continue
        table = pa.Table.from_batches(waiting).combine_chunks()
        begin = int(_begins(table, tables.USER_ID)[-1])  # the last user's events may go on in the next batch
        waiting = table.slice(begin).to_batches()
        if begin:
            yield table.slice(0, begin)
    if waiting:
        yield pa.Table.from_batches(waiting)


def _begins(table: pa.Table, *names: str) -> npt.NDArray[np.int64]:
    """Positions, from 0, at which one of the columns changes."""
    changes = np.zeros(table.num_rows, dtype=bool)
    changes[0] = True
    for name in names:
        column = table[name].combine_chunks()
        differs = pc.not_equal(column[1:], column[:-1])
        changes[1:] |= differs.to_numpy(zero_copy_only=False)
    return np.flatnonzero(changes)


@dataclasses.dataclass(frozen=True)
class _Users:
    """Where users and their instants begin in a table of events in the order of users.

    Args:
        begins: [U] position of each user's first event.
        user: [N] which user each event is of.
        earliest: [N] position of the first event that is not strictly before each event.
        splits: [N] split of each event.
    """

    begins: npt.NDArray[np.int64]
    user: npt.NDArray[np.int64]
    earliest: npt.NDArray[np.int64]
    splits: npt.NDArray[np.int8]

    @staticmethod
    def of(table: pa.Table, *, ties_by_item: bool) -> _Users:
        begins = _begins(table, tables.USER_ID)
        instants = (
            np.arange(table.num_rows) if ties_by_item else _begins(table, tables.USER_ID, tables.TIMESTAMP)
        )
        return _Users(
            begins=begins,
            user=_repeat(np.arange(len(begins)), begins, table.num_rows),
            earliest=_repeat(instants, instants, table.num_rows),
            splits=table[SPLIT].to_numpy(),
        )


def _repeat(values: npt.NDArray[np.int64], begins: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    return np.repeat(values, np.diff(begins, append=size))


@dataclasses.dataclass
class _SplitWriter:
    """Writes what concerns one split."""

    split: int
    histories: pq.ParquetWriter
    rows: pq.ParquetWriter
    num_users: int = 0

    def write(self, table: pa.Table, users: _Users) -> None:
        """Adds the users of `table` who have events in this split."""
        own = users.splits == self.split
        has_own = np.zeros(len(users.begins), dtype=bool)
        has_own[users.user[own]] = True
        if not has_own.any():
            return
        visible = users.splits <= self.split
        visible_before: npt.NDArray[np.int64] = np.cumsum(visible) - visible
        of_user = visible_before[users.begins][users.user]
        lengths = visible_before[users.earliest] - of_user
        numbers = self.num_users + np.cumsum(has_own) - 1
        self.num_users += int(has_own.sum())
        self.rows.write_table(
            table.filter(pa.array(own))
            .append_column(tables.HISTORY_ROW, pa.array(numbers[users.user][own], pa.int32()))
            .append_column(tables.HISTORY_LENGTH, pa.array(lengths[own], pa.int32()))
            .cast(self.rows.schema)
        )
        seen = visible & has_own[users.user]
        sizes = np.bincount(users.user[seen], minlength=len(has_own))[has_own]
        columns = {
            tables.HISTORY_ROW: pa.array(numbers[has_own], pa.int32()),
            tables.USER_ROW: table[tables.USER_ROW].take(pa.array(users.begins[has_own])).cast(pa.int32()),
        }
        self.histories.write_table(
            pa.table({**columns, **_lists(table.filter(pa.array(seen)), sizes)}, schema=_HISTORY)
        )


def _lists(events: pa.Table, sizes: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
    """Events of one user after the other as one list a user, for every listed column."""
    offsets = pa.array(np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]), pa.int32())
    lists = {}
    for name, (column, kind) in _LISTED.items():
        values = events[column].cast(kind).combine_chunks()
        values = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
        lists[name] = pa.ListArray.from_arrays(offsets, values)
    return lists
