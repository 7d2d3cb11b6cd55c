"""write_split: the events of a split as prepared Parquet, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.preparing.encode import arrow_type, encode
from recsys.data.preparing.splits import TRAIN
from recsys.data.reading.engine import Engine
from recsys.schema import tables
from recsys.schema.feature_kinds import Feature

_ROW_GROUPS_PER_FILE = 50
# Written in a quarter of the time of Parquet's defaults and read at the same speed, 7 % larger.
COMPRESSION = "lz4"
_MANY_VALUED = (
    tables.USER_ROW,
    tables.ITEM_ROW,
    tables.TIMESTAMP,
    tables.HISTORY_ROW,
    tables.HISTORY_LENGTH,
    tables.USER_ID,
    tables.ITEM_ID,
    tables.RAW_PREFIX + tables.TIMESTAMP,
)
_FIXED = {
    tables.USER_ROW: pa.int32(),
    tables.ITEM_ROW: pa.int32(),
    tables.TIMESTAMP: pa.int64(),
    tables.LABEL: pa.float32(),
    tables.POSITIVE: pa.bool_(),
    tables.HISTORY_ROW: pa.int32(),
    tables.HISTORY_LENGTH: pa.int32(),
}


def write_split(
    engine: Engine,
    rows: Path,
    folder: Path,
    *,
    split: int,
    features: Sequence[Feature],
    has_users: bool = True,
) -> None:
    """Writes the rows of a split, in the order of time, user id and item id, to `folder/part-*.parquet`.

    Args:
        engine: runs the expressions.
        rows: from `follow_users`; a column for each feature that was encoded before, and the raw
            columns.
        folder: made here.
        split: its number.
        features: fitted features of events.
        has_users: false where each row is a user of its own, so that its user row says nothing and train
            keeps `user_id` too.
    """
    table = engine.read_parquet([rows])
    raw_columns = [name for name in table.columns if name.startswith(tables.RAW_PREFIX)]
    labels = [name for name in table.columns if name.startswith(tables.LABEL_PREFIX)]
    of_train = () if has_users else (tables.USER_ID,)
    kept = of_train if split == TRAIN else (tables.USER_ID, tables.ITEM_ID, *raw_columns)
    types = table.schema().to_pyarrow()
    written = {feature.name: arrow_type(feature) for feature in features}
    schema = pa.schema(
        {
            **_FIXED,
            **dict.fromkeys(labels, pa.float32()),
            **written,
            **{name: types.field(name).type for name in kept},
        }
    )
    sources = [f.name if f.name in table.columns else f.source for f in features]
    chosen = table.order_by([tables.TIMESTAMP, tables.USER_ID, tables.ITEM_ID]).select(
        *dict.fromkeys([*_FIXED, *labels, *kept, *sources])
    )
    _write_files((_complete(batch, features, schema) for batch in engine.stream(chosen)), schema, folder)


def _complete(batch: pa.RecordBatch, features: Sequence[Feature], schema: pa.Schema) -> pa.RecordBatch:
    """Adds the features that are computed from the row alone, and bags where a raw value was null."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    for feature in features:
        if feature.name not in columns:
            columns[feature.name] = encode(feature, batch.column(feature.source))
        elif feature.is_multivalued:
            columns[feature.name] = _empty_for_null(columns[feature.name])
        else:
            columns[feature.name] = columns[feature.name].fill_null(0)
    return pa.record_batch([columns[field.name].cast(field.type) for field in schema], schema=schema)


def _empty_for_null(bags: pa.Array) -> pa.Array:
    lengths = pc.list_value_length(bags).fill_null(0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, pc.list_flatten(bags))


def _write_files(batches: Iterator[pa.RecordBatch], schema: pa.Schema, folder: Path) -> None:
    """Writes batches as the row groups of `part-00000.parquet` and so on; one file at least."""
    folder.mkdir()
    dictionary = [name for name in schema.names if name not in _MANY_VALUED]
    writer = None
    for number, batch in enumerate(batches):
        if number % _ROW_GROUPS_PER_FILE == 0:
            if writer:
                writer.close()
            path = folder / f"part-{number // _ROW_GROUPS_PER_FILE:05d}.parquet"
            writer = pq.ParquetWriter(path, schema, compression=COMPRESSION, use_dictionary=dictionary)
        assert writer is not None
        writer.write_batch(batch)
    if writer is None:
        pq.write_table(schema.empty_table(), folder / "part-00000.parquet")
    else:
        writer.close()
