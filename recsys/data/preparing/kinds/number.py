"""The kinds `numeric` and `statistic`: numbers standardised, or put into buckets of equal size."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.preparing.kinds.values import BLANKS, ValueCounts, one_chunk
from recsys.schema.feature_kinds import DEFAULT_BUCKETS, NumberFeature
from recsys.schema.features import OUT_OF_VOCABULARY
from recsys.schema.values import NUMBER


def fit(
    sharing: Sequence[NumberFeature], counted: Mapping[str, ValueCounts], known: pa.Table | None
) -> tuple[list[NumberFeature], None]:
    """The features with mean and deviation, or with their buckets."""
    return [_fitted(feature, counted[feature.name]) for feature in sharing], None


def encode(feature: NumberFeature, column: pa.Array, vocabulary: pa.Table | None) -> pa.Array:
    """[N] float32, 0 for what is missing; int32 rows where numbers are put into buckets.

    Numbers are read as float32, as a tensor of raw values holds them.
    """
    values = numbers(column)
    if feature.is_sparse:
        edges = np.asarray(feature.boundaries, dtype=np.float32)
        rows = 1 + np.searchsorted(edges, values, side="right")
        return pa.array(np.where(np.isnan(values), OUT_OF_VOCABULARY, rows), pa.int32())
    scaled = (_transformed(feature, values) - feature.mean) / feature.std
    return pa.array(np.where(np.isnan(values), 0.0, scaled).astype(np.float32), pa.float32())


def numbers(column: pa.Array) -> npt.NDArray[np.float32]:
    """The values of a `numeric` as float32, NaN where there is none or it is not finite; true is 1."""
    column = one_chunk(column)
    if pa.types.is_string(column.type):
        text = pc.utf8_trim(column, characters=BLANKS)
        readable = pc.match_substring_regex(text, NUMBER).fill_null(False)
        text = pc.if_else(readable, text, pa.scalar(None, pa.string()))
        column = pc.replace_substring_regex(text, r"^\+", "")
    elif pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    # Not cast to float32 by Arrow, which refuses integers beyond 2^24.
    values = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False).astype(np.float32)
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def _fitted(feature: NumberFeature, counted: ValueCounts) -> NumberFeature:
    values = numbers(counted.values)
    kept = np.isfinite(values) & (counted.counts > 0)
    # Ascending, so that sums do not depend on the order of rows.
    order = np.argsort(values[kept], kind="stable")
    values, counts = values[kept][order], counted.counts[kept][order]
    if feature.is_sparse:
        edges = _edges(values, counts, feature.num_buckets or DEFAULT_BUCKETS)
        return dataclasses.replace(feature, boundaries=tuple(edges), num_rows=len(edges) + 2)
    if not len(values):
        return dataclasses.replace(feature, mean=0.0, std=1.0)
    mean = float(np.average(_transformed(feature, values), weights=counts))
    variance = float(np.average((_transformed(feature, values) - mean) ** 2, weights=counts))
    # All values alike: nothing to divide by.
    return dataclasses.replace(feature, mean=mean, std=variance**0.5 if variance > 0 else 1.0)


def _edges(values: npt.NDArray[np.float32], counts: npt.NDArray[np.int64], num_buckets: int) -> list[float]:
    """Inner edges at the quantiles i / num_buckets; each is a value that occurs, equal edges become one."""
    if not len(values):
        return []
    before = np.cumsum(counts)
    wanted = before[-1] * np.arange(1, num_buckets) / num_buckets
    # The first value with more than that many before or at it: no bucket is empty below its edge.
    chosen = values[np.searchsorted(before, wanted, side="right")]
    return [float(edge) for edge in np.unique(chosen) if edge > values[0]]


def _transformed(feature: NumberFeature, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The values that are standardised: the numbers themselves, or log(1 + max(x, 0))."""
    wide = values.astype(np.float64)
    return np.log1p(np.maximum(wide, 0.0)) if feature.transform == "log" else wide
