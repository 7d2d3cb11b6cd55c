"""declared_features: what the configuration says of the features of one table, checked key by key."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from recsys.data.options import DataOptions, FeatureDeclarations
from recsys.schema.bounded_yaml import read_bounded_yaml
from recsys.schema.errors import InputError, nearest
from recsys.schema.feature_kinds import (
    KINDS,
    Feature,
    HistoryFeature,
    IdFeature,
    Role,
    SentenceFeature,
    StatisticFeature,
    feature_of,
)
from recsys.schema.features import HISTORY, ITEM_ID, USER_ID
from recsys.schema.places import at_home
from recsys.schema.tables import (
    HISTORY_LENGTH,
    HISTORY_ROW,
    ITEM_ROW,
    LABEL,
    POSITIVE,
    TIMESTAMP,
    USER_ROW,
    encoded_column,
)

_LOWEST = {"min_count": 1, "num_buckets": 1, "max_length": 1, "ngrams": 1, "prefix": 0}
# Columns that a prepared table has beside its features.
RESERVED = frozenset(
    (
        *(USER_ID, ITEM_ID, HISTORY),
        *(USER_ROW, ITEM_ROW, TIMESTAMP, LABEL, POSITIVE, HISTORY_ROW, HISTORY_LENGTH),
        *("split", "num_train_interactions", "num_train_positives"),
        *(encoded_column(USER_ID), encoded_column(ITEM_ID)),
    )
)
# How a text that a sentence model reads is declared.
_SENTENCE = {"kind": "text", "encoder": "sentence"}
_ROLE_OF_TABLE: dict[str, Role] = {"users": "user", "items": "item", "interactions": "context"}


def declared_features(
    table: str, declarations: FeatureDeclarations, *, columns: Sequence[str]
) -> list[Feature]:
    """The features declared under `data.<table>.features`, not fitted yet.

    Args:
        table: users, items or interactions.
        declarations: settings by feature name.
        columns: those of the raw table.

    Raises:
        ValueError: an unknown key, kind or column, a name that cannot be used, or a value of the wrong type.
    """
    features = []
    for name, settings in declarations.items():
        where = f"data.{table}.features.{name}"
        check_name(name, where=where)
        kinds = [kind for kind, made in KINDS.items() if table in made.tables]
        feature = _feature(name, settings, role=_ROLE_OF_TABLE[table], where=where, kinds=kinds)
        if feature.has_column and feature.column not in columns:
            raise InputError(
                f"`{where}`: there is no column `{feature.column}` in the {table} table"
                f"{nearest(feature.column, columns)}; it has: {', '.join(columns)}"
            )
        features.append(feature)
    return features


def declared_ids(options: DataOptions) -> dict[str, Feature]:
    """`user_id`, `item_id` and `history`, as `data.ids` changes them."""
    given = options.ids or {}
    columns = options.interactions.columns
    features: dict[str, Feature] = {
        USER_ID: IdFeature(USER_ID, "user", column=columns.user_id or USER_ID),
        ITEM_ID: IdFeature(ITEM_ID, "item", column=columns.item_id or ITEM_ID),
        HISTORY: HistoryFeature(HISTORY, "user", column=HISTORY, table=ITEM_ID),
    }
    for name, settings in given.items():
        where = f"data.ids.{name}"
        if name not in features:
            raise InputError(
                f"`{where}`: only {', '.join(features)} can be declared here{nearest(name, list(features))}"
            )
        kind = features[name].kind
        settings = {"kind": kind, **settings}
        changed = _feature(
            name, settings, role=features[name].role, where=where, kinds=(kind,), but=("column", "table")
        )
        features[name] = dataclasses.replace(
            changed, column=features[name].column, table=features[name].table
        )
    return features


def check_name(name: str, *, where: str) -> None:
    """Raises ValueError when a feature cannot have this name."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise InputError(f"`{where}`: a feature's name must be letters, digits and underscores, got `{name}`")
    if name.lower() in RESERVED:
        raise InputError(f"`{where}`: the name `{name}` is taken; choose another and say `column: {name}`")


def _feature(
    name: str,
    settings: Mapping[str, Any],
    *,
    role: Role,
    where: str,
    kinds: Sequence[str],
    but: Sequence[str] = (),
) -> Feature:
    if not isinstance(settings, Mapping):
        raise InputError(f"`{where}` must be settings such as `{{kind: id}}`, got `{settings}`")
    every_key = dict.fromkeys(key for kind in (*kinds, "sentence") for key in KINDS[kind].declared)
    _check_keys(settings, list(every_key), where=where, of="of a feature")
    kind = str(settings.get("kind"))
    if kind == "text" and settings.get("encoder") == "sentence":
        kind, kinds = "sentence", (*kinds, "sentence")
        settings = {"kind": kind, **{key: value for key, value in settings.items() if key not in _SENTENCE}}
    if kind not in kinds:
        raise InputError(
            f"`{where}.kind` must be one of {', '.join(kinds)}, got `{kind}`{nearest(kind, list(kinds))}"
        )
    _check_keys(
        settings,
        [key for key in KINDS[kind].declared if key not in but],
        where=where,
        of=f"of the kind {kind}",
    )
    for key, value in settings.items():
        _check_value(key, value, where=where)
    return feature_of({"name": name, "role": role, **KINDS[kind].implied(settings), **settings})


def _check_keys(settings: Mapping[str, Any], known: Sequence[str], *, where: str, of: str) -> None:
    allowed = ["kind", *known]
    for key in settings:
        if key not in allowed:
            raise InputError(
                f"`{where}.{key}` is no key {of}{nearest(str(key), allowed)}; keys: {', '.join(allowed)}"
            )


def _check_value(key: str, value: Any, *, where: str) -> None:
    if key in _LOWEST:
        if not isinstance(value, int) or isinstance(value, bool) or value < _LOWEST[key]:
            raise InputError(
                f"`{where}.{key}` must be a whole number of at least {_LOWEST[key]}, got `{value}`"
            )
    elif key == "difference":
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InputError(f"`{where}.{key}` must be a number, got `{value}`")
    elif not isinstance(value, str) or not value:
        raise InputError(f"`{where}.{key}` must be text, got `{value}`")


def declaration(feature: Feature) -> dict[str, Any]:
    """The settings that declare a feature, those that are not as by default; the inverse of declaring it."""
    settings: dict[str, Any] = {"kind": feature.kind}
    if isinstance(feature, SentenceFeature):
        settings = dict(_SENTENCE)
    usual = {field.name: field.default for field in dataclasses.fields(feature)} | {"table": feature.name}
    for key in feature.declared:
        value = getattr(feature, key)
        if key in ("column", "part") or (value != usual[key] and (key != "table" or value)):
            settings[key] = value
    return settings


def features_yaml(features: Sequence[Feature]) -> str:
    """Declarations of all features but the ids and the history, as `data.features_file` takes them back."""
    tables: dict[str, dict[str, Any]] = {}
    for table, role in _ROLE_OF_TABLE.items():
        own = [
            f
            for f in features
            if f.role == role
            and f.name not in (USER_ID, ITEM_ID, HISTORY)
            and not isinstance(f, StatisticFeature)
        ]
        tables[table] = {"features": {feature.name: declaration(feature) for feature in own}}
    text: str = yaml.safe_dump(tables, sort_keys=False, allow_unicode=True)
    return _ABOUT + text


_ABOUT = """\
# The features of this dataset. Edit a copy and prepare again with data.features_file=PATH; to leave a feature
# out, delete it. Kinds: id, multi_id, numeric, text; for users and items vector, for interactions time.
"""


def with_features_file(options: DataOptions) -> DataOptions:
    """The options with `features` of the three tables as `data.features_file` says.

    Raises:
        ValueError: the file is missing, is no YAML, or holds something else.
    """
    if options.features_file is None:
        return options
    path = at_home(options.features_file)
    where = f"data.features_file={path}"
    try:
        content = read_bounded_yaml(path)
    except InputError as error:
        raise InputError(f"`{where}` cannot be read: {error}") from error
    if not isinstance(content, Mapping):
        raise InputError(
            f"`{where}` must hold `users`, `items` and `interactions`, found `{str(content)[:200]}`"
        )
    changed: dict[str, Any] = {"features_file": None}
    for table, declared in content.items():
        if table not in _ROLE_OF_TABLE:
            raise InputError(f"`{where}`: unknown key `{table}`{nearest(str(table), list(_ROLE_OF_TABLE))}")
        if not isinstance(declared, Mapping) or set(declared) != {"features"}:
            raise InputError(
                f"`{where}`: `{table}` must hold `features` and nothing else, found `{str(declared)[:200]}`"
            )
        changed[table] = dataclasses.replace(getattr(options, table), features=declared["features"] or {})
    return dataclasses.replace(options, **changed)
