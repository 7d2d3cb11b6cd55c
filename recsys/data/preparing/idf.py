"""with_idf: weighs the rows of a pooled feature by how rare they are among the users or items of train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.preparing.encode import encode
from recsys.data.preparing.fit import FittedFeatures
from recsys.data.preparing.kinds.values import ValueCounts
from recsys.schema.feature_kinds import Feature, MultiIdFeature, TextFeature
from recsys.schema.features import EVENT_ROLES


def with_idf(
    fitted: FittedFeatures, counted: Mapping[str, ValueCounts], earlier: FittedFeatures | None = None
) -> FittedFeatures:
    """Fits the weights of the features that are pooled by idf.

    A row that occurs in n of N documents weighs ln((1 + N) / (1 + n)) + 1, and nothing where n is 0: its
    embedding is as it was drawn, and would be noise. Documents are the users or items that have train
    interactions; of features of events, the train interactions.

    Args:
        fitted: features with their rows, and their vocabularies.
        counted: raw values and their train interactions, by feature name.
        earlier: the same features, fitted before: rows keep the weights that they had.
    """
    before = {feature.name: feature for feature in earlier.features} if earlier else {}
    features = tuple(
        _with_weights(feature, counted[feature.name], fitted, before.get(feature.name))
        if isinstance(feature, MultiIdFeature | TextFeature) and feature.pooling == "idf"
        else feature
        for feature in fitted.features
    )
    return dataclasses.replace(fitted, features=features)


def _with_weights(
    feature: MultiIdFeature | TextFeature,
    counted: ValueCounts,
    fitted: FittedFeatures,
    earlier: Feature | None,
) -> Feature:
    bags = encode(feature, counted.values, fitted.vocabularies.get(feature.table))
    documents = counted.counts if feature.role in EVENT_ROLES else (counted.counts > 0).astype(np.int64)
    known = earlier.idf if isinstance(earlier, MultiIdFeature | TextFeature) else ()
    weights = _idf(bags, documents, num_rows=feature.num_rows)
    return dataclasses.replace(feature, idf=(*known, *weights[len(known) :]))


def _idf(bags: pa.Array, documents: npt.NDArray[np.int64], *, num_rows: int) -> list[float]:
    """Weights of the rows 0, 1, ... of a table, to four places, as many as `schema.json` holds."""
    rows = pc.list_flatten(bags).to_numpy(zero_copy_only=False).astype(np.int64)
    bag = pc.list_parent_indices(bags).to_numpy(zero_copy_only=False).astype(np.int64)
    # A row that occurs twice in a document counts once.
    pairs = np.unique(bag * num_rows + rows)
    frequency = np.bincount(pairs % num_rows, weights=documents[pairs // num_rows], minlength=num_rows)
    weights = np.log((1 + documents.sum()) / (1 + frequency)) + 1
    weights[frequency == 0] = 0
    return [float(weight) for weight in weights.round(4)]
