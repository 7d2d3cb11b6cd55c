"""CSV of any delimiter, encoding and quoting as Parquet of text, rows numbered, malformed ones set aside."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recsys.data.reading.quoting import HEADER_AGAIN, Dialect, Mended
from recsys.data.reading.text import BLOCK_BYTES, CP1252, blocks_of_lines, encoding_of
from recsys.schema.errors import InputError

LOGGER = logging.getLogger(__name__)

DELIMITERS = (",", "\t", ";", "|", "::", " ", ":", "\x01", "^", "~")
# As people write them where a shell or YAML leaves the backslash as it is.
_TYPED = {r"\t": "\t", "tab": "\t", r"\x01": "\x01"}
_LINES_LOOKED_AT = 50
_ROWS_SHOWN = 5


class MalformedRow(NamedTuple):
    """A row that does not have the header's number of columns."""

    sequence: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Header:
    """Describes the header of a CSV file, and how the file is written.

    Args:
        columns: names without blanks around them, in order; one without a name is empty.
        delimiter: what separates values.
        encoding: of the file.
        quote: what stands around values that hold the delimiter.
        line: the line of names, as it stands.
        num_lines: how many lines there are before the first row.
    """

    columns: tuple[str, ...]
    delimiter: str
    encoding: str
    quote: str = '"'
    line: bytes = b""
    num_lines: int = 1


def read_header(path: Path, *, required: Sequence[str], delimiter: str | None = None) -> Header:
    """Reads the header of a CSV file.

    Empty lines, comments (`#`) and the line `sep=;` before it are passed over.

    Args:
        path: the file, perhaps packed.
        required: columns that should be there; the delimiter is the first that shows most of them.
        delimiter: when it is known.

    Raises:
        InputError: the file is empty, or two columns have one name.
    """
    encoding = encoding_of(path)
    delimiter = _TYPED.get(delimiter or "", delimiter)
    lines = _first_lines(path, encoding)
    if not lines:
        raise InputError(f"`{path}`: expected column names in its first line, found nothing")
    before = 0
    while before < len(lines) - 1 and not lines[before].strip():
        before += 1
    if lines[before].lower().startswith(b"sep=") and len(lines[before]) > 4:
        delimiter, before = delimiter or lines[before][4:].decode(), before + 1
    tried = [delimiter] if delimiter else list(DELIMITERS)
    while (
        before < len(lines) - 1
        and lines[before].startswith(b"#")
        and not _shows(lines[before], tried, required)
    ):
        before += 1
    line = lines[before]
    splits = {mark: _names(line, mark) for mark in tried}
    shown = {mark: len(set(required) & set(splits[mark])) for mark in tried}
    best = max(tried, key=lambda mark: (shown[mark], len(splits[mark]) > 1, -tried.index(mark)))
    columns = splits[best]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise InputError(f"`{path}`: column names must differ, found `{twice[0]}` twice in its first line")
    rows = lines[before + 1 : _LINES_LOOKED_AT]
    if _end_with_delimiter(rows, best, len(columns)):
        columns = [*columns, ""]
    quote = _quote(rows, best)
    return Header(tuple(columns), best, encoding, quote=quote, line=line, num_lines=before + 1)


def stage_csv(
    path: Path,
    target: Path,
    header: Header,
    *,
    columns: Sequence[str],
    sequence: str,
    offset: int,
    names: Sequence[str] | None = None,
) -> tuple[int, list[MalformedRow]]:
    """Writes the rows of a CSV file to a Parquet file.

    Blanks around values are cut off; an empty value is null. Empty lines are not rows. A quotation mark that
    is opened and not closed is part of the value, and said.

    Args:
        path: the CSV file.
        target: the Parquet file.
        header: as `read_header` gives it.
        columns: those to keep.
        sequence: name of a further column that numbers the rows.
        offset: number before the first.
        names: of the columns in the Parquet file, where they are other ones.

    Returns:
        How many rows the file has, malformed ones included, and the malformed ones.
    """
    written = [*(names or columns), sequence]
    try:
        return _stage(path, target, header, columns=columns, names=written, offset=offset)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error) or header.encoding != "utf-8":
            raise InputError(f"`{path}` cannot be read as CSV: {error}") from error
    except (UnicodeError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the file
        raise InputError(f"`{path}` cannot be read as {header.encoding} text: {error}") from error
    windows = dataclasses.replace(header, encoding=CP1252)
    return _stage(path, target, windows, columns=columns, names=written, offset=offset)


def _stage(
    path: Path, target: Path, header: Header, *, columns: Sequence[str], names: Sequence[str], offset: int
) -> tuple[int, list[MalformedRow]]:
    malformed: list[MalformedRow] = []

    def set_aside(row: Any) -> str:
        reason = f"expected {row.expected_columns} columns, found {row.actual_columns}"
        if row.text == HEADER_AGAIN.decode():
            reason = "the column names again"
        malformed.append(MalformedRow(offset + row.number, reason))
        return "skip"

    schema = pa.schema([*((name, pa.string()) for name in names[:-1]), (names[-1], pa.int64())])
    if header.encoding == CP1252:
        LOGGER.warning("%s is not UTF-8; reading it as Latin-1 in the form of Windows (cp1252)", path)
    dialect = Dialect(header.delimiter.encode(), header.quote.encode())
    mended = Mended(dialect, num_columns=len(header.columns), header=header.line)
    lines = _without_first(blocks_of_lines(path, header.encoding), header.num_lines)
    num_good = 0
    with pq.ParquetWriter(target, schema, compression="lz4") as writer:
        for batch in _batches(mended.mend(lines), header, dialect, columns=columns, set_aside=set_aside):
            bad = np.array([row.sequence - offset for row in malformed], dtype=np.int64)
            numbers = _number_around(bad, start=num_good, count=batch.num_rows)
            cleaned = [_clean(batch.column(name)) for name in columns]
            writer.write_batch(pa.record_batch([*cleaned, pa.array(numbers + offset)], schema=schema))
            num_good += batch.num_rows
    if mended.open_rows:
        rows = ", ".join(map(str, mended.open_rows[:_ROWS_SHOWN]))
        LOGGER.warning(
            "%s: a quotation mark is opened and not closed in %d row(s) (%s%s); there it is read as part of "
            "the value", path, len(mended.open_rows), rows, " ..." * (len(mended.open_rows) > _ROWS_SHOWN),
        )  # fmt: skip
    return num_good + len(malformed), malformed


def _batches(
    blocks: Iterator[bytes], header: Header, dialect: Dialect, *, columns: Sequence[str], set_aside: Any
) -> Iterator[Any]:
    # A name that is empty would be read as no name; such a column is never asked for.
    names = [name or f"_unnamed_{number}" for number, name in enumerate(header.columns)]
    try:
        yield from pa_csv.open_csv(
            _Stream(blocks),
            # Without threads, Arrow tells the number of a malformed row.
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=names),
            parse_options=pa_csv.ParseOptions(
                delimiter=dialect.separator.decode(),
                quote_char=header.quote,
                newlines_in_values=True,
                invalid_row_handler=set_aside,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), include_columns=list(columns), null_values=[]
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):  # nothing follows the header
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


def _first_lines(path: Path, encoding: str) -> list[bytes]:
    try:
        blocks = blocks_of_lines(path, encoding, block_bytes=2**18)
        start = next(blocks, b"")
    except UnicodeError as error:
        raise InputError(f"`{path}` cannot be read as {encoding} text: {error}") from error
    return list(itertools.islice(start.split(b"\n")[:-1], 2 * _LINES_LOOKED_AT))


def _names(line: bytes, delimiter: str) -> list[str]:
    record = Dialect(delimiter.encode()).split(line)
    names = [_decoded(value).strip().strip('"').strip() for value in record.values]
    return [names[0].removeprefix("#").strip(), *names[1:]]


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode(CP1252, errors="replace")


def _shows(line: bytes, delimiters: Sequence[str], required: Sequence[str]) -> bool:
    """Whether a line that begins with `#` holds the column names and is no comment."""
    return any(len(set(required) & set(_names(line, mark))) * 2 > len(required) for mark in delimiters)


def _end_with_delimiter(rows: Sequence[bytes], delimiter: str, num_columns: int) -> bool:
    """Whether every row has one value more than the header, an empty one."""
    mark = delimiter.encode()
    full = [row for row in rows if row]
    return bool(full) and all(row.endswith(mark) and row.count(mark) == num_columns for row in full)


def _quote(rows: Sequence[bytes], delimiter: str) -> str:
    """`'` where a column has it around all of its values and no `"` occurs, else `"`."""
    if any(b'"' in row for row in rows):
        return '"'
    splits = [row.split(delimiter.encode()) for row in rows if row]
    for column in zip(*splits, strict=False):
        if all(len(value) > 1 and value.strip().startswith(b"'") for value in column):
            return "'" if any(value.strip().endswith(b"'") for value in column) else '"'
    return '"'


def _without_first(blocks: Iterator[bytes], num_lines: int) -> Iterator[bytes]:
    for block in blocks:
        while num_lines and block:
            block = block[block.index(b"\n") + 1 :]
            num_lines -= 1
        if block:
            yield block


class _Stream:
    """Blocks of bytes as a file that Arrow can read."""

    closed = False

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        end = len(self._rest) if size < 0 else size
        found, self._rest = bytes(self._rest[:end]), self._rest[end:]
        return found

    def close(self) -> None:
        self._blocks = iter(())
