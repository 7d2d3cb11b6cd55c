"""Describes how raw tables were read, column by column, for people and for the manifest."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from ibis import _

from recsys.data.options import DataOptions
from recsys.data.preparing.raw_data import RawData
from recsys.data.reading.columns import known_value
from recsys.data.reading.instants import iso
from recsys.data.reading.tables import SEQUENCE, RawTable
from recsys.schema.tables import ID_COLUMNS, ITEM_ID, TIMESTAMP, USER_ID
from recsys.schema.terminal import in_one_line
from recsys.schema.values import TextKind, is_missing

LOGGER = logging.getLogger(__name__)

_ROWS_FOR_EXAMPLES = 1000
_EXAMPLES = 3
_WIDTH = 28
_ROLES = {"users": "user", "items": "item", "interactions": "context"}
_COLUMNS = ("table", "column", "type", "there", "read", "taken for", "why", "examples")


def describe_raw(options: DataOptions, data: RawData) -> dict[str, Any]:
    """Files read and passed over, every column, the instants and the rows rejected, as plain values."""
    tables = {"interactions": (data.table, data.kinds)}
    tables |= {table: (side.raw, side.kinds) for table, side in data.sides.items()}
    columns: list[dict[str, Any]] = []
    for table, (raw, kinds) in tables.items():
        own = {f.column: f"feature ({f.kind})" for f in data.features if f.role == _ROLES[table]}
        columns += _columns_of(raw, table, used=own | _uses(options, data, table), kinds=kinds)
    return {
        "files": {
            table: {
                "read": [str(file) for file in raw.files.files],
                "passed_over": [[str(file), why] for file, why in raw.files.passed_over],
                "rows": raw.total_rows,
                "malformed": len(raw.malformed),
            }
            for table, (raw, _kinds) in tables.items()
        },
        "columns": columns,
        "instants": _instants(data),
        "rejected": data.interactions.rejected.num_rows + len(data.table.malformed),
        "labels_that_disagree": data.interactions.disagreeing,
    }


def as_text(understood: Mapping[str, Any]) -> str:
    """The columns as a table of text, then files, joins and instants, a line each."""
    rows = [_COLUMNS, *(tuple(_cell(column, name) for name in _COLUMNS) for column in understood["columns"])]
    widths = [min(max(len(row[i]) for row in rows), _WIDTH) for i in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell[:width].ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    for table, files in understood["files"].items():
        passed = f", {len(files['passed_over'])} passed over" if files["passed_over"] else ""
        lines.append(f"{table}: {files['rows']:,} rows of {len(files['read'])} file(s){passed}")
    for table, join in understood.get("joins", {}).items():
        lines.append(f"{table} of the interactions in their table: {join['in_table']:,} of {join['ids']:,}")
    if instants := understood["instants"]:
        lines.append(f"instants ({instants['read_as']}): {instants['first']} to {instants['last']}")
    lines.append(
        f"rows that cannot be used: {understood['rejected']:,}; labels that disagree: "
        f"{understood['labels_that_disagree']:,}"
    )
    return "\n".join(line.rstrip() for line in lines)


def _uses(options: DataOptions, data: RawData, table: str) -> dict[str, str]:
    """Maps the columns that are no features to their uses."""
    if table != "interactions":
        name = ID_COLUMNS[table]
        return {data.sides[table].id_column: f"{name} ({data.id_types[name]})"}
    columns = options.interactions.columns
    named = {
        columns.user_id: f"user_id ({data.id_types[USER_ID]})",
        columns.item_id: f"item_id ({data.id_types[ITEM_ID]})",
        columns.timestamp: "timestamp",
        columns.split: "split" if options.split == "predefined" else None,
        options.label.column: "label",
    }
    named |= {label.column: f"label ({name})" for name, label in options.auxiliary_labels.items()}
    return {column: use for column, use in named.items() if column is not None and use is not None}


def _columns_of(
    raw: RawTable, table: str, *, used: Mapping[str, str], kinds: Mapping[str, TextKind]
) -> list[dict[str, Any]]:
    counts = {f"{n}": known_value(raw.column(name)).count() for n, name in enumerate(raw.names)}
    there = raw.engine.row(raw.rows.aggregate(**counts)) if counts else {}
    first = raw.engine.collect(raw.rows.filter(_[SEQUENCE] <= _ROWS_FOR_EXAMPLES).order_by(SEQUENCE))
    rows = max(raw.total_rows - len(raw.malformed), 1)
    described = []
    for number, (name, alias) in enumerate(raw.names.items()):
        values = [value for value in _values(first[alias]) if _is_there(value)]
        kind = kinds.get(name)
        count = int(there[f"{number}"] or 0)
        if kind is not None and kind.kind in ("integer", "number") and kind.num_read < kind.num_values:
            LOGGER.warning(
                "%s: `%s`: %d of %d values are no numbers and count as missing",
                table, name, kind.num_values - kind.num_read, kind.num_values,
            )  # fmt: skip
        described.append(
            {
                "table": table,
                "column": name,
                "type": str(raw.column(name).type()),
                "there": round(count / rows, 4),
                "read": round(kind.num_read / max(kind.num_values, 1), 4) if kind else 1.0,
                "taken for": used.get(name, "not used"),
                "why": kind.why if kind else ("named" if name in used else "its type"),
                "examples": [str(value) for value in dict.fromkeys(map(str, values))][:_EXAMPLES],
            }
        )
    unread = [name for name in raw.columns if name not in raw.names]
    return described + [
        {
            "table": table,
            "column": name,
            "type": raw.unreadable.get(name, ""),
            "there": None,
            "read": None,
            "taken for": "not used",
            "why": "no such values are read" if name in raw.unreadable else "not asked for",
            "examples": [],
        }
        for name in unread
    ]


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        return list(column.to_pylist())
    except OverflowError:  # dates and instants beyond those that Python knows
        return list(column.cast(pa.string()).to_pylist())


def _is_there(value: Any) -> bool:
    if isinstance(value, str):
        return not is_missing(value.strip())
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _instants(data: RawData) -> dict[str, Any] | None:
    time, events = data.interactions.time, data.interactions.events
    if time is None:
        return None
    row = data.table.engine.row(events.aggregate(first=_[TIMESTAMP].min(), last=_[TIMESTAMP].max()))
    if row["first"] is None:
        return None
    read_as = time.form or time.unit or time.kind
    return {"first": iso(row["first"]), "last": iso(row["last"]), "read_as": read_as}


def _cell(column: Mapping[str, Any], name: str) -> str:
    value = column[name]
    if isinstance(value, float):
        return f"{value:.1%}"
    if isinstance(value, list):
        value = ", ".join(value)
    return "" if value is None else in_one_line(str(value))
