"""Parquet and Arrow files: which of them the engine reads as they are, and the others written anew for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather
import pyarrow.parquet as pq

from recsys.data.reading.files import ARROW
from recsys.schema.errors import InputError

# Columns that the engine adds to rows, or has of its own.
ENGINE_COLUMNS = frozenset(
    ("_sequence", "_file_of_row", "_offset", "file_row_number", "filename", "file_index", "rowid")
)
# Of decimals that the engine knows.
_MOST_DIGITS = 38
_LISTS = (
    *(pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list),
    *(pa.types.is_list_view, pa.types.is_large_list_view),
)


@dataclasses.dataclass(frozen=True)
class ArrowFile:
    """A Parquet or Arrow file, its schema read.

    Args:
        path: the file.
        kind: PARQUET or ARROW.
        types: of its columns.
    """

    path: Path
    kind: str
    types: Mapping[str, pa.DataType]

    def write(
        self, target: Path, *, names: Mapping[str, str], sequence: str, offset: int
    ) -> tuple[int, list[Any]]:
        """Writes columns to a Parquet file that the engine can read, rows numbered.

        Args:
            target: the Parquet file.
            names: of the columns to write, and what each is called there.
            sequence: name of a further column that numbers the rows.
            offset: number before the first.

        Returns:
            How many rows there are; and, as none is ever malformed, an empty list.
        """
        kept = {name: plain_type(self.types[name]) for name in names if name in self.types}
        kept = {name: kind for name, kind in kept.items() if kind is not None}
        schema = pa.schema([*((names[name], kind) for name, kind in kept.items()), (sequence, pa.int64())])
        count = 0
        try:
            with pq.ParquetWriter(target, schema, compression="lz4") as writer:
                for batch in self._batches(list(kept)):
                    first = offset + count + 1
                    numbers = pa.array(range(first, first + len(batch)), pa.int64())
                    arrays = [as_plain(batch.column(name), kind) for name, kind in kept.items()]
                    writer.write_batch(pa.record_batch([*arrays, numbers], schema=schema))
                    count += len(batch)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(f"`{self.path}` cannot be read as {self.kind}: {error}") from error
        return count, []

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        if self.kind != ARROW:
            yield from pq.ParquetFile(self.path).iter_batches(columns=columns)
            return
        with _opened(self.path) as batches:
            for batch in batches:
                yield batch.select(columns)


def open_arrow(path: Path, kind: str) -> ArrowFile:
    """Reads the names and types of a file's columns.

    Raises:
        InputError: it is damaged, or two columns have one name.
    """
    try:
        if kind == ARROW:
            with _opened(path) as batches:
                schema = batches.schema
        else:
            schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"`{path}` cannot be read as {kind}: {error}") from error
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise InputError(f"`{path}`: column names must differ, found `{twice[0]}` twice")
    return ArrowFile(path, kind, {field.name: field.type for field in schema})


def engine_names(columns: Iterable[str]) -> dict[str, str]:
    """A name for each column that the engine, which knows no capitals, tells from all others."""
    names: dict[str, str] = {}
    taken = set(ENGINE_COLUMNS)
    for column in columns:
        name, number = column, 1
        while name.lower() in taken:
            name, number = f"{column}~{number}", number + 1
        taken.add(name.lower())
        names[column] = name
    return names


def is_plain(kind: pa.DataType) -> bool:
    """Whether the engine reads a column of this type as it is."""
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return bool(kind.unit != "ns")  # Ibis 12 does not know DuckDB's type of such
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return is_plain(kind.value_type) and not pa.types.is_nested(kind.value_type)
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or kind in (pa.float32(), pa.float64(), pa.string(), pa.large_string())
        or pa.types.is_decimal128(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_date32(kind)
    )


def plain_type(kind: pa.DataType) -> pa.DataType | None:
    """The type that a column is written anew as; None where there is none, as for structs and maps."""
    if pa.types.is_dictionary(kind) or isinstance(kind, pa.RunEndEncodedType):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC") if kind.tz else kind
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_decimal(kind):
        return pa.string() if kind.precision > _MOST_DIGITS else pa.decimal128(kind.precision, kind.scale)
    if any(is_kind(kind) for is_kind in _LISTS):
        inner = plain_type(kind.value_type)
        return None if inner is None or pa.types.is_nested(inner) else pa.list_(inner)
    if pa.types.is_nested(kind) or pa.types.is_interval(kind):
        return None
    if is_plain(kind):
        return pa.string() if pa.types.is_large_string(kind) else kind
    return pa.string()


def first_damaged(files: Sequence[Path]) -> str | None:
    """The first of some Parquet files that cannot be read to its end, with the reason."""
    for file in files:
        try:
            for _batch in pq.ParquetFile(file).iter_batches():
                pass
        except (pa.ArrowException, OSError) as error:
            return f"`{file}` is damaged, or was not fetched whole: {error}"
    return None


def as_plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column as `plain_type` of its type, which is `kind`."""
    if isinstance(column.type, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        # NOTE: Arrow 26 takes nothing out of a dictionary of views, as polars has them.
        values = as_plain(column.dictionary, plain_type(column.dictionary.type))
        column = pa.DictionaryArray.from_arrays(column.indices, values).dictionary_decode()
    if isinstance(column.type, pa.RunEndEncodedType):
        column = pc.run_end_decode(column)
    if pa.types.is_list_view(column.type) or pa.types.is_large_list_view(column.type):
        # NOTE: Arrow 26's own cast fails on the arrays that its Parquet reader makes.
        return pa.array(column.to_pylist(), kind)
    if pa.types.is_binary(column.type) or pa.types.is_fixed_size_binary(column.type):
        return pa.array([_text(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_duration(column.type) or pa.types.is_time(column.type):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    return column.cast(kind, safe=False)


def _text(value: bytes | None) -> str | None:
    """Bytes as the text that they are in UTF-8, or in hexadecimal digits."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _opened(file: Path) -> Any:
    """A file of Arrow's: with a footer, as a stream, or in the first version of Feather."""
    with file.open("rb") as opened:
        start = opened.read(6)
    if start.startswith(b"FEA1"):
        return pa.feather.read_table(file).to_reader()
    source = pa.memory_map(str(file))
    if start == b"ARROW1":
        reader = pa.ipc.open_file(source)
        return pa.RecordBatchReader.from_batches(
            reader.schema, (reader.get_batch(n) for n in range(reader.num_record_batches))
        )
    return pa.ipc.open_stream(source)
