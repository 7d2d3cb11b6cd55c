"""write_split, write_histories: the events of a split as prepared Parquet, and what their users did before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ibis import _

from recsys.data.encode import arrow_type, encode
from recsys.data.engines import ROW_GROUP_ROWS, DuckDBEngine
from recsys.data.splits import SPLIT, TRAIN
from recsys.schema.features import Feature
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

_ROW_GROUPS_PER_FILE = 50
_FIXED = {
    USER_ROW: pa.int32(),
    ITEM_ROW: pa.int32(),
    TIMESTAMP: pa.int64(),
    LABEL: pa.float32(),
    POSITIVE: pa.bool_(),
    HISTORY_ROW: pa.int32(),
    HISTORY_LENGTH: pa.int32(),
}
_HISTORY = pa.schema(
    {
        HISTORY_ROW: pa.int32(),
        USER_ROW: pa.int32(),
        "item_rows": pa.list_(pa.int32()),
        "timestamps": pa.list_(pa.int64()),
        "labels": pa.list_(pa.float32()),
        "positives": pa.list_(pa.bool_()),
        "splits": pa.list_(pa.int8()),
    }
)
_LISTED = {
    ITEM_ROW: "item_rows",
    TIMESTAMP: "timestamps",
    LABEL: "labels",
    POSITIVE: "positives",
    SPLIT: "splits",
}


def visible_events(engine: DuckDBEngine, events: ibis.Table, split: int, *, ties_by_item: bool) -> ibis.Table:
    """What the rows of a split may see: all events of its users in it and in the splits before it.

    Args:
        engine: runs the expressions.
        events: with their split and rows.
        split: its number.
        ties_by_item: whether of two events at one instant the one with the lower item id is the earlier; otherwise
            neither is before the other.

    Returns:
        The events with history_row, numbered over users from 0, and history_length, how many of the user's events
        come strictly before.
    """
    users = events.filter(_[SPLIT] == split).select(USER_ROW, USER_ID).distinct()
    in_order = ibis.window(order_by=[USER_ROW, USER_ID])
    numbered = users.mutate(**{HISTORY_ROW: ibis.row_number().over(in_order).cast("int32")}).drop(USER_ROW)
    seen = events.filter(_[SPLIT] <= split).join(engine.keep(numbered), USER_ID)
    if ties_by_item:
        before = ibis.row_number().over(ibis.window(group_by=HISTORY_ROW, order_by=[TIMESTAMP, ITEM_ID]))
    else:
        before = ibis.rank().over(ibis.window(group_by=HISTORY_ROW, order_by=TIMESTAMP))
    return engine.keep(seen.mutate(**{HISTORY_LENGTH: before.cast("int32")}))


def write_split(
    engine: DuckDBEngine, visible: ibis.Table, folder: Path, *, split: int, context: Sequence[Feature]
) -> None:
    """Writes the rows of a split, in the order of time, user id and item id, to `folder/part-*.parquet`.

    Args:
        engine: runs the expressions.
        visible: from `visible_events`; a column for each context feature that was encoded before, and the raw
            columns of the others.
        folder: made here.
        split: its number.
        context: fitted context features.
    """
    raw_columns = [name for name in visible.columns if name.startswith(RAW_PREFIX)]
    rows = visible.filter(_[SPLIT] == split).order_by([TIMESTAMP, USER_ID, ITEM_ID])
    kept = (
        {}
        if split == TRAIN
        else {name: visible.schema()[name].to_pyarrow() for name in (USER_ID, ITEM_ID, *raw_columns)}
    )
    features = {feature.name: arrow_type(feature) for feature in context}
    schema = pa.schema({**_FIXED, **features, **kept})
    chosen = [*_FIXED, *kept, *(f.name for f in context if f.name in visible.columns)]
    sources = [RAW_PREFIX + f.column for f in context if f.name not in visible.columns and f.kind != "time"]
    batches = engine.stream(rows.select(*dict.fromkeys([*chosen, *sources])))
    write_files((_complete(batch, context, schema) for batch in batches), schema, folder)


def _complete(batch: pa.RecordBatch, context: Sequence[Feature], schema: pa.Schema) -> pa.RecordBatch:
    columns = {name: batch.column(name) for name in batch.schema.names}
    for feature in context:
        if feature.name not in columns:
            source = TIMESTAMP if feature.kind == "time" else RAW_PREFIX + feature.column
            columns[feature.name] = encode(feature, batch.column(source))
    return pa.record_batch([columns[field.name].cast(field.type) for field in schema], schema=schema)


def write_files(batches: Iterator[pa.RecordBatch], schema: pa.Schema, folder: Path) -> None:
    """Writes batches as the row groups of `part-00000.parquet` and so on; one file at least."""
    folder.mkdir(parents=True)
    writer = None
    number = -1
    for number, batch in enumerate(batches):
        if number % _ROW_GROUPS_PER_FILE == 0:
            if writer:
                writer.close()
            writer = pq.ParquetWriter(folder / f"part-{number // _ROW_GROUPS_PER_FILE:05d}.parquet", schema)
        assert writer is not None
        writer.write_batch(batch)
    if writer is None:
        pq.write_table(schema.empty_table(), folder / "part-00000.parquet")
    else:
        writer.close()


def write_histories(engine: DuckDBEngine, visible: ibis.Table, path: Path) -> None:
    """Writes what each user of a split has done, one row a user, oldest event first."""
    rows = visible.order_by([HISTORY_ROW, TIMESTAMP, ITEM_ID]).select(HISTORY_ROW, USER_ROW, *_LISTED)
    path.parent.mkdir(exist_ok=True)
    with pq.ParquetWriter(path, _HISTORY) as writer:
        rest = None
        for batch in engine.stream(rows):
            table = pa.Table.from_batches([batch])
            table = table if rest is None else pa.concat_tables([rest, table])
            if table.num_rows < ROW_GROUP_ROWS:
                rest = table
                continue
            # The last user's events may go on in the next batch.
            users = table[HISTORY_ROW].to_numpy()
            begin = int(np.searchsorted(users, users[-1]))
            writer.write_table(_lists(table.slice(0, begin)))
            rest = table.slice(begin)
        if rest is not None:
            writer.write_table(_lists(rest))


def _lists(table: pa.Table) -> pa.Table:
    """Rows of one user after the other as one row a user."""
    table = table.combine_chunks()
    users = table[HISTORY_ROW].to_numpy()
    starts = np.flatnonzero(np.diff(users, prepend=-1)).astype(np.int32)
    offsets = pa.array(np.append(starts, np.int32(table.num_rows)), pa.int32())
    columns = {name: table[name].take(pa.array(starts)) for name in (HISTORY_ROW, USER_ROW)}
    for name, listed in _LISTED.items():
        values = table[name].combine_chunks() if table.num_rows else pa.array([], table[name].type)
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks)
        columns[listed] = pa.ListArray.from_arrays(
            offsets, values.cast(_HISTORY.field(listed).type.value_type)
        )
    return pa.table(columns, schema=_HISTORY)
