"""Quotation marks of CSV files as RFC 4180 has them, whatever the writer did with them.

Arrow reads a value that begins with a quotation mark up to the next one, over any number of lines, and knows
no backslash as escape. So lines that are not quoted by the book are written anew before Arrow reads them; all
others, nearly always every line, pass as they are.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# Takes the place of delimiters of several characters, which Arrow does not know: the unit separator.
STAND_IN = b"\x1f"
# Takes the place of a line that repeats the column names, so that it has its number among the rows.
HEADER_AGAIN = b"\x1e"
_MAX_VALUE_BYTES = 2**20
_NEWLINE = ord("\n")


class _Record(NamedTuple):
    """One record: its values; where the first begins whose quotation mark nothing closes, -1 if none does."""

    values: list[bytes]
    open_at: int


@dataclasses.dataclass(frozen=True)
class Dialect:
    """Splits records of a CSV file by its delimiter and quotes.

    Args:
        delimiter: one character or several.
        quote: `"` or `'`.
    """

    delimiter: bytes
    quote: bytes = b'"'

    @property
    def separator(self) -> bytes:
        """The delimiter that Arrow is given."""
        return self.delimiter if len(self.delimiter) == 1 else STAND_IN

    def split(self, line: bytes, *, escaped: bool = False) -> _Record:
        """The values of a record, unquoted.

        Args:
            line: without the line end that ends it.
            escaped: whether a backslash takes the meaning from the character that follows.
        """
        quoted = self._quoted(escaped=escaped)
        values, open_at, position = list[bytes](), -1, 0
        while True:
            match = quoted.match(line, position)
            if match:
                value, end = self._unquoted(match[1], escaped=escaped), match.end()
                is_last = not match[2]
            else:
                stop = line.find(self.delimiter, position)
                is_last = stop < 0
                value = line[position:] if is_last else line[position:stop]
                end = len(line) if is_last else stop + len(self.delimiter)
                if open_at < 0 and value.lstrip(b" ").startswith(self.quote):
                    open_at = position
            values.append(value)
            if is_last:
                return _Record(values, open_at)
            position = end

    def join(self, values: list[bytes]) -> bytes:
        """A record by the book, with `separator` between its values."""
        special = (self.separator, b"\n", b"\r")
        written = []
        for value in values:
            if value.startswith(self.quote) or any(mark in value for mark in special):
                value = self.quote + value.replace(self.quote, self.quote * 2) + self.quote
            written.append(value)
        return self.separator.join(written)

    def _closing(self, text: bytes, start: int, *, escaped: bool) -> int:
        """Where the quoted value that begins at `start` ends, behind its closing mark; -1 if nowhere."""
        match = self._quoted(escaped=escaped).match(text, start)
        return match.end(1) + 1 if match else -1

    def _quoted(self, *, escaped: bool) -> re.Pattern[bytes]:
        mark, delimiter = re.escape(self.quote), re.escape(self.delimiter)
        plain, special = (rb"[^%s\\]", rb"(?:\\.|%s%s)") if escaped else (rb"[^%s]", rb"%s%s")
        plain, special = plain % mark, special % (mark, mark)
        # Possessive, so that no doubled mark is ever taken for the end and text without end costs one look.
        inside = plain + rb"*+(?:" + special + plain + rb"*+)*+"
        pattern = rb" *%s(" % mark + inside + rb")%s *(?:(%s)|$|(?=\n))" % (mark, delimiter)
        return re.compile(pattern, re.DOTALL)

    def _unquoted(self, value: bytes, *, escaped: bool) -> bytes:
        value = value.replace(self.quote * 2, self.quote)
        return re.sub(rb"\\(.)", rb"\1", value, flags=re.DOTALL) if escaped else value


class QuoteRewriter:
    """Rewrites records of CSV that are not quoted by the book.

    Args:
        dialect: of the file.
        num_columns: of its header.
        header: its line of column names, to be recognised when it comes again.
    """

    def __init__(self, dialect: Dialect, *, num_columns: int, header: bytes) -> None:
        self.dialect = dialect
        self.num_columns = num_columns
        self.header = header
        self.num_records = 0
        self.open_rows: list[int] = []
        """Numbers, from 1, of the rows with a quotation mark that is opened and not closed."""

    def rewrite(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The blocks, rewritten where they must be; each ends with a line."""
        rest = b""
        for block in blocks:
            done, rest = self._rewrite(rest + block, is_last=False)
            if done:
                yield done
        done, _ = self._rewrite(rest, is_last=True)
        if done:
            yield done

    def _rewrite(self, block: bytes, *, is_last: bool) -> tuple[bytes, bytes]:
        """The block by the book, and what of its end can be read only with what follows."""
        out: list[bytes] = []
        position = 0
        for start in self._strange_lines(block):
            if start < position:  # inside a value that was read already
                continue
            out.append(self._plain(block[position:start]))
            end = self._record(block, start, out, is_last=is_last)
            if end < 0:
                return b"".join(out), block[start:]
            position = end
        out.append(self._plain(block[position:]))
        return b"".join(out), b""

    def _plain(self, lines: bytes) -> bytes:
        self.num_records += lines.count(b"\n")
        if len(self.dialect.delimiter) > 1:
            return lines.replace(self.dialect.delimiter, STAND_IN)
        return lines

    def _strange_lines(self, block: bytes) -> list[int]:
        """Where the lines begin that cannot pass as they are."""
        mark = self.dialect.quote
        of_several = len(self.dialect.delimiter) > 1
        strange: set[int] = set()
        if mark in block or (of_several and STAND_IN in block):
            data = np.frombuffer(block, np.uint8)
            ends = np.flatnonzero(data == _NEWLINE)
            starts = np.concatenate([[0], ends + 1])
            marks = np.flatnonzero(data == mark[0])
            lines = np.searchsorted(ends, marks)
            if of_several:  # only lines without marks are rewritten by a plain replacement
                there = np.flatnonzero(data == STAND_IN[0])
                lines = np.concatenate([lines, np.searchsorted(ends, there)])
                strange.update(starts[np.unique(lines)].tolist())
            else:
                strange.update(starts[self._strange(data, marks, lines)].tolist())
        if self.header in block:
            pattern = re.compile(rb"^" + re.escape(self.header) + rb"$", re.MULTILINE)
            strange.update(match.start() for match in pattern.finditer(block))
        return sorted(strange)

    def _strange(
        self, data: npt.NDArray[np.uint8], marks: npt.NDArray[np.int64], lines: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Numbers of the lines with an odd count of marks, or with one that opens and closes nothing."""
        mark, delimiter = self.dialect.quote[0], self.dialect.delimiter[0]
        is_border = np.zeros(256, np.bool_)
        is_border[[delimiter, _NEWLINE, mark]] = True
        padded = np.concatenate([[np.uint8(_NEWLINE)], data, [np.uint8(_NEWLINE)]])
        stray = lines[~(is_border[padded[marks]] | is_border[padded[marks + 2]])]
        is_odd = np.bincount(lines) % 2 == 1
        return np.union1d(np.flatnonzero(is_odd), stray)

    def _record(self, block: bytes, start: int, out: list[bytes], *, is_last: bool) -> int:
        """Writes the record that begins at `start`; where it ends, or -1 where more of the file is needed."""
        stop = block.find(b"\n", start)
        line = block[start : stop if stop >= 0 else len(block)]
        after = start + len(line) + 1
        if line == self.header:
            return self._write([HEADER_AGAIN], out, after)
        record = self.dialect.split(line)
        if record.open_at < 0:
            return self._write(record.values, out, after)
        for escaped in (False, True) if b"\\" in line else (False,):
            attempt = self.dialect.split(line, escaped=True) if escaped else record
            if attempt.open_at < 0 and len(attempt.values) == self.num_columns:
                return self._write(attempt.values, out, after)
            end = self._end_of_lines(block, start, escaped=escaped)
            if end == 0 and not is_last and len(block) - start < _MAX_VALUE_BYTES:
                return -1
            if end > after:
                whole = self.dialect.split(block[start:end], escaped=escaped)
                if whole.open_at < 0 and not self._holds_rows(block[start:end]):
                    return self._write(whole.values, out, end + 1)
        self.open_rows.append(self.num_records + 1)
        return self._write(record.values, out, after)

    def _end_of_lines(self, block: bytes, start: int, *, escaped: bool) -> int:
        """Where a record of several lines ends; 0 where that cannot be told from the block."""
        position = start
        while True:
            stop = block.find(b"\n", position)
            stop = len(block) if stop < 0 else stop
            opened = self.dialect.split(block[start:stop], escaped=escaped).open_at
            if opened < 0:
                return stop
            close = self.dialect._closing(block, start + opened, escaped=escaped)
            if close < 0 or close - start > _MAX_VALUE_BYTES:
                return 0 if close < 0 else -1
            position = close

    def _holds_rows(self, record: bytes) -> bool:
        """Whether each line of a record of several lines looks like a row: then a mark was left open."""
        expected, lines = self.num_columns - 1, record.split(b"\n")
        # Two lines with a comma each are as likely a sentence.
        if len(lines) < 3 and expected == 1 and self.dialect.delimiter == b",":
            return False
        return expected > 0 and all(line.count(self.dialect.delimiter) == expected for line in lines)

    def _write(self, values: list[bytes], out: list[bytes], after: int) -> int:
        out.append(self.dialect.join(values) + b"\n")
        self.num_records += 1
        return after
