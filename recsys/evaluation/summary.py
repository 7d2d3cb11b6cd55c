"""Figures with intervals: per-query values in, plain data for `metrics.json` out.

Legend: N queries or rows, U users, R resamples, M figures.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.evaluation.options import EvaluationOptions
from recsys.metrics.intervals import (
    Counts,
    Samples,
    auc_samples,
    percentile_interval,
    ratio_samples,
    resample_counts,
    sum_by_user,
    sum_samples,
)
from recsys.metrics.quotients import quotient

# More users than these are drawn in so many bundles.
_MAX_BUNDLES = 5000

Values = Mapping[str, npt.NDArray[np.float64]]


@dataclasses.dataclass(frozen=True)
class Figures:
    """Figures of one system on one slice, each with the resamples behind its interval.

    Args:
        values: what was measured, by the metric's key.
        samples: [R] for each key that has an interval.
    """

    values: dict[str, float]
    samples: dict[str, Samples]


class Bootstrap:
    """The resamples of users that all figures of one evaluation share, so that differences are paired.

    Very many users are drawn in random bundles, so that time and memory do not grow with them; a width of an
    interval is then known to about one percent.

    Args:
        users_N: [N] any ids, whose query or row it is.
        options: number of resamples, confidence and seed.
    """

    def __init__(self, users_N: npt.NDArray[Any], options: EvaluationOptions) -> None:
        users, self.users_N = np.unique(users_N, return_inverse=True)
        self.num_users = len(users)
        self.confidence = options.confidence
        self._num_bundles = min(self.num_users, _MAX_BUNDLES)
        self._bundle_of_user = np.arange(self.num_users)
        if self.num_users > _MAX_BUNDLES:
            shuffled = np.random.default_rng(options.seed).permutation(self.num_users)
            self._bundle_of_user = shuffled % _MAX_BUNDLES
        self._counts: Counts = resample_counts(
            self._num_bundles, num_resamples=options.resamples, seed=options.seed
        )

    def means(self, values: Values, *, mask: npt.NDArray[np.bool_] | None = None) -> Figures:
        """Means over queries, with resamples of users behind them.

        Args:
            values: [N] for each key; a query whose value is NaN is left out of that mean.
            mask: [N] which queries count; all when None.
        """
        if mask is None:
            return self.means_of(values, users_N=self.users_N)
        kept = np.flatnonzero(mask)
        return self.means_of({key: value[kept] for key, value in values.items()}, users_N=self.users_N[kept])

    def means_of(self, values: Values, *, users_N: npt.NDArray[np.int64]) -> Figures:
        """Means over some queries, whose users are given as in `users_N` of this object."""
        values_NM = np.stack(list(values.values()), axis=1)
        known_NM = ~np.isnan(values_NM)
        partly = np.flatnonzero(~known_NM.all(axis=0))
        values_NM[~known_NM] = 0
        sizes_M = np.full(len(values), float(len(users_N)))
        sizes_M[partly] = known_NM[:, partly].sum(axis=0)
        means_M = quotient(values_NM.sum(axis=0), sizes_M)
        bundles = self._bundle_of_user[users_N]
        sums = sum_by_user(values_NM, bundles, num_users=self._num_bundles)
        sizes = np.bincount(bundles, minlength=self._num_bundles)[:, None]
        samples_RM = ratio_samples(self._counts, sums, sizes)
        if len(partly):
            known = sum_by_user(known_NM[:, partly], bundles, num_users=self._num_bundles)
            samples_RM[:, partly] = ratio_samples(self._counts, sums[:, partly], known)
        return Figures(
            values=dict(zip(values, means_M.tolist(), strict=True)),
            samples={key: samples_RM[:, column] for column, key in enumerate(values)},
        )

    def sum_samples(self, values_NM: npt.NDArray[Any], *, users_N: npt.NDArray[Any]) -> Samples:
        """Resamples [R, M] of sums over some rows, whose users are given as in `users_N` of this object."""
        bundles = self._bundle_of_user[users_N]
        return sum_samples(self._counts, sum_by_user(values_NM, bundles, num_users=self._num_bundles))

    def auc_samples(
        self, labels_N: npt.NDArray[Any], scores_N: npt.NDArray[Any], *, users_N: npt.NDArray[Any]
    ) -> tuple[Samples, Samples]:
        """Resamples of AUC and PR-AUC of some rows, whose users are given as in `users_N` of this object."""
        return auc_samples(self._counts, labels_N, scores_N=scores_N, users_N=self._bundle_of_user[users_N])

    def weighted_samples(
        self, values_U: npt.NDArray[Any], weights_U: npt.NDArray[Any], *, users_U: npt.NDArray[Any]
    ) -> Samples:
        """Resamples of a weighted mean over some users, given as in `users_N` of this object."""
        weighted_U2 = np.stack([values_U * weights_U, weights_U], axis=1)
        sums = sum_by_user(weighted_U2, self._bundle_of_user[users_U], num_users=self._num_bundles)
        return ratio_samples(self._counts, sums[:, :1], sums[:, 1:])[:, 0]

    def block(self, figures: Figures, *, keys: Sequence[str]) -> dict[str, Any]:
        """`{"metrics": {key: value}, "intervals": {key: [low, high]}}`; null where there is none."""
        values = {key: figures.values.get(key, math.nan) for key in keys}
        measured = [key for key in keys if key in figures.samples and not math.isnan(values[key])]
        intervals: dict[str, list[float] | None] = {}
        if measured and len(self._counts):
            samples_RM = np.stack([figures.samples[key] for key in measured], axis=1)
            bounds = np.stack(percentile_interval(samples_RM, confidence=self.confidence), axis=1)
            intervals = {
                key: None if math.isnan(low) else [low, high]
                for key, (low, high) in zip(measured, bounds.tolist(), strict=True)
            }
        return {
            "metrics": {key: None if math.isnan(value) else value for key, value in values.items()},
            "intervals": {key: intervals.get(key) for key in keys},
        }

    def interval(self, samples_R: Samples) -> list[float] | None:
        """Bounds of the percentile interval; None without a usable resample."""
        if not len(samples_R):
            return None
        low, high = percentile_interval(samples_R, confidence=self.confidence)
        return None if math.isnan(low) else [float(low), float(high)]

    def difference(self, figures: Figures, other: Figures, *, key: str) -> dict[str, Any]:
        """By how much the first figure is above the second, from paired resamples."""
        samples_R = figures.samples[key] - other.samples[key]
        return {
            "metric": key,
            "difference": figures.values[key] - other.values[key],
            "interval": self.interval(samples_R),
        }

    def num_users_in(self, mask: npt.NDArray[np.bool_]) -> int:
        """Different users among the queries that count."""
        return len(np.unique(self.users_N[mask]))
