"""Fields: the names under which a request may give ids, timestamps and raw feature values.

In a retrieval request every table has a record of its own, so that a column goes by its name. A ranking row
holds the columns of all tables: one that several of them have goes by table and name, as in `users.city`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from recsys.schema.feature_kinds import Feature, Role, SentenceFeature, StatisticFeature, TimeFeature
from recsys.schema.features import HISTORY, ITEM_ID, USER_ID, FeatureSchema
from recsys.schema.tables import TIMESTAMP

# Units of a numeric timestamp to the second.
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
TABLE_OF_ROLE: dict[Role, str] = {
    "user": "users",
    "context": "interactions",
    "pair": "statistics",
    "item": "items",
}
_OWN_NAMES: dict[str, Role] = {USER_ID: "user", ITEM_ID: "item", TIMESTAMP: "context", HISTORY: "user"}


@dataclasses.dataclass(frozen=True)
class Fields:
    """Names of fields, by what they hold.

    Args:
        user_id, item_id, timestamp: in order of precedence, ours first, then those of the raw tables.
        columns: of each role, the field that holds each raw column.
        ambiguous: columns that only go by table and name.
    """

    user_id: list[str]
    item_id: list[str]
    timestamp: list[str]
    columns: dict[Role, dict[str, str]]
    ambiguous: list[str]

    def of(self, feature: Feature) -> list[str]:
        """The fields that may hold the raw value of a feature."""
        if isinstance(feature, TimeFeature):
            return self.timestamp
        return [self.columns[feature.role][_column(feature)]]

    def read(self, schema: FeatureSchema) -> list[str]:
        """All fields that have an effect, but for the history."""
        features = [f for f in schema.features if f.name not in (USER_ID, ITEM_ID, HISTORY)]
        of_features = [name for feature in features for name in self.of(feature)]
        if any(isinstance(feature, StatisticFeature) for feature in features):
            of_features += self.timestamp
        return _distinct(*self.user_id, *self.item_id, *of_features)


def fields_of(schema: FeatureSchema, config: Mapping[str, Any], *, flat: bool) -> Fields:
    """The fields of a prepared dataset.

    Args:
        schema: its features.
        config: the configuration it was prepared with, which names the raw columns.
        flat: whether the three tables share one record.
    """
    named = (config.get("interactions") or {}).get("columns") or {}
    aliases: dict[Role, list[str]] = {
        "user": _distinct(named.get("user_id"), (config.get("users") or {}).get("id_column")),
        "item": _distinct(named.get("item_id"), (config.get("items") or {}).get("id_column")),
        "context": _distinct(named.get("timestamp")),
        "pair": [],
    }
    read: dict[Role, list[str]] = {role: list(names) for role, names in aliases.items()}
    for feature in schema.features:
        if feature.name not in (USER_ID, ITEM_ID, HISTORY) and not isinstance(feature, TimeFeature):
            read[feature.role].append(_column(feature))
    shared = _shared_columns(read) if flat else set()

    def field(role: Role, column: str) -> str:
        return f"{TABLE_OF_ROLE[role]}.{column}" if (role, column) in shared else column

    ids = {role: [field(role, name) for name in names] for role, names in aliases.items()}
    return Fields(
        user_id=_distinct(USER_ID, *ids["user"]),
        item_id=_distinct(ITEM_ID, *ids["item"]),
        timestamp=_distinct(TIMESTAMP, *ids["context"]),
        columns={role: {column: field(role, column) for column in names} for role, names in read.items()},
        ambiguous=sorted({column for _, column in shared if column not in _OWN_NAMES}),
    )


def _column(feature: Feature) -> str:
    """Names the raw value of a feature: by its column, but the vector of a text by the feature."""
    return feature.name if isinstance(feature, SentenceFeature) else feature.column


def _shared_columns(read: Mapping[Role, list[str]]) -> set[tuple[Role, str]]:
    """Columns that must go by table and name: those of several roles, and our names where misused."""
    shared: set[tuple[Role, str]] = set()
    for role, columns in read.items():
        for column in columns:
            owner = _OWN_NAMES.get(column)
            elsewhere = any(column in others for other, others in read.items() if other != role)
            if (owner is None and elsewhere) or (owner is not None and owner != role):
                shared.add((role, column))
    return shared


def _distinct(*names: str | None) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))
