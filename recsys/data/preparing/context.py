"""count_context, encode_context: context features, from the interactions' own columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ibis
import pyarrow as pa
from ibis import _

from recsys.data.preparing.encode import encode
from recsys.data.preparing.splits import SPLIT, TRAIN
from recsys.data.preparing.vocabulary import ValueCounts
from recsys.data.reading.engine import DuckDBEngine
from recsys.schema.feature_kinds import Feature, NumberFeature, TimeFeature
from recsys.schema.features import OUT_OF_VOCABULARY
from recsys.schema.tables import RAW_PREFIX


def count_context(
    engine: DuckDBEngine, events: ibis.Table, features: Sequence[Feature]
) -> dict[str, ValueCounts]:
    """The values of each context feature in train and how often each occurs."""
    return {f.name: counted_values(engine, events, f) for f in features if not isinstance(f, TimeFeature)}


def counted_values(engine: DuckDBEngine, events: ibis.Table, feature: Feature) -> ValueCounts:
    """The values of a feature of the events in train and how often each occurs."""
    column = RAW_PREFIX + feature.column
    train = events.filter(_[SPLIT] == TRAIN)
    counts = engine.collect(train.group_by(column).aggregate(_count=_.count()))
    return ValueCounts(counts[column].combine_chunks(), counts["_count"].to_numpy())


def encode_context(
    engine: DuckDBEngine,
    events: ibis.Table,
    features: Sequence[Feature],
    vocabularies: Mapping[str, pa.Table],
) -> ibis.Table:
    """The events with a column for each context feature that is looked up or hashed.

    Each distinct value is encoded once and joined back. Numbers and times are computed when rows are written.
    """
    joined, added = events, {}
    for feature in features:
        if isinstance(feature, NumberFeature | TimeFeature):
            continue
        column = RAW_PREFIX + feature.column
        distinct = engine.collect(events.select(column).distinct().filter(_[column].notnull()))
        encoded = encode(feature, distinct[column].combine_chunks(), vocabularies.get(feature.table))
        value = f"_value_of_{feature.name}"
        known = engine.upload(pa.table({value: distinct[column], feature.name: encoded}))
        # Nothing but joins, which make one flat query: nested ones end at a few dozen features.
        joined = joined.left_join(known, events[column] == known[value])
        found = known[feature.name]  # a null joins nothing
        added[feature.name] = found if feature.is_multivalued else found.fill_null(OUT_OF_VOCABULARY)
    return joined.select(events, **added) if added else events
