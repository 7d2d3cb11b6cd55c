"""Reads the raw tables of a dataset: values typed, unusable rows set aside, features chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from recsys.data.options import INFER, DataOptions, RawTables
from recsys.data.preparing.catalogue import Side, read_side
from recsys.data.preparing.choose import choose_features
from recsys.data.preparing.interactions import Interactions, read_interactions
from recsys.data.preparing.vectors import with_sizes
from recsys.data.reading.columns import ValueType, id_type, text_kinds
from recsys.data.reading.engine import Engine
from recsys.data.reading.tables import RawTable, TableSource, read_table
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature
from recsys.schema.features import EVENT_ROLES
from recsys.schema.tables import ID_COLUMNS, ITEM_ID, TIMESTAMP, USER_ID
from recsys.schema.values import TextKind


@dataclasses.dataclass(frozen=True)
class RawData:
    """The raw tables of a dataset, read.

    Args:
        table: the raw interactions.
        sides: users and items, those that there are, by `users` and `items`.
        id_types: how ids are held, the same in all tables, by `user_id` and `item_id`.
        kinds: of the interactions' columns that are text.
        features: chosen, not fitted.
        interactions: the events that can be used.
    """

    table: RawTable
    sides: Mapping[str, Side]
    id_types: Mapping[str, ValueType]
    kinds: Mapping[str, TextKind]
    features: list[Feature]
    interactions: Interactions


def read_raw(engine: Engine, options: DataOptions, tables: RawTables) -> RawData:
    """Reads the raw tables.

    Raises:
        InputError: a file or a column is missing, or the interactions have no rows.
    """
    declared: Any = options.interactions.features
    required = _required(options)
    wanted = None
    if declared != INFER:
        wanted = [str(settings.get("column", name)) for name, settings in (declared or {}).items()]
        wanted = [*required, *wanted]
    delimiter = options.interactions.delimiter
    source = TableSource(tables.interactions, "data.interactions", required, wanted, delimiter=delimiter)
    raw = read_table(engine, source)
    if not raw.total_rows:
        raise InputError(
            f"`data.interactions`: expected interactions in `{tables.interactions}`, found no rows"
        )
    opened, id_columns = {}, {}
    for table, name in ID_COLUMNS.items():
        side = getattr(options, table)
        id_columns[name] = side.id_column or getattr(options.interactions.columns, name) or name
        if path := getattr(tables, table):
            asked = {id_columns[name]: f"data.{table}.id_column"}
            opened[table] = read_table(
                engine, TableSource(path, f"data.{table}", asked, delimiter=side.delimiter)
            )
    id_types = {
        name: _id_type(raw, options, name, opened.get(table), id_columns[name])
        for table, name in ID_COLUMNS.items()
    }
    sides = {
        table: read_side(side, table, id_columns[ID_COLUMNS[table]], id_types[ID_COLUMNS[table]])
        for table, side in opened.items()
    }
    kinds: dict[str, TextKind] = {}
    features = choose_features(options, sides=sides, interactions=raw, kinds=kinds)
    features = with_sizes(engine, features, sides)
    used = sorted({f.column for f in features if f.role in EVENT_ROLES and f.has_column})
    kinds |= text_kinds(raw, [name for name in used if name not in kinds])
    interactions = read_interactions(raw, options, id_types=id_types, context_columns=used, kinds=kinds)
    return RawData(raw, sides, id_types, kinds, features, interactions)


def _required(options: DataOptions) -> dict[str, str]:
    """Columns that the interactions must have, and the config key that names each."""
    columns = options.interactions.columns
    named = [(name, getattr(columns, name)) for name in (USER_ID, ITEM_ID, TIMESTAMP)]
    required = {column: f"data.interactions.columns.{name}" for name, column in named if column}
    if options.split == "predefined":
        required[str(columns.split)] = "data.interactions.columns.split"
    if options.label.column:
        required[options.label.column] = "data.label.column"
    for name, label in options.auxiliary_labels.items():
        required[label.column] = f"data.auxiliary_labels.{name}.column"
    return required


def _id_type(
    raw: RawTable, options: DataOptions, name: str, side: RawTable | None, side_column: str
) -> ValueType:
    """Text that looks like integers is text all the same when the users' or items' table says so."""
    column = getattr(options.interactions.columns, name)
    if column is None:
        return "integer"  # numbers of rows
    own = id_type(raw, column, key=f"data.interactions.columns.{name}")
    if own == "integer" and raw.column(column).type().is_string() and side is not None:
        return id_type(side, side_column, key=f"data.{name.removesuffix('_id')}s.id_column")
    return own
