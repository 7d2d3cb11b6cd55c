"""Vectors made elsewhere or of texts -> a file of float16 a feature, read by mapping it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recsys.data.preparing.catalogue import Entities, Side
from recsys.data.preparing.kinds import sentence, vector
from recsys.data.reading.engine import Engine
from recsys.schema.feature_kinds import Feature, VectorFeature
from recsys.schema.features import FeatureSchema
from recsys.schema.tables import vector_file

# A module of `kinds` each.
_KINDS: Mapping[str, Any] = {"vector": vector, "sentence": sentence}


def with_sizes(engine: Engine, features: Sequence[Feature], sides: Mapping[str, Side]) -> list[Feature]:
    """The features, those that are vectors with the size of each.

    Raises:
        InputError: a column holds no lists, or nothing but missing ones.
    """
    return [
        dataclasses.replace(feature, size=_KINDS[feature.kind].size(feature, engine, sides[_table(feature)]))
        if isinstance(feature, VectorFeature)
        else feature
        for feature in features
    ]


def columns_read_apart(features: Sequence[Feature]) -> list[str]:
    """Columns of vectors, which are too large to be read with the others."""
    return [f.column for f in features if f.kind in _KINDS and _KINDS[f.kind].READ_APART]


def write_vectors(
    engine: Engine,
    features: Sequence[Feature],
    sides: Mapping[str, Side],
    entities: Mapping[str, Entities],
    *,
    folder: Path,
    cache_dir: Path,
) -> None:
    """Writes a file of float16 for each feature that is a vector, zeros where there is none.

    Args:
        engine: reads the tables.
        features: of all kinds.
        sides: the tables `users` and `items`, where there are any.
        entities: all users and items, by the same names.
        folder: of the dataset.
        cache_dir: keeps vectors of texts.
    """
    for feature in FeatureSchema(tuple(features)).vectors():
        table = _table(feature)
        path = vector_file(folder, feature.name)
        path.parent.mkdir(exist_ok=True)
        shape = (entities[table].table.num_rows, feature.size)
        held = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        source = {"engine": engine, "side": sides[table], "entities": entities[table], "cache_dir": cache_dir}
        _KINDS[feature.kind].write(feature, held, **source)
        held.flush()


def _table(feature: VectorFeature) -> str:
    return "users" if feature.role == "user" else "items"
