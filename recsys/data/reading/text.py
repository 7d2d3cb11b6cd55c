"""A file of text as lines in UTF-8 that end with a line feed, whatever encoding and line ends it has."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from recsys.data.reading.files import open_file
from recsys.schema.errors import InputError

BLOCK_BYTES = 8 * 2**20
# A kilobyte of a packed file, or a hole in a sparse one, can stand for gigabytes without a line's end.
MOST_BYTES_A_LINE = 64 * 2**20
CP1252 = "cp1252"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(path: Path) -> str:
    """UTF-16 or 32 by a byte order mark or by zeros, else UTF-8 where the start is that, else cp1252."""
    with open_file(path) as file:
        start = file.read(2**16)
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    if start[1:40:2].count(0) > len(start[1:40:2]) * 0.7:
        return "utf-16-le"
    if start[:40:2].count(0) > len(start[:40:2]) * 0.7:
        return "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return CP1252
    return "utf-8"


def blocks_of_lines(path: Path, encoding: str, *, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Whole lines, in blocks; carriage returns become line feeds, and the last line ends with one too.

    Args:
        path: perhaps packed.
        encoding: as `encoding_of` tells it; UTF-8 is passed on without a look at it.
        block_bytes: about how many bytes of the file a block is made of.
    """
    decoder = (
        None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)(errors=_errors(encoding))
    )
    rest = b""
    ends_with_return, is_first = False, True
    with open_file(path) as file:
        while block := bytes(file.read(block_bytes)):
            text = decoder.decode(block).encode() if decoder else block
            if is_first:
                text, is_first = text.removeprefix(codecs.BOM_UTF8), False
            if ends_with_return and text.startswith(b"\n"):
                text = text[1:]
            if text:
                ends_with_return = text.endswith(b"\r")
            if b"\r" in text:
                text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            text = rest + text
            end = text.rfind(b"\n") + 1
            rest = text[end:]
            if len(rest) > MOST_BYTES_A_LINE:
                raise InputError(
                    f"`{path}`: expected lines of at most {MOST_BYTES_A_LINE:,} bytes, found a longer one; "
                    "it is no table of text, or was packed to fill the memory of whoever opens it"
                )
            if end:
                yield text[:end]
    rest += decoder.decode(b"", final=True).encode() if decoder else b""
    if rest:
        yield rest + b"\n"


def _errors(encoding: str) -> str:
    if encoding != CP1252:
        return "strict"
    codecs.register_error("recsys_latin_1", _as_latin_1)
    return "recsys_latin_1"


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    """The five bytes that cp1252 leaves open, as Latin-1 has them."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end
