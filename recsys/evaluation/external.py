"""Recommendations made by anyone: a table read, matched with the test split's queries, its faults named.

The table has the columns of Recommendations: `user_id`, `rank` and `item_id`, perhaps `timestamp` (then each
list answers the queries of that user at that instant, otherwise all of the user's) and `score`, which is kept
for ties in rank. Ids are matched as text, so that a CSV file will do.

Legend: Q queries, K length of the lists, N rows of the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Queries
from recsys.data.reading.rows import ids_in, instants_in, numbers_in, read_rows
from recsys.evaluation.recommendations import Lists, asked_of
from recsys.schema import tables
from recsys.schema.errors import InputError

_REQUIRED = (tables.USER_ID, tables.RANK, tables.ITEM_ID)
_NUM_EXAMPLES = 3
# With fewer of their items in the catalogue, the lists are of other data, or write ids otherwise.
_LEAST_KNOWN = 0.1
_ROW, _QUERY, _ITEM_ROW, _PLACE = "row", "query", "item_row", "place"


@dataclasses.dataclass
class _Reading:
    """A table while it is read.

    Args:
        path: of the file.
        num_rows: N.
        findings: what was amiss, as `metrics.json` keeps it.
    """

    path: Path
    num_rows: int
    findings: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def note(self, problem: str, rows: pd.DataFrame, text: str, *, of: str = "rows") -> None:
        """Takes down a problem of these rows, unless there are none."""
        if not len(rows):
            return
        examples = [
            {str(key): str(value) for key, value in row.items()}
            for row in rows.head(_NUM_EXAMPLES).to_dict("records")
        ]
        shown = "; ".join(map(_in_words, examples))
        text = f"`{self.path.name}`: {len(rows):,} {of} {text}, for example {shown}"
        self.findings.append(
            {"problem": problem, "count": len(rows), "of": of, "examples": examples, "text": text}
        )


def read_lists(
    path: Path, dataset: PreparedDataset, queries: Queries, *, k: int
) -> tuple[Lists, list[dict[str, Any]]]:
    """The lists of a table of Recommendations, for the queries of the test split, and all that was amiss.

    Items that a query excludes, those of its history, are taken out and what follows moves up. An item
    outside the catalogue keeps its place and is a miss. A query without a list is answered with nothing.

    Args:
        path: Parquet or CSV.
        dataset: the prepared dataset.
        queries: of its test split.
        k: length of the lists; what is ranked below is not looked at.

    Returns:
        The lists, and for each problem `problem`, `count`, `of` (rows, lists or queries), `examples`, `text`.

    Raises:
        ValueError: the file is missing or unreadable, lacks a column, has ranks or timestamps that are none,
            or answers no query at all.
    """
    raw = _read(path, dataset.manifest["timestamp"]["unit"])
    reading = _Reading(path, len(raw))
    asked = _asked(dataset, queries)
    rows = _usable(raw, reading)
    rows, keys = _by_query(rows, asked, reading)
    rows[_ITEM_ROW] = pd.Index(_texts(dataset.item_ids), dtype=object).get_indexer(
        pd.Index(rows[tables.ITEM_ID], dtype=object)
    )
    unknown = rows[_ITEM_ROW] < 1
    reading.note(
        "unknown items",
        rows.loc[unknown, [tables.USER_ID, tables.ITEM_ID]],
        "recommend an item outside the catalogue; it keeps its place, as a miss",
    )
    if unknown.mean() > 1 - _LEAST_KNOWN:
        known = next(text for text in _texts(dataset.item_ids) if text is not None)
        raise InputError(
            f"expected `{path}` to recommend items of the catalogue, such as `{known}`; found nearly none of "
            f"them, but such as `{rows[tables.ITEM_ID].iloc[0]}`; write the ids as the interactions do"
        )
    rows.loc[unknown, _ITEM_ROW] = 0
    rows = _ranked(rows, reading, keys)
    rows = rows.merge(asked.reset_index(names=_QUERY)[[*keys, _QUERY]], on=keys)
    rows = _without_history(rows, queries, reading)
    lists = _filled(rows, len(queries), k)
    unanswered = ~asked.index.isin(rows[_QUERY])
    reading.note(
        "missing queries",
        asked.loc[unanswered, [tables.USER_ID, tables.TIMESTAMP]],
        f"of {len(asked):,} have no list; they count as answered with nothing",
        of="queries",
    )
    return lists, reading.findings


def _read(path: Path, unit: str | None) -> pd.DataFrame:
    """The table: ids as text, ranks and scores as numbers, instants in microseconds (`unit`: of numbers)."""
    if not path.exists():
        raise InputError(
            f"expected a table of recommendations, found no file `{path}`; name it by `recommendations=FILE`"
        )
    optional = (tables.TIMESTAMP, tables.SCORE)
    table = read_rows(path, required=_REQUIRED, optional=optional, key="recommendations")
    read = {name: ids_in(table, name, key="recommendations") for name in (tables.USER_ID, tables.ITEM_ID)}
    ranks = numbers_in(table, tables.RANK)
    wrong = [
        row
        for row, (rank, raw) in enumerate(zip(ranks.to_pylist(), table[tables.RANK].to_pylist(), strict=True))
        if raw is not None and (rank is None or rank != int(rank))
    ]
    if wrong:
        raise InputError(
            f"expected whole numbers from 1 in the column `rank` of `{path}`, found "
            f"`{table[tables.RANK][wrong[0]].as_py()}` in row {wrong[0] + 1}"
        )
    read[tables.RANK] = ranks.cast(pa.int64())
    if tables.TIMESTAMP in table.column_names:
        read[tables.TIMESTAMP] = _instants(table, path, unit)
    if tables.SCORE in table.column_names:
        read[tables.SCORE] = numbers_in(table, tables.SCORE)
    frame = pd.DataFrame({name: np.array(column.to_pylist(), dtype=object) for name, column in read.items()})
    return frame.assign(**{_ROW: np.arange(len(frame)) + 1})


def _instants(table: pa.Table, path: Path, unit: str | None) -> pa.Array:
    instants = instants_in(table, tables.TIMESTAMP, unit=unit, key="recommendations")
    raw = table[tables.TIMESTAMP].to_pylist()
    pairs = enumerate(zip(instants.to_pylist(), raw, strict=True))
    wrong = [row for row, (instant, value) in pairs if instant is None and value is not None]
    if wrong:
        raise InputError(
            f"expected instants in the column `timestamp` of `{path}`, found `{raw[wrong[0]]}` in row "
            f"{wrong[0] + 1}"
        )
    return instants


def _usable(rows: pd.DataFrame, reading: _Reading) -> pd.DataFrame:
    """The rows that say who is to get what at which rank."""
    needed = [*_REQUIRED, *([tables.TIMESTAMP] if tables.TIMESTAMP in rows else [])]
    lacking = rows[needed].isna().any(axis=1)
    reading.note(
        "incomplete",
        rows.loc[lacking, [_ROW, *needed]],
        "lack a user, an item, a rank or a timestamp; left out",
    )
    rows = rows[~lacking]
    rows = rows.assign(**{tables.RANK: rows[tables.RANK].astype(np.int64)})
    below = rows[tables.RANK] < 1
    if below.any():
        first = rows[below].iloc[0]
        raise InputError(
            f"expected ranks from 1 in the column `rank` of `{reading.path}`, found {first[tables.RANK]} in "
            f"row {first[_ROW]}; the best item has rank 1"
        )
    return rows


def _asked(dataset: PreparedDataset, queries: Queries) -> pd.DataFrame:
    """User, as text, and instant of each query, in microseconds; None where the dataset has none."""
    users = asked_of(dataset, queries)[tables.USER_ID].cast(pa.string())
    instants = queries.timestamps_us.tolist() if queries.timestamps is not None else [None] * len(queries)
    columns = {tables.USER_ID: users.to_pylist(), tables.TIMESTAMP: instants}
    return pd.DataFrame({name: np.array(column, dtype=object) for name, column in columns.items()})


def _by_query(rows: pd.DataFrame, asked: pd.DataFrame, reading: _Reading) -> tuple[pd.DataFrame, list[str]]:
    """The rows of users and instants that are asked for, and the columns that say which list a row is of."""
    known = rows[tables.USER_ID].isin(set(asked[tables.USER_ID]))
    reading.note(
        "unknown users",
        rows.loc[~known, [tables.USER_ID, tables.ITEM_ID]],
        "are for users of whom nothing is asked in the test split; left out",
    )
    keys = [tables.USER_ID]
    if tables.TIMESTAMP in rows and asked[tables.TIMESTAMP].notna().all():
        keys.append(tables.TIMESTAMP)
    elif tables.TIMESTAMP in rows:
        rows = rows.drop(columns=tables.TIMESTAMP)
    kept, instants = rows[known], pd.MultiIndex.from_frame(asked[keys])
    at_another = ~pd.MultiIndex.from_frame(kept[keys]).isin(instants)
    reading.note(
        "other instants",
        kept.loc[at_another, keys],
        "are for a timestamp at which nothing is asked of their user; left out",
    )
    kept = kept[~at_another].copy()
    if not len(kept):
        wanted, given = asked[keys].iloc[0].to_dict(), rows[keys].iloc[0].to_dict()
        raise InputError(
            f"expected `{reading.path}` to answer queries of the test split, such as {_in_words(wanted)}; "
            f"found none of them among its {reading.num_rows:,} rows, such as {_in_words(given)}; is it the "
            "same data?"
        )
    return kept, keys


def _ranked(rows: pd.DataFrame, reading: _Reading, keys: list[str]) -> pd.DataFrame:
    """The rows best first, every item once a list."""
    by_score = [-rows[tables.SCORE].astype(float).fillna(-np.inf)] if tables.SCORE in rows else []
    order = np.lexsort([rows[_ROW], *by_score, rows[tables.RANK]])
    rows = rows.iloc[order]
    # A list that answers several queries of one instant may be written once for each, as those of a run are.
    rows = rows[~rows.duplicated([*keys, tables.RANK, tables.ITEM_ID])]
    again = rows.duplicated([*keys, tables.ITEM_ID])
    reading.note(
        "duplicates",
        rows.loc[again, [*keys, tables.ITEM_ID, tables.RANK]],
        "recommend an item again in the same list; the best rank counts",
    )
    rows = rows[~again]
    tied = rows.duplicated([*keys, tables.RANK])
    reading.note(
        "ties",
        rows.loc[tied, [*keys, tables.ITEM_ID, tables.RANK]],
        "share a rank with another item of their list; the higher score goes first, then the earlier row",
    )
    place = rows.groupby(keys, sort=False).cumcount() + 1
    last = rows.assign(**{_PLACE: place}).groupby(keys, sort=False).last().reset_index()
    gaps = last[last[tables.RANK] > last[_PLACE]]
    reading.note(
        "gaps",
        gaps[[*keys, tables.RANK]],
        "have ranks that nothing is at; what is ranked lower moves up",
        of="lists",
    )
    return rows


def _without_history(rows: pd.DataFrame, queries: Queries, reading: _Reading) -> pd.DataFrame:
    """The rows whose item their query does not exclude."""
    if queries.seen == "keep":
        return rows
    owner, seen = queries.histories.rows.numpy(), queries.histories.compact().values.numpy().astype(np.int64)
    span = int(max(seen.max(initial=0), rows[_ITEM_ROW].max())) + 1
    known = np.isin(rows[_QUERY].to_numpy() * span + rows[_ITEM_ROW].to_numpy(), owner * span + seen)
    known &= rows[_ITEM_ROW].to_numpy() > 0
    reading.note(
        "seen items",
        rows.loc[known, [tables.USER_ID, tables.ITEM_ID]],
        "hold an item of the query's history, which no run may recommend again; taken out",
        of="places of lists",
    )
    return rows[~known]


def _filled(rows: pd.DataFrame, num_queries: int, k: int) -> Lists:
    """The first k places of each list; scores are what falls with the place, where none are given."""
    place = rows.groupby(_QUERY, sort=False).cumcount().to_numpy()
    first = place < k
    lists = Lists.empty(num_queries, k)
    queries, places = rows[_QUERY].to_numpy()[first], place[first]
    lists.item_rows[queries, places] = rows[_ITEM_ROW].to_numpy()[first]
    given = rows[tables.SCORE].astype(float).to_numpy() if tables.SCORE in rows else -place.astype(float)
    lists.scores[queries, places] = given[first]
    return lists


def _texts(values: npt.NDArray[Any]) -> list[str | None]:
    return [None if value is None else str(value) for value in values]


def _in_words(row: Mapping[Any, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in row.items())
