"""Turns a DataFrame into a Parquet file of the cache, so that it goes the same way as a path."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.interchange
import pyarrow.parquet as pq

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
    sink = pa.BufferOutputStream()
    # What pandas notes of its index says nothing of the rows.
    pq.write_table(content.replace_schema_metadata(None), sink, compression="zstd")
    written = sink.getvalue().to_pybytes()
    path = cache / "frames" / f"{name}-{hashlib.sha256(written).hexdigest()[:16]}.parquet"
    if not path.exists():  # a file that is there keeps its time: what was prepared from it stays valid
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, written)
    return path


def _arrow(table: Any, name: str) -> pa.Table:
    try:
        if isinstance(table, pd.DataFrame):
            return pa.Table.from_pandas(table, preserve_index=False)
        if isinstance(table, pa.Table):
            return table
        if hasattr(table, "__arrow_c_stream__"):
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
