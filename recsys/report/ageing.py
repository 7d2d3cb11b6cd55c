"""Fits how fast a model ages: a line through the slices of time since the end of train.

Legend: P periods.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from recsys.metrics.register import metric_of
from recsys.report.findings import measured, pieces_of, worth

# A line through fewer periods says nothing about its own error.
MIN_PERIODS = 3
# A tenth of what the model is worth: about what separates a tuned model from a good baseline on MovieLens.
LOSS = 0.1
# Standard errors that the slope must be away from zero: one chance in forty of a false alarm.
SURE = 2.0
_DAYS = re.compile(r"(-?[\d.]+)-(-?[\d.]+)")


@dataclasses.dataclass(frozen=True)
class Decay:
    """A line through the metric by age of the model, in days since the end of train.

    Args:
        first, last: ages at which the line begins and ends.
        start: the metric's worth on the line at `first`.
        slope: what is added a day.
        error: standard error of the slope.
    """

    first: float
    last: float
    start: float
    slope: float
    error: float

    @property
    def lost(self) -> float:
        """Share of the worth at the start that is gone at the end; negative for a gain."""
        return -self.slope * (self.last - self.first) / self.start

    @property
    def is_sure(self) -> bool:
        """Whether the line falls by more than chance and by more than a tenth."""
        return self.lost >= LOSS and self.slope < -SURE * self.error

    @property
    def days_to_lose(self) -> float:
        """Days in which a falling line loses a tenth."""
        return LOSS * self.start / -self.slope


def decay_of(results: dict[str, Any]) -> Decay | None:
    """The line of weighted least squares through the periods, each weighing as many users as it has.

    Its error is that of the residuals, so that periods which go up and down for other reasons make it large.

    Returns:
        None with fewer than three periods that are not small, or where less of the metric is better.
    """
    key = results["main_metric"]
    if metric_of(key).better == "less":
        return None
    rows = []
    for piece in pieces_of(results, "days_since_train"):
        ends, value = _DAYS.fullmatch(piece["name"]), measured(piece, key)
        if ends and value is not None:
            rows.append((float(ends[1]), float(ends[2]), worth(key, value), piece["users"]))
    if len(rows) < MIN_PERIODS:
        return None
    begins_P, ends_P, values_P, weights_P = np.array(rows, dtype=np.float64).T
    middles_P = (begins_P + ends_P) / 2
    centred_P = middles_P - np.average(middles_P, weights=weights_P)
    spread = (weights_P * centred_P**2).sum()
    mean = np.average(values_P, weights=weights_P)
    slope = (weights_P * centred_P * values_P).sum() / spread
    residuals_P = values_P - mean - slope * centred_P
    error = np.sqrt((weights_P * residuals_P**2).sum() / (len(rows) - 2) / spread)
    start = mean + slope * centred_P[0]
    if start <= 0:
        return None
    return Decay(float(middles_P[0]), float(middles_P[-1]), float(start), float(slope), float(error))
