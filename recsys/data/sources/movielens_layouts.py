"""The file layouts that MovieLens comes in, and what each row of them means.

official 100k      u.data (tabs)         u.item, u.user (|, Latin-1)
official 1m        ratings.dat           movies.dat, users.dat (::, Latin-1)
official 20m, 32m  ratings.csv           movies.csv (comma, UTF-8)
recbole            NAME.inter (tabs)     NAME.item, NAME.user (tabs, UTF-8, header `field:type`)
"""

import csv
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from recsys.schema.errors import InputError

INTERACTIONS = pa.schema(
    [("user_id", pa.int64()), ("item_id", pa.int64()), ("rating", pa.float32()), ("timestamp", pa.int64())]
)
USERS = pa.schema(
    [
        ("user_id", pa.int64()),
        ("age", pa.int64()),
        ("gender", pa.string()),
        ("occupation", pa.string()),
        ("zip_code", pa.string()),
    ]
)
ITEMS = pa.schema(
    [
        ("item_id", pa.int64()),
        ("title", pa.string()),
        ("genres", pa.list_(pa.string())),
        ("release_year", pa.int64()),
    ]
)

# The last columns of u.item, in order; the flag before them, `unknown`, is no genre.
GENRES_100K = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)

Row = dict[str, Any]
Split = Callable[[str], list[str]]


@dataclasses.dataclass(frozen=True)
class Layout:
    """One way of holding a MovieLens variant in files.

    Args:
        name: whose layout it is.
        files: file name of each raw table; `users` is missing where none are published.
        interactions: batches of rows with the columns of `INTERACTIONS`, from its file.
        users, items: rows as dictionaries with the columns of `USERS` and `ITEMS`, from their files.
    """

    name: str
    files: Mapping[str, str]
    interactions: Callable[[Path], Iterator[pa.RecordBatch]]
    items: Callable[[Path], Iterator[Row]]
    users: Callable[[Path], Iterator[Row]] | None = None


def layouts_of(variant: str) -> tuple[Layout, ...]:
    """The layouts that `variant` (100k, 1m, 20m, 32m) is known in, the official one first."""
    official = {"100k": _official_100k, "1m": _official_1m}.get(variant, _official_csv)()
    return official, _recbole(f"ml-{variant}", has_users=official.users is not None)


def split_title(text: str) -> tuple[str, int | None]:
    """The title without the year that ends it, and that year.

    Example:
        >>> split_title("Land Before Time III (1995) (V)")
        ('Land Before Time III', 1995)
        >>> split_title("unknown")
        ('unknown', None)
    """
    match = _TITLE_AND_YEAR.fullmatch(text)
    return (match["title"], int(match["year"])) if match else (text.strip(), None)


# The year may be a span, `(2006-2007)`, and `(V)` marks what appeared on video.
_TITLE_AND_YEAR = re.compile(r"\s*(?P<title>.+?)\s*\((?P<year>\d{4})(?:[-\u2013]\d{0,4})?\)\s*(?:\(V\))?\s*")


def _official_100k() -> Layout:
    rows = partial(_rows, encoding="latin-1", split=_splitter("|"))
    return Layout(
        name="official",
        files={"interactions": "u.data", "users": "u.user", "items": "u.item"},
        interactions=partial(_ratings, delimiter="\t", names=INTERACTIONS.names),
        users=partial(rows, row=_user),
        items=partial(rows, row=_item_with_flags),
    )


def _official_1m() -> Layout:
    rows = partial(_rows, encoding="latin-1", split=_splitter("::"))
    # `1::1193::5::978300760` cut at single colons has an empty cell between any two.
    names = [name for column in INTERACTIONS.names for name in (column, f"{column}_gap")][:-1]
    return Layout(
        name="official",
        files={"interactions": "ratings.dat", "users": "users.dat", "items": "movies.dat"},
        interactions=partial(_ratings, delimiter=":", names=names),
        users=partial(rows, row=_user_gender_first),
        items=partial(rows, row=_item_with_bars),
    )


def _official_csv() -> Layout:
    return Layout(
        name="official",
        files={"interactions": "ratings.csv", "items": "movies.csv"},
        interactions=partial(_ratings, delimiter=",", names=INTERACTIONS.names, has_header=True),
        items=partial(
            _rows, row=_item_with_bars, has_header=True, split=lambda line: next(csv.reader([line]))
        ),
    )


def _recbole(name: str, *, has_users: bool) -> Layout:
    rows = partial(_rows, has_header=True, split=_splitter("\t"))
    files = {"interactions": f"{name}.inter", "items": f"{name}.item"}
    return Layout(
        name="recbole",
        files={**files, "users": f"{name}.user"} if has_users else files,
        interactions=partial(_ratings, delimiter="\t", names=INTERACTIONS.names, has_header=True),
        users=partial(rows, row=_user) if has_users else None,
        items=partial(rows, row=_item_with_year),
    )


def _user(user_id: str, age: str, gender: str, occupation: str, zip_code: str) -> Row:
    return {
        "user_id": int(user_id),
        "age": int(age),
        "gender": gender,
        "occupation": occupation,
        "zip_code": zip_code,
    }


def _user_gender_first(user_id: str, gender: str, age: str, occupation: str, zip_code: str) -> Row:
    return _user(user_id, age, gender, occupation, zip_code)


def _item_with_flags(item_id: str, title: str, *cells: str) -> Row:
    flags = zip(GENRES_100K, cells[-len(GENRES_100K) :], strict=True)
    return _item(item_id, title, [genre for genre, flag in flags if flag == "1"])


def _item_with_bars(item_id: str, title: str, genres: str) -> Row:
    return _item(item_id, title, genres.split("|"))


def _item_with_year(item_id: str, title: str, year: str, genres: str) -> Row:
    # Genres hold no blanks, but the words that stand for none do.
    return _item(item_id, title, [genres] if genres in _NO_GENRES else genres.split(" "), year=year)


def _item(item_id: str, title: str, genres: Iterable[str], *, year: str = "") -> Row:
    """A row of items; the year that ends the title is used where `year` is not one."""
    name, year_of_title = split_title(title)
    return {
        "item_id": int(item_id),
        "title": "unknown" if name == "unkonwn" else name,  # the spelling of the recbole files
        "genres": [genre for genre in genres if genre not in _NO_GENRES],
        "release_year": int(year) if re.fullmatch(r"\d{4}", year) else year_of_title,
    }


_NO_GENRES = ("unknown", "(no genres listed)", "")


def _splitter(delimiter: str) -> Split:
    return lambda line: line.split(delimiter)


def _rows(
    path: Path, *, row: Callable[..., Row], split: Split, encoding: str = "utf-8", has_header: bool = False
) -> Iterator[Row]:
    with path.open(encoding=encoding, newline="\n") as file:
        for number, line in enumerate(file, start=1):
            stripped = line.rstrip("\r\n")
            if stripped and not (has_header and number == 1):
                try:
                    yield row(*split(stripped))
                except (TypeError, ValueError) as error:
                    raise _damaged(
                        f"`{path}`, line {number}: expected a row", f"`{stripped}` ({error})"
                    ) from error


def _ratings(
    path: Path, *, delimiter: str, names: list[str], has_header: bool = False
) -> Iterator[pa.RecordBatch]:
    try:
        reader = pa_csv.open_csv(
            path,
            read_options=pa_csv.ReadOptions(column_names=names, skip_rows=int(has_header)),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter),
            convert_options=pa_csv.ConvertOptions(
                include_columns=INTERACTIONS.names,
                # Some copies write the seconds as a float; the cast below refuses a fraction.
                column_types={field.name: field.type for field in INTERACTIONS} | {"timestamp": pa.float64()},
            ),
        )
        for batch in reader:
            yield batch.cast(INTERACTIONS)
    except pa.ArrowInvalid as error:
        raise _damaged(f"`{path}`: expected columns {', '.join(INTERACTIONS.names)}", str(error)) from error


def _damaged(expected: str, received: str) -> InputError:
    return InputError(
        f"{expected} of the MovieLens layout, got {received}; point `data.source.path` at an undamaged copy"
    )
