"""The kind `time`: the hour or the weekday of the event's instant (UTC)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from recsys.data.preparing.kinds.values import ValueCounts
from recsys.schema.feature_kinds import TimeFeature
from recsys.schema.features import OUT_OF_VOCABULARY

_HOUR_MICROSECONDS = 3_600_000_000
_DAY_MICROSECONDS = 24 * _HOUR_MICROSECONDS
# Rows of the hour and of the weekday, row 0 included.
_NUM_ROWS = {"hour": 25, "weekday": 8}


def fit(
    sharing: Sequence[TimeFeature], counted: Mapping[str, ValueCounts], known: pa.Table | None
) -> tuple[list[TimeFeature], None]:
    """The features with as many rows as there are hours or days."""
    return [dataclasses.replace(feature, num_rows=_NUM_ROWS[feature.part]) for feature in sharing], None


def encode(feature: TimeFeature, column: pa.Array, vocabulary: pa.Table | None) -> pa.Array:
    """[N] int32 rows of instants in microseconds since 1970 (UTC)."""
    instants = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    if feature.part == "hour":
        parts = instants // _HOUR_MICROSECONDS % 24
    else:
        # 1970-01-01 was a Thursday, which is day 3 of a week that begins on Monday.
        parts = (instants // _DAY_MICROSECONDS + 3) % 7
    is_missing = column.is_null().to_numpy(zero_copy_only=False)
    return pa.array(np.where(is_missing, OUT_OF_VOCABULARY, parts + 1), pa.int32())
