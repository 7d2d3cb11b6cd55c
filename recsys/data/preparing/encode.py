"""Encodes raw columns by the kinds of their features, those of events through the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ibis
import pyarrow as pa
from ibis import _

from recsys.data.preparing.fit import PREPARING
from recsys.data.reading.engine import Engine
from recsys.schema.feature_kinds import Feature
from recsys.schema.features import OUT_OF_VOCABULARY
from recsys.schema.tables import RAW_PREFIX


def encode(feature: Feature, column: pa.Array, vocabulary: pa.Table | None = None) -> pa.Array:
    """Encodes a raw column.

    Args:
        feature: fitted.
        column: [N] raw values; instants in microseconds since 1970 (UTC) for a `time`.
        vocabulary: of the feature's table, where it has one.

    Returns:
        [N] int32 for one row each, lists of int32 for bags, float32 for dense features.
    """
    return PREPARING[feature.kind].encode(feature, column, vocabulary)


def arrow_type(feature: Feature) -> Any:
    """Type of the column that `encode` returns."""
    if not feature.is_sparse:
        return pa.float32()
    return pa.list_(pa.int32()) if feature.is_multivalued else pa.int32()


def encode_context(
    engine: Engine,
    events: ibis.Table,
    features: Sequence[Feature],
    vocabularies: Mapping[str, pa.Table],
) -> ibis.Table:
    """The events with a column for each context feature that is looked up or hashed.

    Each distinct value is encoded once and joined back. Numbers and times are computed when rows are written.
    """
    joined, added = events, {}
    for feature in features:
        if feature.is_computed:
            continue
        column = RAW_PREFIX + feature.column
        distinct = engine.collect(events.select(column).distinct().filter(_[column].notnull()))
        encoded = encode(feature, distinct[column].combine_chunks(), vocabularies.get(feature.table))
        value = f"_value_of_{feature.name}"
        known = engine.upload(pa.table({value: distinct[column], feature.name: encoded}))
        # Nothing but joins, which make one flat query: nested ones end at a few dozen features.
        joined = joined.left_join(known, events[column] == known[value])
        rows = known[feature.name]  # a null joins nothing
        added[feature.name] = rows if feature.is_multivalued else rows.fill_null(OUT_OF_VOCABULARY)
    return joined.select(events, **added) if added else events
