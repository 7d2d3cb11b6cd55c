"""stage_csv: a CSV file of any delimiter as Parquet, all text, rows numbered, malformed ones set aside."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recsys.schema.errors import InputError

LOGGER = logging.getLogger(__name__)

DELIMITERS = (",", "\t", ";", "|", "::", " ", ":")
_STAND_IN = "\x1f"  # the unit separator, for delimiters of several characters
_BLOCK_BYTES = 8 * 2**20


class MalformedRow(NamedTuple):
    """A row that does not have the header's number of columns."""

    sequence: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Header:
    """First line of a CSV file: names without blanks around them, as they stand; what separates them."""

    columns: tuple[str, ...]
    delimiter: str
    encoding: str


def read_header(path: Path, *, required: Sequence[str], delimiter: str | None = None) -> Header:
    """The header of a CSV file.

    Args:
        path: the file; gzipped when its name ends in `.gz`.
        required: columns that should be there; the delimiter is the first that shows most of them.
        delimiter: when it is known.

    Raises:
        ValueError: the file is empty, or two columns have one name.
    """
    line, encoding = _first_line(path)
    tried = [delimiter] if delimiter else list(DELIMITERS)
    splits = {d: _split_header(line, d) for d in tried}
    shown = {d: len(set(required) & set(splits[d])) for d in tried}
    best = max(tried, key=lambda d: (shown[d], len(splits[d]) > 1, -tried.index(d)))
    columns = splits[best]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise InputError(f"`{path}`: column names must differ, found `{twice[0]}` twice in its first line")
    return Header(columns=tuple(columns), delimiter=best, encoding=encoding)


def stage_csv(
    path: Path, target: Path, header: Header, *, columns: Sequence[str], sequence: str, offset: int
) -> tuple[int, list[MalformedRow]]:
    """Writes the rows of a CSV file to a Parquet file.

    Blanks around values are cut off; an empty value is null. Empty lines are not rows.

    Args:
        path: the CSV file.
        target: the Parquet file.
        header: what `read_header` found.
        columns: those to keep.
        sequence: name of a further column that numbers the rows.
        offset: number before the first.

    Returns:
        How many rows the file has, malformed ones included, and the malformed ones.
    """
    try:
        return _stage(path, target, header, columns=columns, sequence=sequence, offset=offset)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error) or header.encoding != "utf-8":
            raise InputError(f"`{path}` cannot be read as CSV: {error}") from error
    LOGGER.warning("%s is not UTF-8; reading it as Latin-1", path)
    latin = dataclasses.replace(header, encoding="latin-1")
    return _stage(path, target, latin, columns=columns, sequence=sequence, offset=offset)


def _stage(
    path: Path, target: Path, header: Header, *, columns: Sequence[str], sequence: str, offset: int
) -> tuple[int, list[MalformedRow]]:
    malformed: list[MalformedRow] = []

    def set_aside(row: Any) -> str:
        # The header is line 1 to Arrow, so that the first row of data is number 2.
        reason = f"expected {row.expected_columns} columns, found {row.actual_columns}"
        malformed.append(MalformedRow(offset + row.number - 1, reason))
        return "skip"

    schema = pa.schema([*((name, pa.string()) for name in columns), (sequence, pa.int64())])
    num_good = 0
    with (
        _open(path, header.delimiter) as source,
        pq.ParquetWriter(target, schema, compression="lz4") as writer,
    ):
        for batch in _batches(source, header, columns=columns, set_aside=set_aside):
            bad = np.array([row.sequence - offset for row in malformed], dtype=np.int64)
            numbers = _number_around(bad, start=num_good, count=batch.num_rows)
            cleaned = [_clean(column) for column in batch.columns]
            writer.write_batch(pa.record_batch([*cleaned, pa.array(numbers + offset)], schema=schema))
            num_good += batch.num_rows
    return num_good + len(malformed), malformed


def _batches(source: IO[bytes], header: Header, *, columns: Sequence[str], set_aside: Any) -> Iterator[Any]:
    separator = header.delimiter if len(header.delimiter) == 1 else _STAND_IN
    # A name that is empty would be read as no name; such a column is never asked for.
    names = [name or f"_unnamed_{number}" for number, name in enumerate(header.columns)]
    try:
        yield from pa_csv.open_csv(
            source,
            # Without threads, Arrow tells the number of a malformed row.
            read_options=pa_csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK_BYTES,
                column_names=names,
                skip_rows=1,
                encoding=header.encoding,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=set_aside
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), include_columns=list(columns), null_values=[]
            ),
        )
    except pa.ArrowInvalid as error:
        # Nothing follows the header.
        if "Empty CSV" not in str(error) and "Could not skip initial" not in str(error):
            raise


def _number_around(taken: npt.NDArray[np.int64], *, start: int, count: int) -> npt.NDArray[np.int64]:
    """Row numbers, from 1, of the good rows start..start+count-1, when those `taken` (ascending) are bad.

    >>> _number_around(np.array([2, 3]), start=0, count=3)
    array([1, 4, 5])
    """
    good = np.arange(start, start + count, dtype=np.int64)
    # Before the i-th malformed row (from 0) stand taken[i] - 1 - i good ones.
    good_before = taken - 1 - np.arange(len(taken))
    return good + 1 + np.searchsorted(good_before, good, side="right")


def _clean(column: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(pc.binary_length(trimmed), 0), pa.scalar(None, pa.string()), trimmed)


def _first_line(path: Path) -> tuple[str, str]:
    with _open(path, ",") as file:
        line = file.readline(2**20) if hasattr(file, "readline") else b""
    line = line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    if not line:
        raise InputError(f"`{path}`: expected column names in its first line, found nothing")
    try:
        return line.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return line.decode("latin-1"), "latin-1"


def _split_header(line: str, delimiter: str) -> list[str]:
    if len(delimiter) > 1:
        line, delimiter = line.replace(delimiter, _STAND_IN), _STAND_IN
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]


def _open(path: Path, delimiter: str) -> IO[bytes]:
    file: Any = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115 (closed by the caller)
    return file if len(delimiter) == 1 else _Replaced(file, delimiter)  # type: ignore[return-value]


class _Replaced:
    """A binary file whose delimiter of several characters, which Arrow does not take, reads as _STAND_IN."""

    closed = False

    def __init__(self, file: IO[bytes], delimiter: str) -> None:
        self.file = file
        self.delimiter = delimiter.encode()
        self.rest = b""

    def read(self, size: int = -1) -> bytes:
        block = self.file.read(size)
        ready = self.rest + block
        # The block's end may cut a delimiter: what could be its beginning waits for the next block.
        kept = self._cut_off(ready) if block else 0
        self.rest = ready[len(ready) - kept :]
        done = ready[: len(ready) - kept].replace(self.delimiter, _STAND_IN.encode())
        return done if done or not block else self.read(size)

    def _cut_off(self, ready: bytes) -> int:
        ready = ready.replace(self.delimiter, b"\0" * len(self.delimiter))
        lengths = range(min(len(self.delimiter) - 1, len(ready)), 0, -1)
        return next((length for length in lengths if ready.endswith(self.delimiter[:length])), 0)

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> _Replaced:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
