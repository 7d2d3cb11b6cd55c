"""Metrics of predicted probabilities against labels that are 0 or 1.

    rows           0     1     2     3     4
    users_N     [  a,    a,    a,    b,    b ]     user b has one class of label: no AUC, left out of GAUC
    labels_N    [  1,    0,    0,    1,    1 ]
    scores_N    [ .9,   .2,   .9,   .4,   .7 ]     rows 0 and 2 are tied: half a pair won

Legend: N rows, U users.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Nearest to 0 and 1 that a probability is taken for: the resolution of float32 below 1.
_MIN_PROBABILITY = 1e-7


def auc(labels_N: NDArray[Any], scores_N: NDArray[Any]) -> float:
    """Probability that a random positive has a higher score than a random negative; more is better.

    0.5 is chance. Formula: sum over pairs of [s+ > s-] + [s+ = s-] / 2. Denominator: number of (positive,
    negative) pairs. Ties count half.

    Args:
        labels_N: [N] 0 or 1.
        scores_N: [N] any increasing function of the probability.

    Raises:
        ValueError: the labels are all the same, or none, so that there is no pair.

    Example:
        >>> auc(np.array([1, 0, 1, 0]), np.array([0.9, 0.3, 0.3, 0.1]))
        0.875

    Reference:
        Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 1982.
    """
    _, auc_U, _ = user_auc(labels_N, scores_N, np.zeros(len(labels_N), dtype=np.int64))
    if not len(auc_U):
        raise ValueError(
            f"AUC needs both positives and negatives, got {len(labels_N)} rows of one kind of label"
        )
    return float(auc_U[0])


def gauc(labels_N: NDArray[Any], scores_N: NDArray[Any], users_N: NDArray[Any]) -> float:
    """Mean over users of the AUC among a user's own rows, weighted by their number; more is better.

    Formula: sum_u n_u AUC_u / sum_u n_u. Denominator: the rows of users that have both positives and
    negatives; the other users are left out, as they have no AUC. Ties count half.

    Args:
        labels_N: [N] 0 or 1.
        scores_N: [N] any increasing function of the probability.
        users_N: [N] whose row it is.

    Raises:
        ValueError: no user has both positives and negatives.

    Reference:
        Zhu et al., "Optimized cost per click in Taobao display advertising", 2017, arXiv 1703.02091,
        weighted by impressions.
    """
    _, auc_U, num_rows_U = user_auc(labels_N, scores_N, users_N)
    if not len(auc_U):
        raise ValueError(
            f"GAUC needs a user with both positives and negatives, got none in {len(labels_N)} rows"
        )
    return float(np.average(auc_U, weights=num_rows_U))


def user_auc(
    labels_N: NDArray[Any], scores_N: NDArray[Any], users_N: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.int64]]:
    """AUC and number of rows of every user with both positives and negatives.

    Returns:
        Those users in ascending order, `auc_U` and `num_rows_U`, all [U].
    """
    users_U, users_N = np.unique(users_N, return_inverse=True)
    order = np.lexsort((scores_N, users_N))
    users_N, scores_N, positive_N = users_N[order], scores_N[order], labels_N[order] > 0
    num_users = int(users_N[-1]) + 1 if len(users_N) else 0
    num_rows_U = np.bincount(users_N, minlength=num_users)
    num_positives_U = np.bincount(users_N, weights=positive_N, minlength=num_users)
    rank_N = _mean_ranks(users_N, scores_N) - (np.cumsum(num_rows_U) - num_rows_U)[users_N]
    # Sum of the positives' ranks, less what it is when they all come first: the pairs won.
    rank_sum_U = np.bincount(users_N, weights=rank_N * positive_N, minlength=num_users)
    won_U = rank_sum_U - num_positives_U * (num_positives_U + 1) / 2
    pairs_U = num_positives_U * (num_rows_U - num_positives_U)
    kept_U = pairs_U > 0
    return users_U[kept_U], won_U[kept_U] / pairs_U[kept_U], num_rows_U[kept_U].astype(np.int64)


def log_loss(labels_N: NDArray[Any], probabilities_N: NDArray[Any]) -> float:
    """Mean negative log-likelihood of the labels, in nats; less is better.

    Formula: the mean of `row_log_loss`. Denominator: the rows.

    Raises:
        ValueError: there are no rows.
    """
    if not len(labels_N):
        raise ValueError("log loss needs at least one row, got none")
    return float(row_log_loss(labels_N, probabilities_N).mean())


def row_log_loss(labels_N: NDArray[Any], probabilities_N: NDArray[Any]) -> NDArray[np.float64]:
    """Negative log-likelihood of each label, in nats; less is better.

    Formula: -log p where the label is 1, -log(1 - p) where it is 0. Probabilities of 0 and 1 are taken for
    the nearest ones that float32 can tell from them, so that the loss stays finite.

    Args:
        labels_N: [N] 0 or 1.
        probabilities_N: [N] predicted probabilities of a 1.

    Returns:
        [N] float64.

    Reference:
        Good, "Rational decisions", Journal of the Royal Statistical Society B, 1952.
    """
    clipped_N = np.clip(probabilities_N.astype(np.float64), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return np.asarray(-np.log(np.where(labels_N > 0, clipped_N, 1 - clipped_N)))


def reliability(
    labels_N: NDArray[Any], probabilities_N: NDArray[Any], *, num_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Predicted against observed frequency of positives, rows being binned by their probability.

    The bins hold equally many rows, but rows of equal probability share a bin. A calibrated model has
    predicted equal to observed in each; in sum that says nothing about which rows come first.

    Args:
        labels_N: [N] 0 or 1.
        probabilities_N: [N] predicted probabilities of a 1.
        num_bins: at most so many bins; 10 works.

    Returns:
        Mean probability, share of positives and number of rows of each bin that is not empty, by probability.

    Reference:
        Niculescu-Mizil and Caruana, "Predicting good probabilities with supervised learning", ICML 2005.
    """
    order = np.argsort(probabilities_N, kind="stable")
    ascending_N, positive_N = probabilities_N[order].astype(np.float64), labels_N[order] > 0
    first_N = np.searchsorted(ascending_N, ascending_N, side="left")
    _, bin_N, sizes = np.unique(
        first_N * num_bins // max(len(order), 1), return_inverse=True, return_counts=True
    )
    predicted = np.bincount(bin_N, weights=ascending_N) / sizes
    observed = np.bincount(bin_N, weights=positive_N) / sizes
    return predicted, observed, sizes.astype(np.int64)


def _mean_ranks(users_N: NDArray[Any], scores_N: NDArray[Any]) -> NDArray[np.float64]:
    """Position from 1 of each sorted row, the mean position among rows of equal user and score."""
    differs = (np.diff(users_N) != 0) | (np.diff(scores_N) != 0)
    group_N = np.concatenate([np.zeros(min(1, len(users_N)), dtype=np.int64), np.cumsum(differs)])
    sizes = np.bincount(group_N)
    last = np.cumsum(sizes)
    return np.asarray((last - (sizes - 1) / 2)[group_N])
