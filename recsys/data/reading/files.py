"""The files of a raw table: found, told apart by how they begin, opened whatever they are packed in."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import lzma
import re
import zlib
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from recsys.schema.errors import InputError

PARQUET, ARROW, CSV = "Parquet", "Arrow", "CSV"
_SUFFIXES = {
    PARQUET: (".parquet", ".pq"),
    ARROW: (".arrow", ".feather", ".ipc"),
    CSV: (".csv", ".tsv", ".tab", ".psv", ".txt", ".dat", ".data", ".inter", ".user", ".item"),
}
_PACKED = (".gz", ".bz2", ".xz", ".lzma", ".zst", ".zstd", ".lz4")
_BEGINNINGS = ((b"PAR1", PARQUET), (b"ARROW1", ARROW), (b"FEA1", ARROW), (b"\xff\xff\xff\xff", ARROW))
# What is recognised and cannot be read, with what to do about it.
_UNPACK = "unpack it and name the file or the folder that was in it"
_WRITE_PARQUET = "write it as Parquet or CSV"
_REFUSED: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive (or an Excel workbook)", f"{_UNPACK}, or save the sheet as CSV"),
    (b"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as CSV"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"ORC", "an ORC file", _WRITE_PARQUET),
    (b"Obj\x01", "an Avro file", _WRITE_PARQUET),
    (b"\x89HDF", "an HDF5 file", _WRITE_PARQUET),
    (b"\x93NUMPY", "a NumPy file", _WRITE_PARQUET),
    *(
        (bytes((0x80, version)), "a pickle", f"{_WRITE_PARQUET}; pickles are never opened, for they run code")
        for version in range(2, 6)
    ),
    (b"\x1f\x9d", "packed by compress", _UNPACK),
    (b"LZIP", "packed by lzip", _UNPACK),
    (b"%PDF", "a PDF document", "name the table itself"),
    (b"<!DOC", "an HTML page", "the download went wrong: fetch the file itself"),
    (b"<html", "an HTML page", "the download went wrong: fetch the file itself"),
)
_PACKINGS = (
    *((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz")),
    *((b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4")),
)
_JSON = re.compile(rb'^(?:\xef\xbb\xbf)?\s*(?:\[\s*)*\{\s*"')
# Characters that text does not hold; zeros stand between those of UTF-16, 1 and 30 between columns.
_NO_TEXT = [bytes((byte,)) for byte in range(1, 32) if byte not in (1, 9, 10, 11, 12, 13, 26, 28, 29, 30, 31)]
# Where a tar archive says that it is one.
_TAR, _AT = b"ustar", 257
_LOOKED_AT = 1024


@dataclasses.dataclass(frozen=True)
class TableFiles:
    """The files of one table.

    Args:
        files: in the order of their names.
        kind: of all of them: PARQUET, ARROW or CSV.
        passed_over: other files of the folder, and why each is not read.
    """

    files: tuple[Path, ...]
    kind: str
    passed_over: tuple[tuple[Path, str], ...] = ()


def table_files(path: Path, *, key: str) -> TableFiles:
    """The files of a raw table.

    In a folder, files and folders whose names begin with `.` or `_` are passed over, and files of no known
    suffix; suffixes may be in capitals, and followed by that of a packing (`.csv.gz`).

    Args:
        path: a file or a folder.
        key: that named it, for messages.

    Raises:
        InputError: there are none, they are of several kinds, or of one that cannot be read.
    """
    if path.is_file():
        return TableFiles((path,), _kind_of(path, key=key))
    if not path.is_dir():
        raise InputError(
            f"`{key}` must be a CSV, Parquet or Arrow file, or a folder of them; there is no `{path}`"
        )
    by_kind: dict[str, list[Path]] = {}
    passed_over: list[tuple[Path, str]] = []
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        kind = _kind_by_name(file)
        if any(part.startswith((".", "_")) for part in file.relative_to(path).parts):
            passed_over.append((file, "hidden"))
        elif file.name.startswith("~$"):
            passed_over.append((file, "of a spreadsheet that is open"))
        elif kind is None:
            passed_over.append((file, "no known suffix"))
        else:
            by_kind.setdefault(_kind_of(file, key=key), []).append(file)
    if len(by_kind) > 1:
        examples = ", ".join(f"`{files[0].name}` ({kind})" for kind, files in by_kind.items())
        raise InputError(
            f"`{key}`: the folder `{path}` must hold files of one kind, found both {examples}; name one file "
            "or separate them"
        )
    if not by_kind:
        others = ", ".join(f"`{file.name}` ({why})" for file, why in passed_over[:5])
        raise InputError(
            f"`{key}`: found no CSV, Parquet or Arrow file in the folder `{path}`"
            + (f"; passed over: {others}" if others else "")
        )
    [(kind, files)] = by_kind.items()
    return TableFiles(tuple(files), kind, tuple(passed_over))


def _kind_of(path: Path, *, key: str) -> str:
    """PARQUET, ARROW or CSV, by how a file begins.

    Raises:
        InputError: it is of a kind that cannot be read, or cannot be opened.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LOOKED_AT)
        for beginning, kind in _BEGINNINGS:
            if start.startswith(beginning):
                return kind
        if not start:
            raise InputError(f"`{key}={path}`: expected a table, found an empty file")
        by_name = _kind_by_name(path)
        if by_name in (PARQUET, ARROW):
            raise InputError(
                f"`{key}={path}` is named as {by_name} and does not begin as such a file; it is damaged, or "
                "was not fetched whole"
            )
        with open_file(path) as unpacked:
            start = unpacked.read(_LOOKED_AT)
    except OSError as error:
        raise InputError(f"`{key}={path}` cannot be opened: {error}") from error
    _check_is_text(start, f"`{key}={path}`")
    return CSV


def _check_is_text(start: bytes, what: str) -> None:
    """Raises InputError when a file that begins so is none of text, or of text that is no table."""
    for beginning, kind, advice in _REFUSED:
        if start.startswith(beginning):
            raise InputError(f"{what} is {kind}, which is not read; {advice}")
    if start[_AT:].startswith(_TAR):
        raise InputError(f"{what} is a tar archive, which is not read; {_UNPACK}")
    if _JSON.match(start):
        raise InputError(
            f"{what} holds JSON, which is not read; write it as Parquet, for example by "
            "`pandas.read_json(path, lines=True).to_parquet(...)`"
        )
    if sum(start.count(byte) for byte in _NO_TEXT) > len(start) // 20:
        raise InputError(f"{what} holds bytes that are no text; {_WRITE_PARQUET}")


def open_file(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where it is gzip, bzip2, xz, zstd or lz4 by how it begins.

    Reading raises InputError where it cannot be unpacked to its end.
    """
    with path.open("rb") as file:
        start = file.read(8)
    packing = next((name for beginning, name in _PACKINGS if start.startswith(beginning)), None)
    opened: Any  # closed by the caller
    if packing == "gzip":
        opened = gzip.open(path)  # noqa: SIM115
    elif packing == "bzip2":
        opened = bz2.open(path)  # noqa: SIM115
    elif packing == "xz":
        opened = lzma.open(path)  # noqa: SIM115
    elif packing:
        opened = pa.CompressedInputStream(pa.OSFile(str(path)), packing)
    else:
        return path.open("rb")
    return cast(IO[bytes], _Unpacked(path, opened))


class _Unpacked:
    """Reads from what unpacks a file, and names the file where it is damaged."""

    def __init__(self, path: Path, source: Any) -> None:
        self._path = path
        self._source = source

    def read(self, size: int = -1) -> bytes:
        try:
            return bytes(self._source.read(size if size >= 0 else None))
        except (EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk, not of the file
            raise InputError(
                f"`{self._path}` cannot be unpacked: {error}; it is damaged, or was not fetched whole"
            ) from error

    def __enter__(self) -> _Unpacked:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()


def _kind_by_name(path: Path) -> str | None:
    name = path.name.lower()
    for packing in _PACKED:
        name = name.removesuffix(packing)
    return next((kind for kind, suffixes in _SUFFIXES.items() if name.endswith(suffixes)), None)
