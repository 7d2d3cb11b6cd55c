"""Mind: impressions of a news site with what was clicked and what was passed over, from a local copy.

Tables (Parquet, below `<cache>/raw/mind_<digest>`):

    interactions  user_id, item_id, timestamp int64 (seconds, taken as UTC), clicked int8
    items         item_id, category, subcategory, title, abstract

All rows of an impression share its user and its instant. MIND says of each user what they had clicked before
the logged days, in order and without times: these rows are spread evenly over the four weeks before the first
logged day, which is the time that MIND took them from, so that they are a history
(`data.train_from` keeps them from being learnt from). Nothing of the data is redistributed here; the licence
is Microsoft's, for research.

Reference: Wu et al., "MIND: a large-scale dataset for news recommendation", ACL 2020.
"""

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from recsys.data.options import RawTables
from recsys.data.sources.raw_folder import converted
from recsys.schema.errors import InputError
from recsys.schema.places import at_home

# Raised when the same files give other tables, so that cached ones are made anew.
CONVERSION = 1
_BEHAVIORS, _NEWS = "behaviors.tsv", "news.tsv"
_BEHAVIOR_COLUMNS = ("impression", "user_id", "time", "history", "shown")
_KEPT = ("item_id", "category", "subcategory", "title", "abstract")
_NEWS_COLUMNS = (*_KEPT, "url", "title_entities", "abstract_entities")
_TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"
_DAY = 86_400
_HISTORY_SECONDS = 28 * _DAY
_LICENCE = "MIND, Microsoft Research License Terms: for research, from your own copy (msnews.github.io)"
_INTERACTIONS = pa.schema(
    [("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64()), ("clicked", pa.int8())]
)

Integers = np.ndarray[Any, np.dtype[np.int64]]

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mind:
    """MIND, of any size.

    Args:
        path: a folder with `behaviors.tsv` and `news.tsv`, or one of such folders (`MINDsmall_train`,
            `MINDsmall_dev`), which are read together; leave out those without clicks.
        articles: whether `news.tsv` is read; false where a part of the data has few of its articles.
    """

    path: str | None = None
    articles: bool = True

    def tables(self, cache_dir: Path) -> RawTables:
        """Files of the raw tables below `cache_dir`, converted when they are not there yet.

        Raises:
            InputError: a file is missing, or is not what it should be.
        """
        folders = self._folders()
        files = [folder / name for folder in folders for name in self._names]
        make = functools.partial(_convert, folders, articles=self.articles)
        folder = converted("mind", files, make, conversion=CONVERSION, cache_dir=cache_dir)
        return RawTables(
            interactions=folder / "interactions.parquet",
            users=None,
            items=folder / "items.parquet" if self.articles else None,
            licence=_LICENCE,
        )

    @property
    def _names(self) -> list[str]:
        return [_BEHAVIORS, _NEWS] if self.articles else [_BEHAVIORS]

    def _folders(self) -> list[Path]:
        if self.path is None:
            raise InputError("`data.source.path` must name a folder of your copy of MIND, got null")
        given = at_home(self.path).resolve()
        found = [given] if (given / _BEHAVIORS).is_file() else sorted(given.glob(f"*/{_BEHAVIORS}"))
        folders = [one if one.is_dir() else one.parent for one in found]
        missing = [str(one / name) for one in folders for name in self._names if not (one / name).is_file()]
        if missing or not folders:
            raise InputError(
                f"`data.source.path={self.path}`: expected {' and '.join(self._names)}, in the folder or in "
                f"folders in it; missing: {', '.join(missing) or f'{_BEHAVIORS} in `{given}`'}"
            )
        return folders


def _convert(folders: list[Path], folder: Path, *, articles: bool) -> Mapping[str, Any]:
    users, seconds = _users_and_seconds([one / _BEHAVIORS for one in folders])
    first_day = int(seconds.min()) // _DAY * _DAY
    is_first = _first_of_each_user(users, seconds)
    num_rows = number = 0
    with pq.ParquetWriter(folder / "interactions.parquet", _INTERACTIONS) as writer:
        for one in folders:
            for batch in _batches(one / _BEHAVIORS, _BEHAVIOR_COLUMNS):
                own = slice(number, number + batch.num_rows)
                history = _histories(batch.filter(pa.array(is_first[own])), first_day)
                shown = _impressions(batch, seconds[own], one / _BEHAVIORS)
                writer.write_table(pa.concat_tables([history, shown]))
                num_rows += history.num_rows + shown.num_rows
                number += batch.num_rows
    if articles:
        pq.write_table(_items(folders), folder / "items.parquet")
    logger.info("MIND: %s rows of %s impressions", f"{num_rows:,}", f"{number:,}")
    return {"num_rows": num_rows, "num_impressions": number}


def _batches(file: Path, columns: Sequence[str], kept: Sequence[str] = ()) -> Iterator[pa.Table]:
    """The rows of a file, some megabytes at a time, as text; all columns where `kept` is empty."""
    try:
        with csv.open_csv(
            file,
            read_options=csv.ReadOptions(column_names=list(columns), block_size=8 << 20),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, escape_char=False),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                include_columns=list(kept),
                strings_can_be_null=False,
            ),
        ) as reader:
            for batch in reader:
                yield pa.table(batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"`{file}`: expected {len(columns)} fields between tabs in each line: {error}"
        ) from error


def _users_and_seconds(files: Sequence[Path]) -> tuple[pa.ChunkedArray, Integers]:
    """User and second of each impression of all files."""
    users, seconds = [], []
    for file in files:
        for batch in _batches(file, _BEHAVIOR_COLUMNS, ("user_id", "time")):
            users += batch["user_id"].chunks
            parsed = pc.strptime(batch["time"], format=_TIME_FORMAT, unit="s", error_is_null=True)
            if parsed.null_count:
                wrong = batch["time"].filter(parsed.is_null())[0].as_py()
                raise InputError(f"`{file}`: expected times such as `11/9/2019 6:42:51 PM`, found `{wrong}`")
            seconds.append(parsed.cast(pa.int64()).to_numpy())
    if not seconds:
        raise InputError(f"`{files[0]}`: expected impressions, found an empty file")
    return pa.chunked_array(users), np.concatenate(seconds)


def _first_of_each_user(users: pa.ChunkedArray, seconds: Integers) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each impression is the earliest of its user."""
    users_N = users.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((seconds, users_N))
    is_first = np.zeros(len(users_N), dtype=np.bool_)
    is_first[order[np.flatnonzero(np.diff(users_N[order], prepend=-1))]] = True
    return is_first


def _histories(batch: pa.Table, first_day: int) -> pa.Table:
    """A click for each article of the histories."""
    lists = _lists(batch, "history")
    sizes = np.repeat(lists.lengths, lists.lengths)
    ago = (sizes - lists.places) * _HISTORY_SECONDS // (sizes + 1)
    return _rows(batch, lists, lists.articles, first_day - ago, np.ones(len(ago)))


def _impressions(batch: pa.Table, seconds: Integers, file: Path) -> pa.Table:
    """A row for each article that was shown."""
    lists = _lists(batch, "shown")
    clicked, passed = (pc.ends_with(lists.articles, ending) for ending in ("-1", "-0"))
    wrong = lists.articles.filter(pc.invert(pc.or_(clicked, passed)))
    if len(wrong):
        raise InputError(
            f"`{file}`: expected articles with `-1`, clicked, or `-0`, passed over; found `{wrong[0]}`. A "
            "test set without clicks cannot be learnt from; leave its folder out"
        )
    articles = pc.utf8_slice_codeunits(lists.articles, 0, -2)
    return _rows(batch, lists, articles, seconds[lists.rows], clicked.to_numpy(zero_copy_only=False))


@dataclasses.dataclass(frozen=True)
class _Lists:
    """Articles that stand in one field of each row.

    Args:
        articles: of all rows, one after the other.
        lengths: how many each row has.
        rows: of each article, its row.
        places: of each article, its place in the row, from 0.
    """

    articles: pa.Array
    lengths: Integers
    rows: Integers
    places: Integers


def _lists(batch: pa.Table, name: str) -> _Lists:
    column = pc.utf8_trim_whitespace(batch[name].combine_chunks())
    empty = pa.scalar(None, pa.list_(pa.string()))
    lists = pc.if_else(pc.equal(column, ""), empty, pc.split_pattern(column, " "))
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(rows)) - (np.cumsum(lengths) - lengths)[rows]
    return _Lists(lists.flatten(), lengths, rows, places)


def _rows(batch: pa.Table, lists: _Lists, articles: pa.Array, seconds: Any, clicked: Any) -> pa.Table:
    users = batch["user_id"].combine_chunks().take(pa.array(lists.rows))
    columns = [users, articles, pa.array(seconds, pa.int64()), pa.array(clicked.astype(np.int8))]
    return pa.Table.from_arrays(columns, schema=_INTERACTIONS)


def _items(folders: list[Path]) -> pa.Table:
    """The articles of all folders, each once."""
    parts = [batch for folder in folders for batch in _batches(folder / _NEWS, _NEWS_COLUMNS, _KEPT)]
    if not parts:
        raise InputError(f"`{folders[0] / _NEWS}`: expected articles, found an empty file")
    table = pa.concat_tables(parts).combine_chunks()
    codes = table["item_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    return table.take(pa.array(np.sort(first)))
