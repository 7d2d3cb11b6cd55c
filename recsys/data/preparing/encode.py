"""encode: raw values of one feature as table rows, bags of table rows, or floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.preparing.hashing import hash_rows
from recsys.data.preparing.values import ngrams, numbers, pieces, single_values
from recsys.data.preparing.vocabulary import transformed
from recsys.schema.feature_kinds import (
    Feature,
    IdFeature,
    LookupFeature,
    MultiIdFeature,
    NumberFeature,
    TextFeature,
    TimeFeature,
)
from recsys.schema.features import OUT_OF_VOCABULARY

_HOUR_MICROSECONDS = 3_600_000_000
_DAY_MICROSECONDS = 24 * _HOUR_MICROSECONDS


def encode(feature: Feature, column: pa.Array, vocabulary: pa.Table | None = None) -> pa.Array:
    """Encodes a raw column.

    Numbers are read as float32, as a tensor of raw values holds them.

    Args:
        feature: fitted.
        column: [N] raw values; instants in microseconds since 1970 (UTC) for a `time`.
        vocabulary: of the feature's table, where it has one.

    Returns:
        [N] int32 for one row each, lists of int32 for bags, float32 for dense features.
    """
    match feature:
        case IdFeature():
            return pa.array(_rows(feature, single_values(feature, column), vocabulary), pa.int32())
        case MultiIdFeature():
            values, parents = pieces(feature, column)
            return _bags(
                _rows(feature, values, vocabulary), parents, num_bags=len(column), at_most=feature.max_length
            )
        case TextFeature():
            grams, parents = ngrams(feature, column)
            rows = hash_rows(grams, feature.num_buckets)
            return _bags(rows, parents, num_bags=len(column), at_most=feature.max_length)
        case TimeFeature():
            return pa.array(_time_rows(feature, column), pa.int32())
        case NumberFeature():
            return _number(feature, numbers(column))
    raise AssertionError(feature.kind)


def _number(feature: NumberFeature, values: npt.NDArray[np.float32]) -> pa.Array:
    if feature.is_sparse:
        return pa.array(_buckets(feature, values), pa.int32())
    scaled = (transformed(feature, values) - feature.mean) / feature.std
    return pa.array(np.where(np.isnan(values), 0.0, scaled).astype(np.float32), pa.float32())


def arrow_type(feature: Feature) -> Any:
    """Type of the column that `encode` returns."""
    if not feature.is_sparse:
        return pa.float32()
    return pa.list_(pa.int32()) if feature.is_multivalued else pa.int32()


def _rows(feature: LookupFeature, values: pa.Array, vocabulary: pa.Table | None) -> npt.NDArray[np.int32]:
    if feature.is_hashed:
        return hash_rows(values, feature.num_buckets)
    assert vocabulary is not None, feature.name
    known = vocabulary["value"].combine_chunks()
    if known.type != values.type:
        # Features of integers and of strings share a table, or a value that train does not have changed the
        # type.
        values = _as_integers(values) if pa.types.is_integer(known.type) else values.cast(pa.string())
    positions = pc.index_in(values, value_set=known)
    rows: npt.NDArray[np.int32] = (
        pc.add(positions, 1).fill_null(OUT_OF_VOCABULARY).to_numpy(zero_copy_only=False)
    )
    return rows.astype(np.int32)


def _as_integers(values: pa.Array) -> pa.Array:
    text = pc.replace_substring_regex(values.cast(pa.string()), r"\.0+$", "")
    fits = pc.match_substring_regex(text, "^-?[0-9]{1,18}$").fill_null(False)
    return pc.if_else(fits, text, pa.scalar(None, pa.string())).cast(pa.int64())


def _bags(
    rows: npt.NDArray[np.int32], parents: npt.NDArray[np.int64], *, num_bags: int, at_most: int
) -> pa.Array:
    """Lists of the first `at_most` known rows of each parent; parents ascend."""
    known = rows != OUT_OF_VOCABULARY
    rows, parents = rows[known], parents[known]
    place = np.arange(len(parents)) - np.searchsorted(parents, parents, side="left")
    rows, parents = rows[place < at_most], parents[place < at_most]
    offsets = np.zeros(num_bags + 1, dtype=np.int32)
    np.cumsum(np.bincount(parents, minlength=num_bags), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows, pa.int32()))


def _time_rows(feature: TimeFeature, column: pa.Array) -> npt.NDArray[np.int64]:
    instants = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    if feature.part == "hour":
        found = instants // _HOUR_MICROSECONDS % 24
    else:
        # 1970-01-01 was a Thursday, which is day 3 of a week that begins on Monday.
        found = (instants // _DAY_MICROSECONDS + 3) % 7
    return np.where(column.is_null().to_numpy(zero_copy_only=False), OUT_OF_VOCABULARY, found + 1)


def _buckets(feature: NumberFeature, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    edges = np.asarray(feature.boundaries, dtype=np.float32)
    found = 1 + np.searchsorted(edges, values, side="right")
    return np.where(np.isnan(values), OUT_OF_VOCABULARY, found)
