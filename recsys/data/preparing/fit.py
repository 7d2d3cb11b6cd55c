"""Fits features on train: vocabularies, rows and scales, from values and how often each occurs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import ibis
import pyarrow as pa
from ibis import _

from recsys.data.preparing.kinds import lookup, number, text, time
from recsys.data.preparing.kinds.values import ValueCounts
from recsys.data.preparing.splits import SPLIT, TRAIN
from recsys.data.reading.engine import Engine
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature, NumberFeature, StatisticFeature
from recsys.schema.tables import RAW_PREFIX


class _Preparing(Protocol):
    """Prepares the features of a kind: each is a module of `kinds`."""

    def fit(
        self, sharing: Sequence[Any], counted: Mapping[str, ValueCounts], known: pa.Table | None
    ) -> tuple[Sequence[Feature], pa.Table | None]:
        """The features that share a table, fitted, and its vocabulary where it has one.

        Args:
            sharing: as declared.
            counted: values by feature name.
            known: the table's earlier vocabulary, where one is extended.
        """

    def encode(self, feature: Any, column: pa.Array, vocabulary: pa.Table | None) -> pa.Array:
        """Encodes a raw column; see `recsys.data.preparing.encode`."""


PREPARING: Mapping[str, _Preparing] = {
    "id": lookup,
    "multi_id": lookup,
    "text": text,
    "time": time,
    "numeric": number,
    "statistic": number,
}


@dataclasses.dataclass(frozen=True)
class FittedFeatures:
    """Features with their rows and statistics, and the vocabulary of each embedding table that has one.

    A vocabulary is a table of row (from 1), value and count in train, the most frequent value first, equals
    in order of value; where an earlier one was extended, its values come first, in their order.
    """

    features: tuple[Feature, ...]
    vocabularies: dict[str, pa.Table]

    @property
    def statistics(self) -> list[StatisticFeature]:
        """Features that are computed from events, in order."""
        return [feature for feature in self.features if isinstance(feature, StatisticFeature)]


def fit(
    features: Sequence[Feature], counted: Mapping[str, ValueCounts], earlier: FittedFeatures | None = None
) -> FittedFeatures:
    """Fits features on train.

    Args:
        features: as declared. Those that name one table share its vocabulary, fitted on the values of all.
        counted: by feature name; not needed for `time`, `sequence` and `vector`.
        earlier: the same features, fitted before: what is in its vocabularies keeps its row, and its
            statistics stay.

    Raises:
        ValueError: features of one table are encoded differently.
    """
    groups: dict[tuple[bool, str], list[Feature]] = {}
    for feature in features:
        if not feature.follows_ids:
            key = feature.table if feature.is_sparse else feature.name
            groups.setdefault((feature.is_sparse, key), []).append(feature)
    fitted: dict[str, Feature] = {}
    vocabularies: dict[str, pa.Table] = {}
    for (_sparse, table), sharing in groups.items():
        _check_alike(table, sharing)
        known = earlier.vocabularies.get(table) if earlier else None
        own, vocabulary = PREPARING[sharing[0].kind].fit(sharing, counted, known)
        fitted |= {feature.name: feature for feature in own}
        if vocabulary is not None:
            vocabularies[table] = vocabulary
    fitted |= {feature.name: feature.by_ids(fitted) for feature in features if feature.follows_ids}
    again = (old for old in (earlier.features if earlier else ()) if old.name in fitted)
    fitted |= {old.name: _as_before(fitted[old.name], old) for old in again}
    return FittedFeatures(tuple(fitted[feature.name] for feature in features), vocabularies)


def count_values(engine: Engine, events: ibis.Table, feature: Feature) -> ValueCounts:
    """The values of a feature of the events in train and how often each occurs."""
    column = RAW_PREFIX + feature.column
    train = events.filter(_[SPLIT] == TRAIN)
    counts = engine.collect(train.group_by(column).aggregate(_count=_.count()))
    return ValueCounts(counts[column].combine_chunks(), counts["_count"].to_numpy())


def _as_before(feature: Feature, earlier: Feature) -> Feature:
    """The feature with the mean, deviation and buckets that it had."""
    if not isinstance(feature, NumberFeature) or not isinstance(earlier, NumberFeature):
        return feature
    kept = {name: getattr(earlier, name) for name in ("num_rows", "mean", "std", "boundaries")}
    return dataclasses.replace(feature, **kept)


def _check_alike(table: str, sharing: Sequence[Feature]) -> None:
    for field in ("kind", "encoder", "num_buckets", "min_count"):
        values = {feature.name: getattr(feature, field, None) for feature in sharing}
        if field == "kind" and set(values.values()) <= {"id", "multi_id"}:
            continue
        if len(set(values.values())) > 1:
            shown = ", ".join(f"`{name}` has {value}" for name, value in values.items())
            raise InputError(f"features sharing table `{table}` must agree on `{field}`, found: {shown}")
