"""Prepares tiny raw tables and reads the station back, for the tests of this folder."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.options import Columns, DataOptions, InteractionsTable, Label, SideTable
from recsys.data.prepare import prepare

Rows = Mapping[str, Sequence[Any]]


def options_for(
    folder: Path,
    interactions: Rows | str,
    *,
    users: Rows | str | None = None,
    items: Rows | str | None = None,
    **changes: Any,
) -> DataOptions:
    """Options that read these tables; text is written as CSV, columns as Parquet.

    Changes are of DataOptions, or `columns`, `context`, `user_features`, `item_features`. Small numbers are
    seconds of 1970, which nobody would mean.
    """
    columns = Columns(**changes.pop("columns", {}))
    context = changes.pop("context", None)
    features = {"users": changes.pop("user_features", None), "items": changes.pop("item_features", None)}
    sides = {
        name: SideTable(
            path=_write(folder / name, rows) if rows is not None else None, features=features[name]
        )
        for name, rows in (("users", users), ("items", items))
    }
    table = InteractionsTable(path=_write(folder / "events", interactions), columns=columns, features=context)
    options = DataOptions(interactions=table, cache_dir=str(folder / "cache"), **sides)
    if "timestamp_unit" not in changes:
        changes["timestamp_unit"] = _unit_of(interactions, columns)
    return dataclasses.replace(options, **changes)


def prepared(folder: Path, interactions: Rows | str, **changes: Any) -> Path:
    """The station made from these tables; see `options_for`."""
    return prepare(options_for(folder, interactions, **changes))


def manifest_of(station: Path) -> dict[str, Any]:
    """The station's manifest."""
    found: dict[str, Any] = json.loads((station / "manifest.json").read_text())
    return found


def rows_of(station: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a file of the station, or of all files of a folder."""
    path = station / name
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def events_of(station: Path, split: str) -> list[tuple[Any, Any, Any]]:
    """User id, item id and timestamp in microseconds of a split's rows, in order."""
    users = {row["user_row"]: row["user_id"] for row in rows_of(station, "users.parquet")}
    items = {row["item_row"]: row["item_id"] for row in rows_of(station, "items.parquet")}
    return [
        (
            row.get("user_id", users[row["user_row"]]),
            row.get("item_id", items[row["item_row"]]),
            row["timestamp"],
        )
        for row in rows_of(station, split)
    ]


def history_of(station: Path, split: str, row: Mapping[str, Any]) -> list[int]:
    """Item rows of what a row of a split may see."""
    found = {h["history_row"]: h for h in rows_of(station, f"histories/{split}.parquet")}[row["history_row"]]
    items: list[int] = found["item_rows"][: row["history_length"]]
    return items


def column(station: Path, name: str, feature: str) -> list[Any]:
    """A column of a file of the station."""
    return [row[feature] for row in rows_of(station, name)]


def by_id(station: Path, table: str, feature: str) -> dict[Any, Any]:
    """An encoded feature of users or items by raw id; the unknown one is under None."""
    key = {"users": "user_id", "items": "item_id"}[table]
    return {row[key]: row[feature] for row in rows_of(station, f"{table}.parquet")}


STARS = Label(column="stars", positive_at_least=4)


def _unit_of(interactions: Rows | str, columns: Columns) -> Literal["s"] | None:
    if columns.timestamp is None:
        return None
    if isinstance(interactions, str):
        header, *lines = [line.split(",") for line in interactions.splitlines()]
        at = header.index(columns.timestamp) if columns.timestamp in header else -1
        found = [line[at] for line in lines if 0 <= at < len(line)]
        values = [float(value) for value in found if value.replace(".", "").isdigit()]
    else:
        found = list(interactions.get(columns.timestamp, ()))
        found = [value.as_py() if isinstance(value, pa.Scalar) else value for value in found]
        values = [value for value in found if isinstance(value, (int, float))]
    return "s" if values and abs(max(values)) < 10**4 else None


def _write(stem: Path, rows: Rows | str) -> str:
    stem.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(rows, str):
        path = stem.with_suffix(".csv")
        path.write_text(rows)
    else:
        path = stem.with_suffix(".parquet")
        pq.write_table(pa.table(dict(rows)), path)
    return str(path)
