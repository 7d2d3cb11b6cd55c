"""Turns a DataFrame into a Parquet file of the cache, so that it goes the same way as a path."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.interchange
import pyarrow.parquet as pq

from recsys.data.reading.arrow_files import as_plain, plain_type
from recsys.schema.disk import write_file
from recsys.schema.errors import InputError, InputTypeError
from recsys.schema.places import at_home


class _ArrowTable(Protocol):
    """Any table that speaks the Arrow PyCapsule interface: of polars, pyarrow, DuckDB and others."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """A capsule that holds a stream of record batches."""


class _InterchangeFrame(Protocol):
    """Any table that speaks the DataFrame interchange protocol."""

    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> Any:
        """The table as the protocol has it."""


Table = str | Path | pd.DataFrame | _ArrowTable | _InterchangeFrame


def path_of(table: Table, *, name: str, cache: Path) -> Path:
    """The path of a table: a path as it is, a DataFrame as a Parquet file named by its content.

    The same DataFrame gives the same file, so that what was prepared from it is found again.

    Args:
        table: a path, or a table of pandas, polars, pyarrow or another library that speaks Arrow.
        name: of the argument, for messages and the file's name.
        cache: folder of raw and prepared data.

    Raises:
        InputError: it is no table, or a column holds values of several types.
    """
    if isinstance(table, str | Path):
        return at_home(table)
    content = _arrow(table, name)
    # What pandas notes of its index says nothing of the rows.
    written = _parquet(content.replace_schema_metadata(None), name)
    path = cache / "frames" / f"{name}-{hashlib.sha256(written).hexdigest()[:16]}.parquet"
    if not path.exists():  # a file that is there keeps its time: what was prepared from it stays valid
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, written)
    return path


def _parquet(table: pa.Table, name: str) -> bytes:
    """The content of a Parquet file, categories as their values, which Arrow cannot always write."""
    columns = [
        pa.chunked_array([as_plain(chunk, plain_type(kind)) for chunk in column.chunks], plain_type(kind))
        if pa.types.is_dictionary(kind) and plain_type(kind) is not None
        else column
        for column, kind in zip(table.columns, table.schema.types, strict=True)
    ]

    def written(columns: Sequence[pa.ChunkedArray], names: Sequence[str]) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(list(columns), names=list(names)), sink, compression="zstd")
        return bytes(sink.getvalue().to_pybytes())

    try:
        return written(columns, table.column_names)
    except pa.ArrowException:
        for column, values in zip(table.column_names, columns, strict=True):
            try:
                written([values], [column])
            except pa.ArrowException as error:
                raise InputError(
                    f"`{name}` cannot be read as a table: the column `{column}` is of the type "
                    f"{values.type}; leave it out, or write what is meant as a column of its own ({error})"
                ) from error
        raise


def _arrow(table: Any, name: str) -> pa.Table:
    try:
        if isinstance(table, pd.DataFrame):
            # An index with a name is a column.
            named = all(part is not None and part not in table.columns for part in table.index.names)
            table = table.reset_index() if named else table
            return pa.Table.from_pandas(table, preserve_index=False)
        if isinstance(table, pa.Table):
            return table
        if hasattr(table, "__arrow_c_stream__"):
            _check_no_objects(table, name)
            return pa.table(table)
        if hasattr(table, "__dataframe__"):
            return pyarrow.interchange.from_dataframe(table)
    except (pa.ArrowException, TypeError, ValueError) as error:
        said = " ".join(str(part) for part in error.args)
        raise InputError(
            f"`{name}` cannot be read as a table: {said}; give every column one type and a name of its own"
        ) from error
    raise InputTypeError(
        f"expected a path or a DataFrame (pandas, polars, pyarrow) for `{name}`, got {type(table).__name__}"
    )


def _check_no_objects(table: Any, name: str) -> None:
    """Refuses columns of Python objects of polars, of which Arrow is given the addresses.

    Raises:
        InputError: naming them.
    """
    dtypes = zip(getattr(table, "columns", ()), getattr(table, "dtypes", ()), strict=False)
    objects = [f"`{column}`" for column, dtype in dtypes if str(dtype) == "Object"]
    if objects:
        raise InputError(
            f"`{name}` cannot be read as a table: {', '.join(objects)} holds Python objects, which nobody "
            "else can read; make them text or numbers"
        )
