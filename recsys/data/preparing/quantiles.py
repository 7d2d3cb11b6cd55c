"""quantile: of any number of integers, exactly and in little memory."""

from __future__ import annotations

import math

import ibis
import numpy as np
from ibis import _

from recsys.data.reading.engine import Engine

_BINS = 4096
_HELD = 1_000_000  # so many values are sorted in memory


def quantile(engine: Engine, column: ibis.Column, share: float) -> int:
    """The least value that occurs and is not below the interpolated quantile of `share` in [0, 1].

    DuckDB's own quantile holds all values at once, 16 bytes each. This counts them in bins, then those of one
    bin in finer bins, until a bin is one value, after four passes for microseconds of a year, or small enough
    to be sorted.

    Args:
        engine: runs the expressions.
        column: integers, at least one, none null.
        share: how much of them lies below.
    """
    values = column.name("value").as_table()
    bounds = engine.collect(values.aggregate(low=_.value.min(), high=_.value.max(), size=_.count()))
    low, high, size = (int(bounds[name][0].as_py()) for name in ("low", "high", "size"))
    before = math.ceil(share * (size - 1))  # how many come before the one wanted, in ascending order
    while low < high and size > _HELD:
        width = -(-(high - low + 1) // _BINS)
        inside = values.filter((_.value >= low) & (_.value <= high))
        binned = inside.group_by(bin=((_.value - low) // width).cast("int64"))
        counts = engine.collect(binned.aggregate(size=_.count()).order_by("bin")).to_pylist()
        for row in counts:
            if before < row["size"]:
                break
            before -= row["size"]
        size = row["size"]
        low, high = low + row["bin"] * width, min(high, low + (row["bin"] + 1) * width - 1)
    if low == high:
        return low
    held = engine.collect(values.filter((_.value >= low) & (_.value <= high)))["value"].to_numpy()
    return int(np.partition(held, before)[before])
