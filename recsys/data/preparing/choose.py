"""choose_features: the features of a dataset, declared where they are and inferred where not."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa

from recsys.data.options import INFER, DataOptions
from recsys.data.preparing.declare import RESERVED, declared_features, declared_ids
from recsys.data.preparing.declare_statistics import statistic_features
from recsys.data.preparing.infer import LeftOut, infer
from recsys.data.preparing.infer import title_column as infer_title
from recsys.data.preparing.neighbours import neighbours_feature
from recsys.schema.errors import InputError, nearest
from recsys.schema.feature_kinds import Feature, IdFeature, MultiIdFeature, NumericFeature, Role, TimeFeature
from recsys.schema.features import HISTORY, ITEM_ID, USER_ID
from recsys.schema.tables import TIMESTAMP

LOGGER = logging.getLogger(__name__)

# What a column is called that says what came of an event, and so would be the answer.
_OUTCOME_NAME = re.compile(
    r"(?i)(event|event_?type|action|action_?type|behaviou?r|behaviou?r_?type|outcome|label|target|rating|ratings|"
    r"stars|score|reward|click|clicked|clicks|is_?click|purchase|purchased|bought|conversion|converted|liked|like|"
    r"dwell|dwell_?time|watch_?time|watched|completed|feedback)"
)


@dataclasses.dataclass(frozen=True)
class SideColumns:
    """Raw columns of a users' or items' table, to infer features from; `id_column` is none."""

    table: pa.Table
    id_column: str

    @property
    def names(self) -> list[str]:
        """The columns that may be features."""
        return [name for name in self.table.column_names if name != self.id_column]


@dataclasses.dataclass(frozen=True)
class RawColumns:
    """Columns of the raw interactions.

    Args:
        names: all of them.
        values: of one, typed; a part of them where there are many rows.
    """

    names: Sequence[str]
    values: Callable[[str], pa.Array]


def choose_features(
    options: DataOptions, *, sides: Mapping[str, SideColumns], interactions: RawColumns
) -> list[Feature]:
    """The features, not fitted, in the order of the schema.

    Users' and items' features are inferred where their `features` is null. Of the interactions only the hour
    and the weekday are: another column may be known only after the event (a rating, a dwell time), and would
    leak. Whoever knows better says `infer`.

    Args:
        options: with the declarations.
        sides: raw users and items, by `users` and `items`, where there are such.
        interactions: columns of the raw interactions.

    Raises:
        ValueError: a declaration cannot be used, or two features have one name.
    """
    ids = declared_ids(options)
    users = _side_features(options, "users", sides.get("users"))
    context = _context_features(options, interactions)
    items = _side_features(options, "items", sides.get("items"))
    users, context, items = _with_own_names(options, users, context, items)
    if neighbours := neighbours_feature(options):
        if neighbours.name in [feature.name for feature in (*users, *context, *items)]:
            raise InputError(
                f"`data.neighbours` adds a feature `{neighbours.name}`, and there is one; rename its column"
            )
        items = [*items, neighbours]
    found = [ids[USER_ID], *users, ids[HISTORY], *context, ids[ITEM_ID], *items]
    found += statistic_features(options, found)
    return [_with_usable_table(feature) for feature in found]


def choose_title(options: DataOptions, items: SideColumns | None) -> str | None:
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
    if wanted is not None and wanted not in items.table.column_names:
        raise InputError(
            f"`data.items.title_column={wanted}`: there is no such column in the items table"
            f"{nearest(wanted, items.names)}; it has: {', '.join(items.table.column_names)}"
        )
    return wanted or infer_title(items.table, items.names)


def _side_features(options: DataOptions, table: str, side: SideColumns | None) -> list[Feature]:
    declared = getattr(options, table).features
    if side is None:
        if declared:
            raise InputError(
                f"`data.{table}.features` needs a {table} table, but `data.{table}.path` is null"
            )
        return []
    if declared is not None:
        return declared_features(table, declared, columns=side.table.column_names)
    values = ((column, side.table[column].combine_chunks()) for column in side.names)
    return _inferred(table, values, role="user" if table == "users" else "item")


def _inferred(table: str, columns: Iterable[tuple[str, pa.Array]], *, role: Role) -> list[Feature]:
    found = []
    for column, values in columns:
        feature = infer(_feature_name(column), values, role=role, raw_name=column)
        if isinstance(feature, LeftOut):
            LOGGER.info("%s: column `%s` is left out, %s", table, column, feature.reason)
        else:
            LOGGER.info("%s: column `%s` is inferred to be %s", table, column, _described(feature))
            found.append(feature)
    return found


def _context_features(options: DataOptions, interactions: RawColumns) -> list[Feature]:
    declared = options.interactions.features
    named = options.interactions.columns
    if declared is not None and declared != INFER:
        found = declared_features("interactions", declared, columns=interactions.names)
        _check_known_before(options, found)
        return found
    used = {named.user_id, named.item_id, named.timestamp, named.split, *_afterwards(options)}
    unused = [name for name in interactions.names if name not in used]
    found = []
    if named.timestamp is not None:
        found = [
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
        values = ((name, interactions.values(name)) for name in unused if name not in outcomes)
        return [*found, *_inferred("interactions", values, role="context")]
    if unused:
        LOGGER.info(
            "interactions: columns not used: %s; where one is known before the event, declare it, for "
            "example data.interactions.features.%s.kind=id; where all are, data.interactions.features=infer",
            ", ".join(f"`{name}`" for name in unused),
            _feature_name(unused[0]),
        )
    return found


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


def _described(feature: Feature) -> str:
    match feature:
        case NumericFeature():
            return f"numeric ({feature.transform})"
        case MultiIdFeature():
            return f"multi_id (delimiter {feature.delimiter})"
        case IdFeature() if feature.prefix:
            return f"id (prefix {feature.prefix})"
    return feature.kind


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
