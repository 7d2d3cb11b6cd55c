"""FeatureSchema: the features of a prepared dataset, in an order that fixes the columns of every batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import (
    Feature,
    NumberFeature,
    Role,
    StatisticFeature,
    VectorFeature,
    feature_of,
)
from recsys.schema.json_files import read_json
from recsys.schema.labels import AuxiliaryLabel

USER_ID = "user_id"
ITEM_ID = "item_id"
HISTORY = "history"
OUT_OF_VOCABULARY = 0

QUERY_ROLES: tuple[Role, ...] = ("user", "context")
CANDIDATE_ROLES: tuple[Role, ...] = ("item",)
# Held with every event; the others with users and items.
EVENT_ROLES: tuple[Role, ...] = ("context", "pair")
ALL_ROLES: tuple[Role, ...] = ("user", "context", "pair", "item")


@dataclasses.dataclass(frozen=True)
class FeatureSchema:
    """The features of a prepared dataset; their order within a role fixes the columns of every `Batch`.

    Args:
        features: what a model reads.
        labels: what a model of several tasks may learn beside the label.
    """

    features: tuple[Feature, ...]
    labels: tuple[AuxiliaryLabel, ...] = ()

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(
                f"feature names must be unique, got {', '.join(f'`{n}`' for n in twice)} more than once"
            )
        rows: dict[str, int] = {}
        for feature in self.features:
            if rows.setdefault(feature.table, feature.num_rows) != feature.num_rows and feature.table:
                raise InputError(f"features sharing table `{feature.table}` must agree on its number of rows")

    def __contains__(self, name: object) -> bool:
        return any(feature.name == name for feature in self.features)

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        known = ", ".join(feature.name for feature in self.features)
        raise InputError(f"no feature `{name}` in the prepared dataset; it has: {known}")

    def sparse(self, roles: Iterable[Role] = ALL_ROLES) -> tuple[Feature, ...]:
        """Features of these roles that read an embedding table: of users, contexts, pairs, then items."""
        return tuple(f for f in self._of(roles) if f.is_sparse)

    def embedded(self, roles: Iterable[Role] = ALL_ROLES) -> tuple[Feature, ...]:
        """Features of these roles that models read as embeddings: the sparse ones and vectors."""
        return tuple(f for f in self._of(roles) if f.is_embedded)

    def vectors(self, roles: Iterable[Role] = ALL_ROLES) -> tuple[VectorFeature, ...]:
        """Features of these roles that are embeddings made elsewhere."""
        return tuple(f for f in self._of(roles) if isinstance(f, VectorFeature))

    def dense(self, roles: Iterable[Role] = ALL_ROLES) -> tuple[NumberFeature, ...]:
        """Features of these roles that are floats: of users, contexts, pairs, then items."""
        return tuple(f for f in self._of(roles) if isinstance(f, NumberFeature) and not f.is_sparse)

    @property
    def statistics(self) -> list[StatisticFeature]:
        """Features that are computed from events, in order."""
        return [f for f in self.features if isinstance(f, StatisticFeature)]

    def _of(self, roles: Iterable[Role]) -> list[Feature]:
        wanted = set(roles)
        return [f for role in ALL_ROLES if role in wanted for f in self.features if f.role == role]

    def differences(self, other: FeatureSchema) -> list[str]:
        """Says in words what a model made for `other` would misread here; fitted values do not count."""
        own, others = ({f.name: f for f in schema.features} for schema in (self, other))
        texts = [f"`{name}` is missing" for name in others if name not in own]
        texts += [f"`{name}` is new" for name in own if name not in others]
        if not texts and list(own) != list(others):
            texts.append(f"the order is {', '.join(own)}, it was {', '.join(others)}")
        now, before = (
            [f"{label.name} ({label.kind}, {label.transform})" for label in schema.labels]
            for schema in (self, other)
        )
        if now != before:
            texts.append(f"the auxiliary labels are {now}, they were {before}")
        for name in (name for name in own if name in others):
            meaning, earlier = own[name].meaning(), others[name].meaning()
            fields = ["kind"] if meaning["kind"] != earlier["kind"] else list(meaning)
            texts += [
                f"`{name}` has {field} {meaning[field]!r}, it had {earlier[field]!r}"
                for field in fields
                if meaning[field] != earlier[field]
            ]
        return texts

    @property
    def num_rows(self) -> dict[str, int]:
        """Rows of every embedding table, row 0 included."""
        return {f.table: f.num_rows for f in self.features if f.is_sparse}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for `schema.json`."""
        plain = {"features": [feature.to_dict() for feature in self.features]}
        if self.labels:
            plain["labels"] = [dataclasses.asdict(label) for label in self.labels]
        return plain

    @staticmethod
    def read(path: Path) -> FeatureSchema:
        """The schema in a file that holds what `to_dict` gives.

        Raises:
            InputError: it is damaged.
        """
        plain = read_json(path, {"features": list})
        try:
            return FeatureSchema.from_dict(plain)
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            said = " ".join(str(error).split())
            raise InputError(f"`{path}` is damaged: it describes no features ({said})") from error

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> FeatureSchema:
        """The schema that `to_dict` wrote."""
        return FeatureSchema(
            tuple(map(feature_of, plain["features"])),
            tuple(AuxiliaryLabel(**label) for label in plain.get("labels", ())),
        )
