"""The kind `text`: words and their n-grams, hashed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.preparing.kinds.hashing import hash_rows
from recsys.data.preparing.kinds.values import ValueCounts, bags, one_chunk, parents_of
from recsys.schema.feature_kinds import TextFeature


def fit(
    sharing: Sequence[TextFeature], counted: Mapping[str, ValueCounts], known: pa.Table | None
) -> tuple[list[TextFeature], None]:
    """The features with the rows of their buckets."""
    return [dataclasses.replace(feature, num_rows=feature.num_buckets + 1) for feature in sharing], None


def encode(feature: TextFeature, column: pa.Array, vocabulary: pa.Table | None) -> pa.Array:
    """[N] lists of int32 rows."""
    grams, parents = _ngrams(feature, column)
    rows = hash_rows(grams, feature.num_buckets)
    return bags(rows, parents, num_bags=len(column), at_most=feature.max_length)


def _ngrams(feature: TextFeature, column: pa.Array) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The word n-grams of a `text`, end to end, and the position in the column that each comes from.

    Words are maximal runs of a-z, 0-9 and characters beyond ASCII, after A-Z have become a-z. The n-grams of
    one text stand in the order of n, then of their place.
    """
    lowered = pc.ascii_lower(one_chunk(column).cast(pa.string()))
    lists = pc.split_pattern_regex(lowered, r"[^a-z0-9\x{80}-\x{10FFFF}]+")
    words = one_chunk(pc.list_flatten(lists))
    there = pc.greater(pc.binary_length(words), 0)
    words, parents = words.filter(there), parents_of(lists)[there.to_numpy(zero_copy_only=False)]
    grams, owners = [words], [parents]
    gram = words
    for extra in range(1, feature.ngrams):
        if len(words) <= extra:
            break
        inside = parents[extra:] == parents[:-extra]
        gram = pc.binary_join_element_wise(gram[: len(words) - extra], words[extra:], " ")
        grams.append(gram.filter(pa.array(inside)))
        owners.append(parents[extra:][inside])
    position = np.concatenate(owners)
    order = np.argsort(position, kind="stable")
    return pa.concat_arrays(grams).take(pa.array(order)), position[order]
