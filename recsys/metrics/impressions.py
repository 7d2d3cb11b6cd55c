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

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.metrics.classification import user_auc
from recsys.metrics.register import metric

Values = NDArray[np.float64]
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
    kept_N = np.isin(impressions_N, impressions_G)
    rows = labels_N[kept_N], scores_N[kept_N], impressions_N[kept_N]
    values = {"impression_auc": auc_G, "impression_mrr": impression_mrr(*rows)}
    values |= {f"impression_ndcg@{k}": impression_ndcg(*rows, k=k) for k in _CUT_OFFS}
    return impressions_G, values


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
def impression_mrr(labels_N: NDArray[Any], scores_N: NDArray[Any], impressions_N: NDArray[Any]) -> Values:
    """Mean reciprocal rank of all clicks of an impression, and not of the first alone.

    Formula: sum over clicks of 1 / rank, divided by the clicks. Denominator: the clicks of the impression.

    Reference:
        The evaluation of MIND (Wu et al., ACL 2020): `mrr_score`.
    """
    longest = _longest(impressions_N)
    worth_K = 1 / np.arange(1, longest + 1)
    earned_G, clicks_G = _earned(labels_N, scores_N, impressions_N, worth_K)
    return np.asarray(earned_G / clicks_G)


@metric(better="more", label="NDCG by impression")
def impression_ndcg(
    labels_N: NDArray[Any], scores_N: NDArray[Any], impressions_N: NDArray[Any], *, k: int
) -> Values:
    """Discounted gain of the first k rows of an impression over that of the best order.

    Formula: sum over clicks at rank <= k of 1 / log2(rank + 1), divided by the same sum for min(k, clicks)
    clicks on top. Denominator: that of the best order.

    Reference:
        Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002; the
        evaluation of MIND (Wu et al., ACL 2020).
    """
    worth_K = np.zeros(_longest(impressions_N))
    worth_K[:k] = 1 / np.log2(np.arange(2, len(worth_K[:k]) + 2))
    earned_G, clicks_G = _earned(labels_N, scores_N, impressions_N, worth_K)
    best = np.concatenate([[0.0], np.cumsum(worth_K)])
    return np.asarray(earned_G / best[clicks_G])


def _longest(impressions_N: NDArray[Any]) -> int:
    return int(np.unique(impressions_N, return_counts=True)[1].max(initial=0))


def _earned(
    labels_N: NDArray[Any], scores_N: NDArray[Any], impressions_N: NDArray[Any], worth_K: Values
) -> tuple[Values, NDArray[np.int64]]:
    """[G] sum of what the ranks of the clicks are worth, [K] from rank 1, and [G] number of clicks."""
    _, group_N = np.unique(impressions_N, return_inverse=True)
    order = np.lexsort((-scores_N, group_N))
    group_N, scores_N, clicked_N = group_N[order], scores_N[order], labels_N[order] > 0
    sizes_G = np.bincount(group_N)
    rank_N = np.arange(len(group_N)) - np.repeat(np.cumsum(sizes_G) - sizes_G, sizes_G)
    begins_N = (np.diff(group_N, prepend=-1) != 0) | (np.diff(scores_N, prepend=np.nan) != 0)
    tie_N = np.cumsum(begins_N) - 1
    tied = np.bincount(tie_N, minlength=0)
    worth_N = (np.bincount(tie_N, weights=worth_K[rank_N]) / tied)[tie_N]
    clicks_G = np.bincount(group_N, weights=clicked_N).astype(np.int64)
    return np.bincount(group_N, weights=worth_N * clicked_N).astype(np.float64), clicks_G
