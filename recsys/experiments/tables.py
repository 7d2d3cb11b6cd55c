"""Logs and the lists beside them: the columns that are asked for, as ids, numbers and days."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.reading.rows import ids_in, instants_in, known_in, numbers_in, read_rows
from recsys.schema.errors import InputError

_DAY_MICROSECONDS = 86_400_000_000
_LARGEST = 1e100


def read_table(path: Path, *, required: Sequence[str], optional: Sequence[str] = (), key: str) -> pa.Table:
    """The rows of a file, or of all files in a folder, in their order; see `read_rows`."""
    return read_rows(path, required=required, optional=optional, key=key)


def ids_of(table: pa.Table, column: str, *, key: str) -> pa.Array:
    """A column of ids as text, so that those of several files compare.

    Raises:
        InputError: an id is missing, by row.
    """
    ids = ids_in(table, column, key=key)
    if ids.null_count:
        row = pc.index(pc.is_null(ids), pa.scalar(True)).as_py() + 1
        raise InputError(
            f"`{column}` of `{key}`: expected an id in every row, found none in row {row} "
            f"({ids.null_count} of {len(ids)} rows); leave such rows out, or give them an id"
        )
    return ids


def numbers_of(table: pa.Table, column: str, *, key: str) -> npt.NDArray[np.float64]:
    """A column of numbers; what is missing is NaN.

    Raises:
        InputError: a value is no finite number, with its row.
    """
    values = numbers_in(table, column)
    present = known_in(table, column)
    # The squares and sums of what is larger are no numbers.
    too_large = pc.fill_null(pc.greater(pc.abs(values), _LARGEST), False)
    wrong = pc.and_(present, pc.or_(values.is_null(), too_large))
    if pc.any(wrong, min_count=0).as_py():
        row = pc.index(wrong, pa.scalar(True)).as_py()
        raise InputError(
            f"`{column}` of `{key}`: expected finite numbers, found `{table[column][row].as_py()}` in row "
            f"{row + 1} (the largest is {_LARGEST:g}); name another column, or mend the rows"
        )
    return np.asarray(values.fill_null(float("nan")).to_numpy(zero_copy_only=False), dtype=np.float64)


def days_of(table: pa.Table, column: str, *, key: str) -> npt.NDArray[np.int64]:
    """Days, in UTC, since that of the first row in time; instants are numbers, ISO text or datetimes.

    Raises:
        InputError: a value is missing or cannot be read as an instant.
    """
    instants = instants_in(table, column, key=key)
    if instants.null_count:
        row = pc.index(instants.is_null(), pa.scalar(True)).as_py()
        raise InputError(
            f"`{column}` of `{key}`: expected an instant in every row, found `{table[column][row].as_py()}` "
            f"in row {row + 1}; leave such rows out"
        )
    days = instants.to_numpy(zero_copy_only=False).astype(np.int64) // _DAY_MICROSECONDS
    return np.asarray(days - days.min())


def codes_of(*columns: pa.Array) -> tuple[list[npt.NDArray[np.int64]], pa.Array]:
    """Each column's ids as numbers from 0 in order of appearance, over all of them, and the ids."""
    encoded = pa.concat_arrays([column.cast(pa.string()) for column in columns]).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return np.split(codes, ends), encoded.dictionary
