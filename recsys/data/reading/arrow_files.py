"""Parquet and Arrow files: which of them the engine reads as they are, and the others written anew for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from recsys.data.reading.files import ARROW
from recsys.schema.errors import InputError

# Columns that the engine adds to rows, or has of its own.
ENGINE_COLUMNS = frozenset(
    ("_sequence", "_file_of_row", "_offset", "file_row_number", "filename", "file_index", "rowid")
)


def schema_of(file: Path, kind: str) -> tuple[pa.Schema, int]:
    """Names and types of a file's columns, and how many rows it has.

    Raises:
        InputError: it is damaged, or two columns have one name.
    """
    try:
        if kind == ARROW:
            with _opened(file) as batches:
                schema, num_rows = batches.schema, -1
        else:
            metadata = pq.read_metadata(file)
            schema, num_rows = metadata.schema.to_arrow_schema(), metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"`{file}` cannot be read as {kind}: {error}") from error
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise InputError(f"`{file}`: column names must differ, found `{twice[0]}` twice")
    return schema, num_rows


def engine_names(columns: Iterable[str]) -> dict[str, str]:
    """A name for each column that the engine, which knows no capitals, tells from all others."""
    found: dict[str, str] = {}
    taken = set(ENGINE_COLUMNS)
    for column in columns:
        name, number = column, 1
        while name.lower() in taken:
            name, number = f"{column}~{number}", number + 1
        taken.add(name.lower())
        found[column] = name
    return found


def is_plain(field: pa.Field) -> bool:
    """Whether the engine reads a column of this type as it is."""
    kind = field.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return bool(kind.unit != "ns")  # Ibis 12 does not know DuckDB's type of such
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return is_plain(kind.field(0)) and not pa.types.is_nested(kind.value_type)
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
        return kind if pa.types.is_decimal128(kind) else pa.float64()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = plain_type(kind.value_type)
        return None if inner is None or pa.types.is_nested(inner) else pa.list_(inner)
    if pa.types.is_nested(kind):
        return None
    if is_plain(pa.field("value", kind)):
        return pa.string() if pa.types.is_large_string(kind) else kind
    return pa.string()


def write_plain(
    file: Path, kind: str, target: Path, *, names: Mapping[str, str], sequence: str, offset: int
) -> int:
    """Writes columns of a file to a Parquet file that the engine can read, rows numbered.

    Args:
        file: Parquet or Arrow.
        kind: which of them.
        target: the Parquet file.
        names: of the columns to write, and what each is called there.
        sequence: name of a further column that numbers the rows.
        offset: number before the first.

    Returns:
        How many rows there are.
    """
    count = 0
    try:
        schema = schema_of(file, kind)[0]
        kept = {name: plain_type(schema.field(name).type) for name in names if name in schema.names}
        fields = [(names[name], found) for name, found in kept.items() if found is not None]
        columns = [name for name, found in kept.items() if found is not None]
        written = pa.schema([*fields, (sequence, pa.int64())])
        with pq.ParquetWriter(target, written, compression="lz4") as writer:
            for batch in _batches(file, kind, columns):
                numbers = pa.array(range(offset + count + 1, offset + count + len(batch) + 1), pa.int64())
                arrays = [_as_plain(batch.column(name), kept[name]) for name in columns]
                writer.write_batch(pa.record_batch([*arrays, numbers], schema=written))
                count += len(batch)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"`{file}` cannot be read as {kind}: {error}") from error
    return count


def first_damaged(files: Sequence[Path]) -> str | None:
    """The first of some Parquet files that cannot be read to its end, with the reason."""
    for file in files:
        try:
            for _batch in pq.ParquetFile(file).iter_batches():
                pass
        except (pa.ArrowException, OSError) as error:
            return f"`{file}` is damaged, or was not fetched whole: {error}"
    return None


def _as_plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
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


def _batches(file: Path, kind: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    if kind == ARROW:
        with _opened(file) as batches:
            for batch in batches:
                yield batch.select(list(columns))
        return
    yield from pq.ParquetFile(file).iter_batches(columns=list(columns))


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
