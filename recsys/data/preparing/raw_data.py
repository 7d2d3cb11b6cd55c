"""open_raw: the raw interactions, users and items of a dataset, with the types of their ids."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from recsys.data.options import INFER, DataOptions, FeatureDeclarations, RawTables
from recsys.data.reading.columns import ValueType, id_type
from recsys.data.reading.engine import DuckDBEngine
from recsys.data.reading.tables import RawTable, read_table
from recsys.schema.errors import InputError
from recsys.schema.tables import ITEM_ID, TIMESTAMP, USER_ID


@dataclasses.dataclass(frozen=True)
class RawData:
    """The raw tables of a dataset.

    Args:
        interactions: the events.
        users, items: side tables, where there are such.
        id_columns: raw column of the id in users and in items, by `user_id` and `item_id`.
        id_types: how ids are held, the same in all tables.
    """

    interactions: RawTable
    users: RawTable | None
    items: RawTable | None
    id_columns: dict[str, str]
    id_types: dict[str, ValueType]


def open_raw(engine: DuckDBEngine, options: DataOptions, tables: RawTables, *, scratch: Path) -> RawData:
    """Opens the raw tables.

    Raises:
        ValueError: a file or a column is missing, or the interactions have no rows.
    """
    columns, declared = options.interactions.columns, options.interactions.features
    required = _required(options)
    wanted = None if declared == INFER else [*required, *_declared_columns(declared)]
    interactions = read_table(
        engine,
        tables.interactions,
        required=required,
        key="data.interactions",
        scratch=scratch,
        delimiter=options.interactions.delimiter,
        wanted=wanted,
    )
    if not interactions.total_rows:
        raise InputError(
            f"`data.interactions`: expected interactions in `{tables.interactions}`, found no rows"
        )
    id_columns = {
        USER_ID: options.users.id_column or columns.user_id or USER_ID,
        ITEM_ID: options.items.id_column or columns.item_id or ITEM_ID,
    }
    sides: dict[str, RawTable | None] = {}
    for name, table, path, side in (
        (USER_ID, "users", tables.users, options.users),
        (ITEM_ID, "items", tables.items, options.items),
    ):
        sides[name] = None
        if path is not None:
            sides[name] = read_table(
                engine,
                path,
                required={id_columns[name]: f"data.{table}.id_column"},
                key=f"data.{table}",
                scratch=scratch,
                delimiter=side.delimiter,
            )
    raw_ids = {USER_ID: columns.user_id, ITEM_ID: columns.item_id}
    id_types = {
        name: _id_type(engine, interactions, name, raw_ids[name], sides[name], id_columns[name])
        for name in raw_ids
    }
    return RawData(interactions, sides[USER_ID], sides[ITEM_ID], id_columns, id_types)


def _required(options: DataOptions) -> dict[str, str]:
    """Columns that the interactions must have, and the config key that names each."""
    columns = options.interactions.columns
    named = [(name, getattr(columns, name)) for name in (USER_ID, ITEM_ID, TIMESTAMP)]
    found = {column: f"data.interactions.columns.{name}" for name, column in named if column}
    if options.split == "predefined":
        found[str(columns.split)] = "data.interactions.columns.split"
    if options.label.column:
        found[options.label.column] = "data.label.column"
    for name, label in options.auxiliary_labels.items():
        found[label.column] = f"data.auxiliary_labels.{name}.column"
    return found


def _declared_columns(declared: FeatureDeclarations | None) -> list[str]:
    return [str(settings.get("column", name)) for name, settings in (declared or {}).items()]


def _id_type(
    engine: DuckDBEngine,
    interactions: RawTable,
    name: str,
    column: str | None,
    side: RawTable | None,
    side_column: str,
) -> ValueType:
    """Text that looks like integers is text all the same when the users' or items' table says so."""
    if column is None:
        return "integer"  # numbers of rows
    found = id_type(engine, interactions, column, key=f"data.interactions.columns.{name}")
    is_text = interactions.column(column).type().is_string()
    if found == "integer" and is_text and side is not None:
        return id_type(engine, side, side_column, key=f"data.{name.removesuffix('_id')}s.id_column")
    return found
