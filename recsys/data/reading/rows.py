"""Small tables in memory: rows as the files have them, and their columns as ids, numbers and instants.

They are read by the same rules as the tables of a dataset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ibis
import pyarrow as pa

from recsys.data.reading.arrow_files import engine_names
from recsys.data.reading.columns import id_type, known_text, read_id, read_number, read_typed, text_kind
from recsys.data.reading.engine import temporary_engine
from recsys.data.reading.files import PARQUET, TableFiles
from recsys.data.reading.instants import time_reading
from recsys.data.reading.tables import SEQUENCE, RawTable, TableSource, read_table
from recsys.schema.errors import InputError, nearest


def read_rows(
    path: Path,
    *,
    required: Sequence[str],
    optional: Sequence[str] | None = (),
    key: str,
    others: Mapping[str, Sequence[str]] | None = None,
) -> pa.Table:
    """The rows of a file, or of all files in a folder, in their order; of CSV as text.

    Args:
        path: CSV, Parquet or Arrow.
        required: columns that must be there.
        optional: columns to read when they are there; None reads all.
        key: that named the path, for messages.
        others: further names that a required column may go by, in order of precedence.

    Raises:
        InputError: nothing can be read at `path`, a required column is missing, a row has too few or too many
            values, or there is no row.
    """
    others = others or {}
    named = [*required, *(name for names in others.values() for name in names)]
    wanted = None if optional is None else [*named, *optional]
    with temporary_engine() as engine:
        raw = read_table(engine, TableSource(path, key, likely=named, wanted=wanted))
        chosen = _chosen(raw, path, required=required, optional=optional, key=key, others=others)
        if raw.malformed:
            [(file, row)] = raw.places([raw.malformed[0].sequence])
            raise InputError(
                f"`{key}={file}`: row {row}: {raw.malformed[0].reason} ({len(raw.malformed)} such rows); "
                "mend the file"
            )
        names = engine_names(chosen)
        rows = raw.rows.select(SEQUENCE, **{names[name]: raw.column(name) for name in chosen})
        table = engine.collect(rows.order_by(SEQUENCE)).drop_columns([SEQUENCE])
    if not table.num_rows:
        raise InputError(f"`{key}={path}`: expected rows, found none; give a table with rows")
    return table.rename_columns(chosen).combine_chunks()


def ids_in(table: pa.Table, column: str, *, key: str) -> pa.Array:
    """A column of ids as text, so that those of several files compare: 5, 5.0 and "5.0" are `5`."""

    def read(raw: RawTable) -> ibis.Value:
        return read_id(raw.column(column), id_type(raw, column, key=key)).cast("string")

    return _read(table, column, read)


def numbers_in(table: pa.Table, column: str) -> pa.Array:
    """A column of numbers as float64; null where there is none."""
    return _read(table, column, lambda raw: read_number(raw.column(column), text_kind(raw, column)))


def known_in(table: pa.Table, column: str) -> pa.Array:
    """Which values of a column there are, [N] bool: not null, not NaN, and no word for nothing."""

    def read(raw: RawTable) -> ibis.Value:
        value = raw.column(column)
        if value.type().is_string():
            return known_text(value).notnull()
        return value.notnull() & ~value.isnan() if value.type().is_floating() else value.notnull()

    return _read(table, column, read)


def instants_in(table: pa.Table, column: str, *, unit: str | None = None, key: str) -> pa.Array:
    """A column of instants in microseconds since 1970 (UTC), int64; null where there is none.

    Args:
        table: in memory.
        column: of the table.
        unit: of numbers; None finds out.
        key: that named the table, for messages.
    """

    def read(raw: RawTable) -> ibis.Value:
        return time_reading(raw, column, unit=unit, key=key).read(raw.column(column))

    return _read(table, column, read)


def typed_in(table: pa.Table, column: str) -> pa.Array:
    """A column as features hold it: integers, floats, truth values, text or lists of them."""
    return _read(table, column, lambda raw: read_typed(raw.column(column), text_kind(raw, column)))


def _read(table: pa.Table, column: str, read: Callable[[RawTable], ibis.Value]) -> pa.Array:
    numbers = pa.array(range(1, table.num_rows + 1), pa.int64())
    with temporary_engine() as engine:
        rows = engine.upload(pa.table({"_value": table[column], SEQUENCE: numbers}))
        files = TableFiles((), PARQUET)
        raw = RawTable(engine, rows, (column,), {column: "_value"}, files, num_rows=(table.num_rows,))
        values = engine.collect(raw.rows.select(SEQUENCE, value=read(raw)).order_by(SEQUENCE))["value"]
    return values.combine_chunks()


def _chosen(
    raw: RawTable,
    path: Path,
    *,
    required: Sequence[str],
    optional: Sequence[str] | None,
    key: str,
    others: Mapping[str, Sequence[str]],
) -> list[str]:
    chosen, missing = [], []
    for name in required:
        names = (name, *others.get(name, ()))
        there = next((column for column in names if column in raw.names), None)
        if there is None:
            missing.append(" or ".join(f"`{column}`" for column in names) + nearest(name, raw.columns))
        else:
            chosen.append(there)
    if missing:
        raise InputError(
            f"`{key}={path}` lacks {', '.join(missing)}; expected {', '.join(required)}; "
            f"it has: {', '.join(raw.columns)}"
        )
    return list(
        dict.fromkeys([*chosen, *(name for name in raw.names if optional is None or name in optional)])
    )
