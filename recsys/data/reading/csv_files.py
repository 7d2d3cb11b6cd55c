"""CSV of any delimiter, encoding and quoting as Parquet of text, rows numbered, malformed ones set aside."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recsys.data.reading.quoting import HEADER_AGAIN, Dialect, QuoteRewriter
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
class CsvFile:
    """A CSV file, its header read and its dialect known.

    Args:
        path: the file, perhaps packed.
        names: of the columns without blanks around them, in order; one without a name is empty.
        delimiter: what separates values.
        encoding: of the file.
        quote: what stands around values that hold the delimiter.
        header: the line of names, as it stands.
        num_lines: how many lines there are before the first row.
    """

    path: Path
    names: tuple[str, ...]
    delimiter: str
    encoding: str
    quote: str
    header: bytes
    num_lines: int

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The type of each column that has a name: text."""
        return {name: pa.string() for name in self.names if name}

    def write(
        self, target: Path, *, names: Mapping[str, str], sequence: str, offset: int
    ) -> tuple[int, list[MalformedRow]]:
        """Writes the rows to a Parquet file.

        Blanks around values are cut off; an empty value is null. Empty lines are not rows. A quotation mark
        that is opened and not closed is part of the value, and said.

        Args:
            target: the Parquet file.
            names: of the columns to keep, and what each is called there.
            sequence: name of a further column that numbers the rows.
            offset: number before the first.

        Returns:
            How many rows the file has, malformed ones included, and the malformed ones.
        """
        chosen = {name: names[name] for name in self.names if name in names}
        try:
            return self._write(target, chosen, sequence, offset)
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error) or self.encoding != "utf-8":
                raise InputError(f"`{self.path}` cannot be read as CSV: {error}") from error
        except UnicodeError as error:
            raise InputError(f"`{self.path}` cannot be read as {self.encoding} text: {error}") from error
        return dataclasses.replace(self, encoding=CP1252)._write(target, chosen, sequence, offset)

    def _write(
        self, target: Path, names: Mapping[str, str], sequence: str, offset: int
    ) -> tuple[int, list[MalformedRow]]:
        malformed: list[MalformedRow] = []

        def set_aside(row: Any) -> str:
            reason = f"expected {row.expected_columns} columns, found {row.actual_columns}"
            if row.text == HEADER_AGAIN.decode():
                reason = "the column names again"
            malformed.append(MalformedRow(offset + row.number, reason))
            return "skip"

        if self.encoding == CP1252:
            LOGGER.warning(
                "%s is not UTF-8; reading it as Latin-1 in the form of Windows (cp1252)", self.path
            )
        schema = pa.schema([*((name, pa.string()) for name in names.values()), (sequence, pa.int64())])
        dialect = Dialect(self.delimiter.encode(), self.quote.encode())
        rewriter = QuoteRewriter(dialect, num_columns=len(self.names), header=self.header)
        lines = _without_first(blocks_of_lines(self.path, self.encoding), self.num_lines)
        num_good = 0
        with pq.ParquetWriter(target, schema, compression="lz4") as writer:
            for batch in self._batches(rewriter.rewrite(lines), dialect, list(names), set_aside):
                bad = np.array([row.sequence - offset for row in malformed], dtype=np.int64)
                numbers = _number_around(bad, start=num_good, count=batch.num_rows)
                cleaned = [_clean(batch.column(name)) for name in names]
                writer.write_batch(pa.record_batch([*cleaned, pa.array(numbers + offset)], schema=schema))
                num_good += batch.num_rows
        if rewriter.open_rows:
            rows = ", ".join(map(str, rewriter.open_rows[:_ROWS_SHOWN]))
            more = " ..." * (len(rewriter.open_rows) > _ROWS_SHOWN)
            LOGGER.warning(
                "%s: a quotation mark is opened and not closed in %d row(s) (%s%s); there it is read as part "
                "of the value", self.path, len(rewriter.open_rows), rows, more,
            )  # fmt: skip
        return num_good + len(malformed), malformed

    def _batches(
        self, blocks: Iterator[bytes], dialect: Dialect, columns: list[str], set_aside: Any
    ) -> Iterator[Any]:
        # A name that is empty would be read as no name; such a column is never asked for.
        names = [name or f"_unnamed_{number}" for number, name in enumerate(self.names)]
        try:
            yield from pa_csv.open_csv(
                _Stream(blocks),
                # Without threads, Arrow tells the number of a malformed row.
                read_options=pa_csv.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=names
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=dialect.separator.decode(),
                    quote_char=self.quote,
                    newlines_in_values=True,
                    invalid_row_handler=set_aside,
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), include_columns=columns, null_values=[]
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" not in str(error):  # nothing follows the header
                raise


def open_csv(path: Path, *, required: Sequence[str], delimiter: str | None = None) -> CsvFile:
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
    names, best = _names_of_columns(path, lines[before], tried, required)
    rows = lines[before + 1 : _LINES_LOOKED_AT]
    if all(name[:1] == name[-1:] == "'" for name in names) and _quote(rows, best) == "'":
        names = [name.strip("'") for name in names]
    if _end_with_delimiter(rows, best, len(names)):
        names = [*names, ""]
    quote = _quote(rows, best)
    return CsvFile(path, tuple(names), best, encoding, quote, header=lines[before], num_lines=before + 1)


def _names_of_columns(
    path: Path, line: bytes, tried: Sequence[str], required: Sequence[str]
) -> tuple[list[str], str]:
    """The names in a line, and the delimiter that shows most of the required ones."""
    splits = {mark: _names(line, mark) for mark in tried}
    shown = {mark: len(set(required) & set(splits[mark])) for mark in tried}
    best = max(tried, key=lambda mark: (shown[mark], len(splits[mark]) > 1, -tried.index(mark)))
    names = splits[best]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise InputError(f"`{path}`: column names must differ, found `{twice[0]}` twice in its first line")
    return names, best


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
        taken, self._rest = bytes(self._rest[:end]), self._rest[end:]
        return taken

    def close(self) -> None:
        self._blocks = iter(())
