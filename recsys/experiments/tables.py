"""read_table: a log or a list beside it, CSV or Parquet, with the columns that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recsys.data.reading.csv_files import read_header
from recsys.data.reading.tables import is_parquet, raw_files
from recsys.schema.errors import InputError, nearest

# Instants as numbers are seconds, milliseconds, microseconds or nanoseconds, by their size.
_UNITS = ((1e10, "s"), (1e13, "ms"), (1e16, "us"), (float("inf"), "ns"))


def read_table(path: Path, *, required: Sequence[str], optional: Sequence[str] = (), key: str) -> pa.Table:
    """The rows of a file, or of all files in a folder, in their order.

    Args:
        path: CSV or Parquet.
        required: columns that must be there.
        optional: columns to read when they are there.
        key: that named the path, for messages.

    Raises:
        ValueError: nothing can be read at `path`, a required column is missing, or there is no row.
    """
    files = raw_files(path, key=key)
    parts = [_read(file, required, optional=optional, key=key) for file in files]
    table = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
    if not table.num_rows:
        raise InputError(f"`{key}={path}`: expected rows, found none; give a table with rows")
    return table


def ids_of(table: pa.Table, column: str, *, key: str) -> pa.Array:
    """A column of ids as text, so that those of several files compare.

    Raises:
        ValueError: an id is missing, by row.
    """
    ids = table[column].combine_chunks()
    if ids.null_count:
        row = pc.index(pc.is_null(ids), pa.scalar(True)).as_py() + 1
        raise InputError(
            f"`{column}` of `{key}`: expected an id in every row, found none in row {row} "
            f"({ids.null_count} of {len(ids)} rows); leave such rows out, or give them an id"
        )
    return ids.cast(pa.string())


def numbers_of(table: pa.Table, column: str, *, key: str) -> npt.NDArray[np.float64]:
    """A column of numbers; what is missing is NaN.

    Raises:
        ValueError: the column does not hold numbers, with its first other value.
    """
    values = table[column].combine_chunks()
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    try:
        return np.asarray(
            pc.fill_null(values.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False)
        )
    except pa.ArrowException as error:
        raise InputError(
            f"`{column}` of `{key}`: expected numbers, found {values.type}: {error}; name another column"
        ) from error


def days_of(table: pa.Table, column: str, *, key: str) -> npt.NDArray[np.int64]:
    """Days, in UTC, since that of the first row in time; instants are numbers, ISO text or datetimes.

    Raises:
        ValueError: a value is missing or cannot be read as an instant.
    """
    values = table[column].combine_chunks()
    try:
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
            largest = float(pc.max(pc.abs(values)).as_py())
            unit: Any = next(name for limit, name in _UNITS if largest < limit)
            instants = pd.to_datetime(pd.Series(values.to_pandas()), unit=unit, utc=True)
        else:
            text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
            series = pd.Series(values.to_pandas())
            instants = pd.to_datetime(series, utc=True, format="ISO8601" if text else None)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"`{column}` of `{key}`: expected instants, found {error}; name another column"
        ) from error
    if instants.isna().any():
        raise InputError(
            f"`{column}` of `{key}`: expected an instant in every row, found none in row "
            f"{int(instants.isna().to_numpy().argmax()) + 1}; leave such rows out"
        )
    days = instants.dt.floor("D")
    return np.asarray((days - days.min()).dt.days.to_numpy(), dtype=np.int64)


def codes_of(*columns: pa.Array) -> tuple[list[npt.NDArray[np.int64]], pa.Array]:
    """Each column's ids as numbers from 0 in order of appearance, over all of them, and the ids."""
    encoded = pa.concat_arrays([column.cast(pa.string()) for column in columns]).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return np.split(codes, ends), encoded.dictionary


def _read(file: Path, required: Sequence[str], *, optional: Sequence[str], key: str) -> pa.Table:
    try:
        if is_parquet(file):
            found, header = pq.read_schema(file).names, None
        else:
            header = read_header(file, required=[*required, *optional])
            found = list(header.columns)
        missing = [name for name in required if name not in found]
        if missing:
            hints = ", ".join(f"`{name}`{nearest(name, found)}" for name in missing)
            raise InputError(
                f"`{key}={file}` lacks {hints}; expected {', '.join(required)}; it has: {', '.join(found)}"
            )
        chosen = [name for name in dict.fromkeys([*required, *optional]) if name in found]
        if header is None:
            return pq.read_table(file, columns=chosen)
        return pa_csv.read_csv(
            file,
            read_options=pa_csv.ReadOptions(
                encoding=header.encoding, column_names=list(header.columns), skip_rows=1
            ),
            parse_options=pa_csv.ParseOptions(delimiter=header.delimiter),
            convert_options=pa_csv.ConvertOptions(include_columns=chosen, strings_can_be_null=True),
        )
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"`{key}={file}` cannot be read: {error}") from error
