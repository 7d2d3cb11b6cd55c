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
import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from recsys.data.options import RawTables
from recsys.data.sources.raw_folder import made_once
from recsys.schema.errors import InputError
from recsys.schema.places import at_home

# Raised when the same files give other tables, so that cached ones are made anew.
CONVERSION = 1
_BEHAVIORS, _NEWS = "behaviors.tsv", "news.tsv"
_BEHAVIOR_COLUMNS = ("impression", "user_id", "time", "history", "shown")
_NEWS_COLUMNS = ("item_id", "category", "subcategory", "title", "abstract", "url")
_ENTITY_COLUMNS = ("title_entities", "abstract_entities")
_KEPT = _NEWS_COLUMNS[:5]
_TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"
_DAY = 86_400
_HISTORY_SECONDS = 28 * _DAY
_LICENCE = "MIND, Microsoft Research License Terms: for research, from your own copy (msnews.github.io)"
_INTERACTIONS = pa.schema(
    [("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64()), ("clicked", pa.int8())]
)

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
        facts = {
            "dataset": "mind",
            "conversion": CONVERSION,
            "files": {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files},
        }
        digest = hashlib.sha256(repr(list(map(str, files))).encode()).hexdigest()[:8]

        def make(folder: Path) -> Mapping[str, Any]:
            return _convert(folders, folder, articles=self.articles)

        folder = made_once(Path(cache_dir) / "raw" / f"mind_{digest}", facts, make)
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
    times = [_times(one / _BEHAVIORS) for one in folders]
    first_day = min(int(seconds.min()) for _, seconds in times) // _DAY * _DAY
    first_of_user = _first_of_each_user(times)
    num_rows = number = 0
    with pq.ParquetWriter(folder / "interactions.parquet", _INTERACTIONS) as writer:
        for one in folders:
            for batch in _batches(one / _BEHAVIORS, _BEHAVIOR_COLUMNS):
                is_first = first_of_user[number : number + batch.num_rows]
                for rows in (_histories(batch, is_first, first_day), _impressions(batch, one / _BEHAVIORS)):
                    writer.write_table(rows)
                    num_rows += rows.num_rows
                number += batch.num_rows
    if articles:
        pq.write_table(_items(folders), folder / "items.parquet")
    logger.info("MIND: %s rows of %s impressions", f"{num_rows:,}", f"{number:,}")
    return {"num_rows": num_rows, "num_impressions": number}


def _batches(file: Path, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    """The rows of a file, some megabytes at a time, every field as it is written."""
    names = [*columns, *_ENTITY_COLUMNS] if columns == _NEWS_COLUMNS else list(columns)
    try:
        with csv.open_csv(
            file,
            read_options=csv.ReadOptions(column_names=names, block_size=8 << 20),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, escape_char=False),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=list(columns),
                strings_can_be_null=False,
            ),
        ) as reader:
            for batch in reader:
                yield pa.table(batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"`{file}`: expected {len(names)} fields between tabs in each line: {error}"
        ) from error


def _times(file: Path) -> tuple[pa.ChunkedArray, np.ndarray[Any, np.dtype[np.int64]]]:
    """User and second of each impression."""
    users, seconds = [], []
    for batch in _batches(file, _BEHAVIOR_COLUMNS):
        users += batch["user_id"].chunks
        seconds.append(_seconds(batch, file))
    if not seconds:
        raise InputError(f"`{file}`: expected impressions, found an empty file")
    return pa.chunked_array(users), np.concatenate(seconds)


def _seconds(batch: pa.Table, file: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    parsed = pc.strptime(batch["time"], format=_TIME_FORMAT, unit="s", error_is_null=True)
    if parsed.null_count:
        wrong = batch["time"].filter(parsed.is_null())[0].as_py()
        raise InputError(f"`{file}`: expected times such as `11/9/2019 6:42:51 PM`, found `{wrong}`")
    return np.asarray(parsed.cast(pa.int64()).to_numpy())


def _first_of_each_user(
    times: list[tuple[pa.ChunkedArray, np.ndarray[Any, np.dtype[np.int64]]]],
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether each impression of all folders is the earliest of its user."""
    users = pa.chunked_array([chunk for column, _ in times for chunk in column.chunks]).combine_chunks()
    users_N = users.dictionary_encode().indices.to_numpy()
    order = np.lexsort((np.concatenate([seconds for _, seconds in times]), users_N))
    is_first = np.zeros(len(users_N), dtype=np.bool_)
    is_first[order[np.flatnonzero(np.diff(users_N[order], prepend=-1))]] = True
    return is_first


def _histories(batch: pa.Table, is_first: np.ndarray[Any, Any], first_day: int) -> pa.Table:
    """A click for each article of the history that comes with a user's earliest impression."""
    users, articles, places, sizes = _listed(batch.filter(pa.array(is_first)), "history")
    ago = (sizes - places) * _HISTORY_SECONDS // (sizes + 1)
    return _rows(users, articles, first_day - ago, np.ones(len(places), np.int8))


def _impressions(batch: pa.Table, file: Path) -> pa.Table:
    users, shown, *_ = _listed(batch, "shown")
    clicked = pc.ends_with(shown, "-1")
    if not pc.all(pc.or_(clicked, pc.ends_with(shown, "-0"))).as_py():
        [wrong] = shown.filter(pc.invert(pc.or_(clicked, pc.ends_with(shown, "-0"))))[:1].to_pylist()
        raise InputError(
            f"`{file}`: expected articles with `-1`, clicked, or `-0`, passed over; found `{wrong}`. A test "
            "set without clicks cannot be learnt from; leave its folder out"
        )
    seconds = np.repeat(_seconds(batch, file), _sizes(batch, "shown"))
    articles = pc.utf8_slice_codeunits(shown, 0, -2)
    return _rows(users, articles, seconds, clicked.cast(pa.int8()).to_numpy(zero_copy_only=False))


def _listed(batch: pa.Table, name: str) -> tuple[pa.Array, pa.Array, Any, Any]:
    """Of each article listed in a column: its user, itself, its place from 0, and the size of its list."""
    lists = _lists(batch, name)
    sizes_N = _sizes(batch, name)
    starts_N = np.cumsum(sizes_N) - sizes_N
    places = np.arange(sizes_N.sum()) - np.repeat(starts_N, sizes_N)
    users = batch["user_id"].combine_chunks().take(pa.array(np.repeat(np.arange(len(sizes_N)), sizes_N)))
    return users, lists.flatten(), places, np.repeat(sizes_N, sizes_N)


def _lists(batch: pa.Table, name: str) -> pa.Array:
    column = pc.utf8_trim_whitespace(batch[name].combine_chunks())
    empty = pa.scalar(None, pa.list_(pa.string()))
    return pc.if_else(pc.equal(column, ""), empty, pc.split_pattern(column, " "))


def _sizes(batch: pa.Table, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.asarray(pc.fill_null(pc.list_value_length(_lists(batch, name)), 0).to_numpy(), dtype=np.int64)


def _rows(users: pa.Array, articles: pa.Array, seconds: Any, clicked: Any) -> pa.Table:
    columns = [users, articles, pa.array(seconds, pa.int64()), pa.array(clicked, pa.int8())]
    return pa.Table.from_arrays(columns, schema=_INTERACTIONS)


def _items(folders: list[Path]) -> pa.Table:
    """The articles of all folders, each once."""
    parts = [batch for folder in folders for batch in _batches(folder / _NEWS, _NEWS_COLUMNS)]
    if not parts:
        raise InputError(f"`{folders[0] / _NEWS}`: expected articles, found an empty file")
    table = pa.concat_tables(parts).select(list(_KEPT)).combine_chunks()
    codes = table["item_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    return table.take(pa.array(np.sort(first)))
