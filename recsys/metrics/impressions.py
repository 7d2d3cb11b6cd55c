"""Metrics of what was shown at once: whether the clicked items of an impression are ordered above the others.

    rows             0     1     2     3     4
    impressions_N [  a,    a,    a,    b,    b ]     impression b has one class of label: it is left out
    labels_N      [  1,    0,    0,    1,    1 ]
    scores_N      [ .9,   .2,   .9,   .4,   .7 ]     rows 0 and 2 are tied: each has the mean of both ranks

Each gives a value for every impression with a click and without one, in ascending order of impressions; what
gets reported is their mean. All lie in [0, 1], more is better. Where scores are tied, a value is the
expectation over the orders of the tied rows, so that the order of a file decides nothing.

Legend: N rows, G impressions with both classes of label.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.metrics.classification import user_auc
from recsys.metrics.register import metric

Values = NDArray[np.float64]
Counts = NDArray[np.int64]
_CUT_OFFS = (5, 10)


def impression_metrics(
    labels_N: NDArray[Any], scores_N: NDArray[Any], impressions_N: NDArray[Any]
) -> tuple[NDArray[Any], dict[str, Values]]:
    """All of this file, as MIND is judged: AUC, MRR, NDCG@5 and NDCG@10.

    Args:
        labels_N: [N] 0 or 1, whether it was clicked.
        scores_N: [N] any increasing function of the probability.
        impressions_N: [N] what was shown together has the same.

    Returns:
        [G] the impressions, and [G] values by the metric's key.

    Example:
        >>> impressions, values = impression_metrics(
        ...     np.array([1, 0, 0, 1]), np.array([0.2, 0.9, 0.1, 0.5]), np.array([7, 7, 7, 8])
        ... )
        >>> impressions.tolist(), {key[11:]: round(float(value[0]), 2) for key, value in values.items()}
        ([7], {'auc': 0.5, 'mrr': 0.5, 'ndcg@5': 0.63, 'ndcg@10': 0.63})
    """
    impressions_G, auc_G, _ = user_auc(labels_N, scores_N, impressions_N)
    ranked = RankedImpressions.of(labels_N, scores_N, impressions_N)
    values = {"impression_auc": auc_G, "impression_mrr": impression_mrr(ranked)}
    return impressions_G, values | {f"impression_ndcg@{k}": impression_ndcg(ranked, k=k) for k in _CUT_OFFS}


@dataclasses.dataclass(frozen=True)
class RankedImpressions:
    """Rows of impressions with both classes of label, ranked within each.

    Args:
        group_N: [N] which impression, from 0, ascending.
        clicked_N: [N] bool.
        rank_N: [N] from 0, by falling score.
        tie_N: [N] the same number for rows of one impression and one score, from 0, ascending.
    """

    group_N: Counts
    clicked_N: NDArray[np.bool_]
    rank_N: Counts
    tie_N: Counts

    @classmethod
    def of(
        cls, labels_N: NDArray[Any], scores_N: NDArray[Any], impressions_N: NDArray[Any]
    ) -> RankedImpressions:
        """Sorts the rows, and leaves out impressions of one class; see `impression_metrics`."""
        order = np.lexsort((-scores_N, impressions_N))
        shown_N, scores_N, clicked_N = impressions_N[order], scores_N[order], labels_N[order] > 0
        group_N = np.cumsum(_begins(shown_N)) - 1
        clicks_G = np.bincount(group_N, weights=clicked_N)
        kept_N = ((clicks_G > 0) & (clicks_G < np.bincount(group_N)))[group_N]
        shown_N, scores_N, clicked_N = shown_N[kept_N], scores_N[kept_N], clicked_N[kept_N]
        begins_N = _begins(shown_N)
        group_N = np.cumsum(begins_N) - 1
        rank_N = np.arange(len(group_N)) - np.flatnonzero(begins_N)[group_N]
        tie_N = np.cumsum(begins_N | _begins(scores_N)) - 1
        return cls(group_N, clicked_N, rank_N, tie_N)

    @property
    def clicks(self) -> Counts:
        """[G] clicks of each impression."""
        return np.bincount(self.group_N, weights=self.clicked_N).astype(np.int64)

    @property
    def longest(self) -> int:
        """Rows of the largest impression."""
        return int(self.rank_N.max(initial=-1)) + 1

    def earned(self, worth_K: Values) -> Values:
        """[G] sum of what the ranks of the clicks are worth, [K] from rank 1; of tied rows, the mean."""
        worth_N = (np.bincount(self.tie_N, weights=worth_K[self.rank_N]) / np.bincount(self.tie_N))[
            self.tie_N
        ]
        return np.bincount(self.group_N, weights=worth_N * self.clicked_N).astype(np.float64)


@metric(better="more", label="AUC by impression", chance=0.5)
def impression_auc(labels_N: NDArray[Any], scores_N: NDArray[Any], impressions_N: NDArray[Any]) -> Values:
    """Probability that a click of an impression has a higher score than what was passed over in it.

    Formula: AUC among the rows of an impression. Denominator: its pairs of a click and a row passed over;
    ties count half.

    Reference:
        Wu et al., "MIND: a large-scale dataset for news recommendation", ACL 2020, section 5.1.
    """
    return user_auc(labels_N, scores_N, impressions_N)[1]


@metric(better="more", label="MRR by impression")
def impression_mrr(ranked: RankedImpressions) -> Values:
    """Mean reciprocal rank of all clicks of an impression, and not of the first alone.

    Formula: sum over clicks of 1 / rank, divided by the clicks. Denominator: the clicks of the impression.

    Reference:
        The evaluation of MIND (Wu et al., ACL 2020): `mrr_score`.
    """
    return np.asarray(ranked.earned(1 / np.arange(1, ranked.longest + 1)) / ranked.clicks)


@metric(better="more", label="NDCG by impression")
def impression_ndcg(ranked: RankedImpressions, *, k: int) -> Values:
    """Discounted gain of the first k rows of an impression over that of the best order.

    Formula: sum over clicks at rank <= k of 1 / log2(rank + 1), divided by the same sum for min(k, clicks)
    clicks on top. Denominator: that of the best order.

    Reference:
        Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002; the
        evaluation of MIND (Wu et al., ACL 2020).
    """
    rank_K = np.arange(1, ranked.longest + 1)
    worth_K = np.where(rank_K <= k, 1 / np.log2(rank_K + 1), 0.0)
    best = np.concatenate([[0.0], np.cumsum(worth_K)])
    return np.asarray(ranked.earned(worth_K) / best[ranked.clicks])


def _begins(sorted_N: NDArray[Any]) -> NDArray[np.bool_]:
    """[N] whether a value differs from the one before it."""
    return np.append(np.ones(min(1, len(sorted_N)), np.bool_), sorted_N[1:] != sorted_N[:-1])
