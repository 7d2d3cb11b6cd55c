"""By how much one system is above others, how surely, on the whole and on slices.

Legend: N queries or rows, U users, M comparisons.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recsys.evaluation.comparing.stations import Answers, Members
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.summary import Bootstrap
from recsys.metrics.classification import auc, user_auc
from recsys.metrics.intervals import Samples, sum_by_user
from recsys.metrics.register import metric_of
from recsys.metrics.significance import (
    BETTER,
    LESS,
    MORE,
    UNDECIDED,
    WORSE,
    bootstrap_p_value,
    holm,
    sign_flip_test,
)

# With one relevant item a query these are others under another name.
_SAME_FOR_ONE_RELEVANT = ("recall", "precision", "map")


@dataclasses.dataclass(frozen=True)
class ComparedQuestions:
    """Holds the queries or rows that all compared systems answered.

    Args:
        users: [N] whose question it is.
        labels: [N] of a ranking task.
        slices: sets of questions.
        several_relevant: a query may have more than one relevant item.
    """

    users: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None
    slices: Sequence[Members]
    several_relevant: bool = True


class PairedComparison:
    """Compares systems that answered the same questions, users being drawn and swapped for all of them alike.

    Args:
        questions: what they answered.
        options: resamples, confidence, seed and what a small slice is.
        permutations: of the paired test.
    """

    def __init__(
        self, questions: ComparedQuestions, options: EvaluationOptions, *, permutations: int
    ) -> None:
        self.questions = questions
        self.options = options
        self.permutations = permutations
        self.bootstrap = Bootstrap(questions.users, options)

    def differences(self, first: Answers, others: Sequence[Answers], *, k: str) -> list[dict[str, Any]]:
        """A row for each of the others and each metric: difference, interval, p value, corrected p value.

        Metrics that say which is better are one family of tests, all others a second one; each is corrected
        over its metrics and all opponents.

        Args:
            first: the system in question.
            others: what it is compared with.
            k: cut-off of the metrics; empty for a ranking task.
        """
        rows = []
        for other in others:
            rows += self._on_queries(first, other, k=k)
            if self.questions.labels is not None:
                rows += self._on_order(first, other)
        for has_direction in (True, False):
            alike = [row for row in rows if (metric_of(row["metric"]).better is None) is not has_direction]
            self._correct(alike)
        return rows

    def on_slices(self, first: Answers, others: Sequence[Answers], *, metric: str) -> list[dict[str, Any]]:
        """A row for each slice and each of the others, tests being corrected over all that are not small.

        Args:
            first: the system in question.
            others: what it is compared with.
            metric: one with a value per question.
        """
        rows = []
        for piece in self.questions.slices:
            mask = np.zeros(len(self.questions.users), dtype=np.bool_)
            mask[piece.rows] = True
            num_users = self.bootstrap.num_users_in(mask)
            values = {str(i): first.values[metric] - o.values[metric] for i, o in enumerate(others)}
            figures = self.bootstrap.means(values, mask=mask)
            for index, other in enumerate(others):
                rows.append(
                    {
                        "group": piece.group,
                        "name": piece.name,
                        "description": piece.description,
                        "size": len(piece.rows),
                        "users": num_users,
                        "small": num_users < self.options.small_slice,
                        "against": other.name,
                        "metric": metric,
                        "value": _mean(first.values[metric][mask]),
                        "other_value": _mean(other.values[metric][mask]),
                        "difference": figures.values[str(index)],
                        "interval": self.bootstrap.interval(figures.samples[str(index)]),
                        "p": None,
                        "_sums": self._sums(values[str(index)] * mask),
                    }
                )
        self._test(rows)
        for row in rows:
            if row["small"]:
                row["p"] = None
        self._correct(rows)
        return rows

    def _on_queries(self, first: Answers, other: Answers, *, k: str) -> list[dict[str, Any]]:
        """Metrics with a value per question."""
        keys = [
            key
            for key in first.values
            if key in other.values and key.partition("@")[2] == k and self._is_of_its_own(key)
        ]
        values = {key: first.values[key] - other.values[key] for key in keys}
        # A query without a history, say, has no lift; where none has a value there is nothing to compare.
        keys = [key for key in keys if not np.isnan(values[key]).all()]
        if not keys:
            return []
        figures = self.bootstrap.means({key: values[key] for key in keys})
        rows = [
            {
                **self._row(
                    first, other, metric=key, difference=figures.values[key], samples=figures.samples[key]
                ),
                "test": "sign flip",
                "_sums": self._sums(values[key]),
            }
            for key in keys
        ]
        self._test(rows)
        return rows

    def _on_order(self, first: Answers, other: Answers) -> list[dict[str, Any]]:
        """AUC over all rows, by paired bootstrap, and within users, by the paired test."""
        labels_N, users_N = self.questions.labels, self.bootstrap.users_N
        assert labels_N is not None
        if not 0 < labels_N.sum() < len(labels_N):
            return []
        scores = [system.probabilities for system in (first, other) if system.probabilities is not None]
        whole = [auc(labels_N, scores_N) for scores_N in scores]
        samples = [self.bootstrap.auc_samples(labels_N, scores_N, users_N=users_N)[0] for scores_N in scores]
        apart_R = samples[0] - samples[1]
        p = bootstrap_p_value(apart_R)
        on_whole = self._row(first, other, metric="auc", difference=whole[0] - whole[1], samples=apart_R)
        rows = [{**on_whole, "test": "bootstrap", "p": None if math.isnan(p) else p}]
        users_U, auc_U, num_rows_U = user_auc(labels_N, scores[0], users_N)
        if len(users_U):
            apart_U = auc_U - user_auc(labels_N, scores[1], users_N)[1]
            drawn = self.bootstrap.weighted_samples(apart_U, num_rows_U, users_U=users_U)
            mean = float(np.average(apart_U, weights=num_rows_U))
            row = self._row(first, other, metric="gauc", difference=mean, samples=drawn)
            rows.append({**row, "test": "sign flip", "_sums": apart_U * num_rows_U})
            self._test(rows[1:])
        return rows

    def _row(
        self, first: Answers, other: Answers, *, metric: str, difference: float, samples: Samples
    ) -> dict[str, Any]:
        return {
            "against": other.name,
            "metric": metric,
            "value": first.block["metrics"].get(metric),
            "other_value": other.block["metrics"].get(metric),
            "difference": difference,
            "interval": self.bootstrap.interval(samples),
        }

    def _sums(self, values_N: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """[U] each user's sum; what is NaN does not count."""
        sums: npt.NDArray[np.float64] = sum_by_user(
            np.nan_to_num(values_N[:, None], nan=0.0),
            self.bootstrap.users_N,
            num_users=self.bootstrap.num_users,
        )[:, 0]
        return sums

    def _test(self, rows: Sequence[dict[str, Any]]) -> None:
        """Puts the p value of the paired test in place of each user's sums."""
        if not rows:
            return
        sums_UM = np.stack([row.pop("_sums") for row in rows], axis=1)
        p_M = sign_flip_test(sums_UM, num_permutations=self.permutations, seed=self.options.seed)
        for row, p in zip(rows, p_M.tolist(), strict=True):
            row["p"] = p

    def _correct(self, family: Sequence[dict[str, Any]]) -> None:
        """Adds the corrected p values of a family of tests and what they say."""
        p_M = np.array([np.nan if row["p"] is None else row["p"] for row in family])
        for row, p in zip(family, holm(p_M).tolist(), strict=True):
            row["p_corrected"] = None if math.isnan(p) else p
            row["outcome"] = self._outcome(row)

    def _outcome(self, row: Mapping[str, Any]) -> str:
        p, metric = row["p_corrected"], row["metric"]
        if p is None or p > 1 - self.options.confidence:
            return UNDECIDED
        is_more = row["difference"] > 0
        better = metric_of(metric).better
        if better is None:
            return MORE if is_more else LESS
        return BETTER if is_more is (better == "more") else WORSE

    def _is_of_its_own(self, key: str) -> bool:
        return self.questions.several_relevant or metric_of(key).name not in _SAME_FOR_ONE_RELEVANT


def _mean(values_N: npt.NDArray[np.float64]) -> float | None:
    """Mean of what is not NaN; None where nothing is."""
    known = values_N[~np.isnan(values_N)]
    return float(known.mean()) if len(known) else None
