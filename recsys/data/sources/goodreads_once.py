"""GoodreadsOnce: the Goodreads part of ONCE (Liu et al., 2023, arXiv 2305.06566), from a local copy.

23,089 readers with five to nine books each, without times, and 16,833 books with titles and descriptions that
a language model wrote from the titles; github.com/Jyonn/ONCE, folder `data/goodreads`. Nothing of it is
redistributed here. Authors, years and languages of the books of six in ten interactions are in `books.csv`
of goodbooks-10k (github.com/zygmuntz/goodbooks-10k, CC BY-SA 4.0).
"""

import csv
import dataclasses
import functools
import logging
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.options import RawTables
from recsys.data.sources.raw_folder import converted
from recsys.schema.errors import InputError
from recsys.schema.places import at_home

# Raised when the same files give other tables, so that cached ones are made anew.
CONVERSION = 1
_BOOKS, _TEXTS, _EVENTS = "book.csv", "book-desc.csv", "user/data.npy"
_USER_IDS, _BOOK_IDS = "user/tok.uid.dat", "user/tok.bid.dat"
_FILES = (_BOOKS, _TEXTS, _EVENTS, _USER_IDS, _BOOK_IDS)
# Far more than the file has; a pickle may ask for any amount of memory.
_MOST_BYTES = 64 << 20
_LICENCE = "Goodreads part of ONCE; no licence is stated: for research, from your own copy"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoodreadsOnce:
    """The Goodreads part of ONCE.

    Args:
        path: the folder `data/goodreads` of a copy of the repository, or the copy itself.
        goodbooks: `books.csv` of goodbooks-10k; null leaves authors, years and languages out.
    """

    path: str | None = None
    goodbooks: str | None = None

    def tables(self, cache_dir: Path) -> RawTables:
        """Files of the raw tables below `cache_dir`, converted when they are not there yet.

        Raises:
            InputError: a file is missing, or is not what it should be.
        """
        files = self._files()
        make = functools.partial(_convert, files)
        folder = converted(
            "goodreads_once", list(files.values()), make, conversion=CONVERSION, cache_dir=cache_dir
        )
        return RawTables(
            interactions=folder / "interactions.parquet",
            users=None,
            items=folder / "items.parquet",
            licence=_LICENCE,
        )

    def _files(self) -> dict[str, Path]:
        if self.path is None:
            raise InputError(
                "`data.source.path` must name the folder `data/goodreads` of a copy of "
                "github.com/Jyonn/ONCE, got null"
            )
        given = at_home(self.path).resolve()
        folder = given / "data" / "goodreads" if (given / "data" / "goodreads").is_dir() else given
        found = {name: folder / name for name in _FILES}
        if self.goodbooks is not None:
            found["goodbooks"] = at_home(self.goodbooks).resolve()
        missing = [str(file) for file in found.values() if not file.is_file()]
        if missing:
            raise InputError(
                f"`data.source.path={self.path}`: expected {', '.join(_FILES)} in `{folder}`; missing: "
                f"{', '.join(missing)}"
            )
        return found


class _PlainArrays(pickle.Unpickler):
    """Reads arrays of lists of whole numbers and nothing else: a pickle can name any code to run."""

    _ALLOWED = (
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it names `{module}.{name}`")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_histories(file: Path) -> dict[str, Any]:
    """Reads `data.npy`, an object pickle: `uid` [U] and `history` [U] lists of books, by number.

    Raises:
        InputError: it is larger than such a file, or holds anything but arrays and lists of numbers.
    """
    if file.stat().st_size > _MOST_BYTES:
        raise InputError(f"`{file}`: expected at most {_MOST_BYTES:,} bytes, found {file.stat().st_size:,}")
    try:
        with file.open("rb") as opened:
            np.lib.format.read_magic(opened)
            np.lib.format.read_array_header_1_0(opened)
            content = _PlainArrays(opened).load().item()
        found = {"uid": content["uid"].tolist(), "history": content["history"].tolist()}
    except (pickle.UnpicklingError, ValueError, EOFError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"`{file}`: expected an object array of `uid` and `history` and nothing else: {error}"
        ) from error
    if not all(isinstance(number, int) for numbers in found["history"] for number in numbers):
        raise InputError(f"`{file}`: expected lists of whole numbers in `history`")
    return found


def _convert(files: Mapping[str, Path], folder: Path) -> Mapping[str, Any]:
    users, books = (files[name].read_text().split() for name in (_USER_IDS, _BOOK_IDS))
    histories = read_histories(files[_EVENTS])
    pairs = [
        (users[user], books[book])
        for user, history in zip(histories["uid"], histories["history"], strict=True)
        for book in history
    ]
    events = pa.table({"user_id": [user for user, _ in pairs], "item_id": [book for _, book in pairs]})
    items = pa.Table.from_pylist(list(_items(files)), schema=_ITEMS)
    pq.write_table(events, folder / "interactions.parquet")
    pq.write_table(items, folder / "items.parquet")
    logger.info("Goodreads of ONCE: %s rows, %s books", f"{len(pairs):,}", f"{items.num_rows:,}")
    return {"num_rows": len(pairs), "num_books": items.num_rows}


_ITEMS = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("description", pa.string()),
        ("authors", pa.list_(pa.string())),
        ("year", pa.int64()),
        ("language", pa.string()),
    ]
)


def _items(files: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    texts = {row["bid"]: row["desc"] for row in _rows(files[_TEXTS], ",")}
    more = (
        {row["best_book_id"]: row for row in _rows(files["goodbooks"], ",")} if "goodbooks" in files else {}
    )
    if more:
        more |= {row["goodreads_book_id"]: row for row in list(more.values())}
    for row in _rows(files[_BOOKS], "\t"):
        book = more.get(row["bid"], {})
        year = book.get("original_publication_year")
        yield {
            "item_id": row["bid"],
            "title": row["title"] or None,
            "description": texts.get(row["bid"]) or None,
            "authors": [name.strip() for name in book["authors"].split(",")] if book else None,
            "year": int(float(year)) if year else None,
            "language": book.get("language_code") or None,
        }


def _rows(file: Path, delimiter: str) -> Iterator[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        yield from csv.DictReader(opened, delimiter=delimiter)
