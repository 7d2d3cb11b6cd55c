"""choose_features: the features of a dataset, declared where they are and inferred where not."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
from ibis import _

from recsys.data.options import INFER, DataOptions
from recsys.data.preparing.catalogue import Side
from recsys.data.preparing.declare import RESERVED, declared_features, declared_ids
from recsys.data.preparing.declare_statistics import statistic_features
from recsys.data.preparing.infer import infer, title_column
from recsys.data.preparing.neighbours import neighbours_feature
from recsys.data.reading.columns import read_typed, text_kinds
from recsys.data.reading.tables import SEQUENCE, RawTable
from recsys.schema.errors import InputError, nearest
from recsys.schema.feature_kinds import Feature, Role, TimeFeature
from recsys.schema.features import HISTORY, ITEM_ID, USER_ID
from recsys.schema.tables import TIMESTAMP
from recsys.schema.values import TextKind

LOGGER = logging.getLogger(__name__)
_ROWS_TO_INFER_FROM = 1_000_000

# What a column is called that says what came of an event, and so would be the answer.
_OUTCOME_NAME = re.compile(
    r"(?i)(event|event_?type|action|action_?type|behaviou?r|behaviou?r_?type|outcome|label|target|rating|ratings|"
    r"stars|score|reward|click|clicked|clicks|is_?click|purchase|purchased|bought|conversion|converted|liked|like|"
    r"dwell|dwell_?time|watch_?time|watched|completed|feedback)"
)


def choose_features(
    options: DataOptions, *, sides: Mapping[str, Side], interactions: RawTable, kinds: dict[str, TextKind]
) -> list[Feature]:
    """The features, not fitted, in the order of the schema.

    Users' and items' features are inferred where their `features` is null. Of the interactions only the hour
    and the weekday are: another column may be known only after the event (a rating, a dwell time), and would
    leak. Whoever knows better says `infer`.

    Args:
        options: with the declarations.
        sides: users and items, by `users` and `items`, where there are such.
        interactions: the raw table.
        kinds: gets those of its columns of text that are looked at.

    Raises:
        ValueError: a declaration cannot be used, or two features have one name.
    """
    ids = declared_ids(options)
    users = _side_features(options, "users", sides.get("users"))
    context = _context_features(options, interactions, kinds)
    items = _side_features(options, "items", sides.get("items"))
    users, context, items = _with_own_names(options, users, context, items)
    if neighbours := neighbours_feature(options):
        if neighbours.name in [feature.name for feature in (*users, *context, *items)]:
            raise InputError(
                f"`data.neighbours` adds a feature `{neighbours.name}`, and there is one; rename its column"
            )
        items = [*items, neighbours]
    features = [ids[USER_ID], *users, ids[HISTORY], *context, ids[ITEM_ID], *items]
    features += statistic_features(options, features)
    return [_with_usable_table(feature) for feature in features]


def choose_title(options: DataOptions, items: Side | None) -> str | None:
    """The raw column of items that holds what people call them; None when there is none.

    Raises:
        ValueError: `data.items.title_column` is not there.
    """
    wanted = options.items.title_column
    if items is None:
        if wanted is not None:
            raise InputError(
                f"`data.items.title_column={wanted}` needs an items table, but `data.items.path` is null"
            )
        return None
    if wanted is not None and wanted not in items.columns.column_names:
        raise InputError(
            f"`data.items.title_column={wanted}`: there is no such column in the items table"
            f"{nearest(wanted, list(items.values))}; it has: {', '.join(items.columns.column_names)}"
        )
    return wanted or title_column(items.values)


def _side_features(options: DataOptions, table: str, side: Side | None) -> list[Feature]:
    declared = getattr(options, table).features
    if side is None:
        if declared:
            raise InputError(
                f"`data.{table}.features` needs a {table} table, but `data.{table}.path` is null"
            )
        return []
    if declared is not None:
        return declared_features(table, declared, columns=side.columns.column_names)
    return _inferred(table, side.values.items(), role="user" if table == "users" else "item")


def _inferred(table: str, columns: Iterable[tuple[str, pa.Array]], *, role: Role) -> list[Feature]:
    features = []
    for column, values in columns:
        feature = infer(_feature_name(column), values, role=role, raw_name=column)
        if isinstance(feature, str):
            LOGGER.info("%s: column `%s` is left out, %s", table, column, feature)
        else:
            LOGGER.info("%s: column `%s` is inferred to be %s", table, column, feature.summary)
            features.append(feature)
    return features


def _context_features(options: DataOptions, raw: RawTable, kinds: dict[str, TextKind]) -> list[Feature]:
    declared = options.interactions.features
    named = options.interactions.columns
    if declared is not None and declared != INFER:
        features = declared_features("interactions", declared, columns=raw.columns)
        _check_known_before(options, features)
        return features
    used = {named.user_id, named.item_id, named.timestamp, named.split, *_afterwards(options)}
    unused = [name for name in raw.columns if name not in used and name not in raw.unreadable]
    features = []
    if named.timestamp is not None:
        features = [
            TimeFeature("hour", "context", column=TIMESTAMP, part="hour"),
            TimeFeature("weekday", "context", column=TIMESTAMP, part="weekday"),
        ]
    if declared == INFER:
        outcomes = [name for name in unused if _OUTCOME_NAME.fullmatch(name)]
        if outcomes:
            LOGGER.warning(
                "interactions: left out for their names say what came of the event: %s; where one is known "
                "before the event, declare it, for example data.interactions.features.%s.kind=id",
                ", ".join(f"`{name}`" for name in outcomes),
                _feature_name(outcomes[0]),
            )
        values = _first_values(raw, [name for name in unused if name not in outcomes], kinds)
        return [*features, *_inferred("interactions", values.items(), role="context")]
    if unused:
        LOGGER.info(
            "interactions: columns not used: %s; where one is known before the event, declare it, for "
            "example data.interactions.features.%s.kind=id; where all are, data.interactions.features=infer",
            ", ".join(f"`{name}`" for name in unused),
            _feature_name(unused[0]),
        )
    return features


def _first_values(raw: RawTable, names: list[str], kinds: dict[str, TextKind]) -> dict[str, pa.Array]:
    """Typed values of columns in the first rows; all columns are read together."""
    if not names:
        return {}
    kinds |= text_kinds(raw, names)
    typed = {f"column_{n}": read_typed(raw.column(name), kinds.get(name)) for n, name in enumerate(names)}
    first = raw.rows.select(SEQUENCE, **typed).filter(_[SEQUENCE] <= _ROWS_TO_INFER_FROM)
    values = raw.engine.collect(first.select(*typed))
    return {name: values[column].combine_chunks() for name, column in zip(names, typed, strict=True)}


def _check_known_before(options: DataOptions, features: Sequence[Feature]) -> None:
    """Raises ValueError when a context feature is what is to be predicted, or a clock that does not tick."""
    named = options.interactions.columns
    for feature in features:
        where = f"data.interactions.features.{feature.name}"
        if isinstance(feature, TimeFeature) and named.timestamp is None:
            raise InputError(f"`{where}` needs timestamps, but `data.interactions.columns.timestamp` is null")
        if feature.has_column and feature.column in (*_afterwards(options), named.split):
            raise InputError(
                f"`{where}` reads the column `{feature.column}`, which is not known before the event; "
                "leave it out"
            )


def _afterwards(options: DataOptions) -> list[str | None]:
    """Columns of what is known of an interaction only afterwards."""
    return [options.label.column, *(label.column for label in options.auxiliary_labels.values())]


def _feature_name(column: str) -> str:
    """A column's name as a feature's: letters, digits and underscores.

    >>> _feature_name("Release year"), _feature_name("2nd"), _feature_name("genres:token")
    ('Release_year', 'f_2nd', 'genres_token')
    """
    name = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_") or "column"
    return f"f_{name}" if name[0].isdigit() else name


def _with_own_names(
    options: DataOptions, users: list[Feature], context: list[Feature], items: list[Feature]
) -> tuple[list[Feature], list[Feature], list[Feature]]:
    """Gives inferred features a name of their own where another has it; of declared ones, refuses it."""
    # In small letters, for the engine knows no others.
    taken = {name.lower() for name in RESERVED}
    by_table = {"interactions": context, "users": users, "items": items}
    is_declared = {table: getattr(options, table).features not in (None, INFER) for table in by_table}
    renamed: dict[str, list[Feature]] = {}
    for table in sorted(by_table, key=lambda table: not is_declared[table]):
        renamed[table] = []
        for feature in by_table[table]:
            name = feature.name
            if name.lower() in taken and is_declared[table]:
                raise InputError(
                    f"`data.{table}.features.{name}`: another feature has this name; choose another"
                )
            if name.lower() in taken:
                name = _free_name(f"{table.removesuffix('s')}_{name}", taken)
            taken.add(name.lower())
            renamed[table].append(feature if name == feature.name else _renamed(feature, name))
    return renamed["users"], renamed["interactions"], renamed["items"]


def _with_usable_table(feature: Feature) -> Feature:
    """Renames a table that TorchRec cannot hold: its collection keeps tables in a ModuleDict, as attributes.

    NOTE: so are `type`, `items` and `training`. To be deleted when TorchRec keeps its tables otherwise.
    """
    from torch import nn  # here, so that `recsys prepare --help` and mistyped keys need no torch

    taken = feature.table and hasattr(nn.ModuleDict(), feature.table)
    return dataclasses.replace(feature, table=f"{feature.table}_table") if taken else feature


def _free_name(name: str, taken: set[str]) -> str:
    while name.lower() in taken:
        name += "_"
    return name


def _renamed(feature: Feature, name: str) -> Feature:
    return dataclasses.replace(
        feature, name=name, table=name if feature.table == feature.name else feature.table
    )
