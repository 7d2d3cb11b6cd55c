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
from scipy import special

from recsys.metrics.register import metric
from recsys.schema.errors import InputError

# Nearest to 0 and 1 that a probability is taken for: the resolution of float32 below 1.
_MIN_PROBABILITY = 1e-7


@metric(better="more", label="AUC", chance=0.5)
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
        raise InputError(
            f"AUC needs both positives and negatives, got {len(labels_N)} rows of one kind of label"
        )
    return float(auc_U[0])


@metric(better="more", label="GAUC", chance=0.5)
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
        raise InputError(
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


@metric(better="more", label="PR-AUC")
def pr_auc(labels_N: NDArray[Any], scores_N: NDArray[Any]) -> float:
    """Area under the curve of precision against recall, as average precision; more is better.

    Formula: sum over thresholds of (R_t - R_{t-1}) P_t, P_t and R_t precision and recall of the rows with a
    score of at least t, without interpolation. Denominator: the positives. Rows of equal score pass a
    threshold together. Chance is the share of positives, not 0.5, so values of different rows do not compare.

    Args:
        labels_N: [N] 0 or 1.
        scores_N: [N] any increasing function of the probability.

    Raises:
        ValueError: no label is positive.

    Example:
        >>> pr_auc(np.array([1, 0, 1]), np.array([0.9, 0.6, 0.3])).__round__(4)  # (1 + 2/3) / 2
        0.8333

    Reference:
        Davis and Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006; Boyd, Eng
        and Page, "Area under the precision-recall curve", ECML 2013.
    """
    if not (labels_N > 0).any():
        raise InputError(f"PR-AUC needs positives, got none in {len(labels_N)} rows")
    order = np.argsort(-scores_N, kind="stable")
    hits_N = np.cumsum(labels_N[order] > 0)
    last = np.flatnonzero(np.append(np.diff(scores_N[order]) != 0, True))
    precision = hits_N[last] / (last + 1)
    return float((np.diff(hits_N[last], prepend=0) * precision).sum() / hits_N[-1])


@metric(better="less")
def log_loss(labels_N: NDArray[Any], probabilities_N: NDArray[Any]) -> float:
    """Mean negative log-likelihood of the labels, in nats; less is better.

    Formula: the mean of `row_log_loss`. Denominator: the rows.

    Raises:
        ValueError: there are no rows.
    """
    if not len(labels_N):
        raise InputError("log loss needs at least one row, got none")
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


@metric("rmse", better="less", label="RMSE")
def root_mean_squared_error(labels_N: NDArray[Any], outputs_N: NDArray[Any]) -> float:
    """Root of the mean squared difference between numeric labels and outputs; less is better.

    Formula: sqrt(sum (y - f)^2 / N). Denominator: the rows. In the unit of the label.

    Example:
        >>> root_mean_squared_error(np.array([1.0, 2.0]), np.array([4.0, 6.0]))
        3.5355339059327378
    """
    return float(np.sqrt(np.mean((outputs_N - labels_N) ** 2)))


@metric(better="less")
def normalised_entropy(labels_N: NDArray[Any], probabilities_N: NDArray[Any]) -> float:
    """Log loss in proportion to that of always saying the mean rate of the same rows; less is better.

    Formula: log loss / H(r), H(r) = -r log r - (1 - r) log(1 - r), r the share of positives. Denominator: the
    entropy of the labels. 1 tells no more than the mean rate, 0 is certain and right. NaN where the labels
    are all the same, or none.

    Args:
        labels_N: [N] 0 or 1.
        probabilities_N: [N] predicted probabilities of a 1.

    Reference:
        He et al., "Practical lessons from predicting clicks on ads at Facebook", ADKDD 2014, equation 1.
    """
    entropy = label_entropy(np.array([(labels_N > 0).mean() if len(labels_N) else 0.0]))[0]
    return log_loss(labels_N, probabilities_N) / entropy if entropy else float("nan")


def label_entropy(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy in nats of labels of which these shares are positive; 0 where they are all the same."""
    return np.asarray(special.entr(rates) + special.entr(1 - rates))


@metric(better=None, meaning="1 is right")
def predicted_over_observed(labels_N: NDArray[Any], probabilities_N: NDArray[Any]) -> float:
    """Positives that were predicted for each one observed: 1 is calibrated in sum, above 1 too many.

    Formula: sum p / sum y. Denominator: the positives; NaN where there are none.

    Reference:
        He et al., "Practical lessons from predicting clicks on ads at Facebook", ADKDD 2014: calibration.
    """
    num_positives = (labels_N > 0).sum()
    return float(probabilities_N.sum() / num_positives) if num_positives else float("nan")


@metric(better="less")
def calibration_error(labels_N: NDArray[Any], probabilities_N: NDArray[Any], *, num_bins: int) -> float:
    """Expected calibration error: how far predicted is from observed in a bin; less is better.

    Formula: sum_b n_b / N |predicted_b - observed_b|, over the bins of `reliability`. Denominator: the rows.
    Rows of equal probability share a bin. NaN without rows. Chance alone keeps it above 0, the more so the
    fewer rows a bin has: compare values of the same rows only.

    Args:
        labels_N: [N] 0 or 1.
        probabilities_N: [N] predicted probabilities of a 1.
        num_bins: at most so many bins; 10 works.

    Reference:
        Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI
        2015; bins of equally many rows as in Nguyen and O'Connor, EMNLP 2015, arXiv 1508.05154.
    """
    predicted, observed, sizes = reliability(labels_N, probabilities_N, num_bins=num_bins)
    return float(np.average(np.abs(predicted - observed), weights=sizes)) if len(sizes) else float("nan")


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
    bin_N = reliability_bins(probabilities_N, num_bins=num_bins)
    sizes = np.bincount(bin_N)
    predicted = np.bincount(bin_N, weights=probabilities_N) / sizes
    observed = np.bincount(bin_N, weights=labels_N > 0) / sizes
    return predicted, observed, sizes.astype(np.int64)


def reliability_bins(probabilities_N: NDArray[Any], *, num_bins: int) -> NDArray[np.int64]:
    """[N] which bin of `reliability` each row is in, from 0 and in order of probability."""
    ascending_N = np.sort(probabilities_N)
    first_N = np.searchsorted(ascending_N, probabilities_N, side="left")
    _, bin_N = np.unique(first_N * num_bins // max(len(ascending_N), 1), return_inverse=True)
    return np.asarray(bin_N, dtype=np.int64)


def _mean_ranks(users_N: NDArray[Any], scores_N: NDArray[Any]) -> NDArray[np.float64]:
    """Position from 1 of each sorted row, the mean position among rows of equal user and score."""
    differs = (np.diff(users_N) != 0) | (np.diff(scores_N) != 0)
    group_N = np.concatenate([np.zeros(min(1, len(users_N)), dtype=np.int64), np.cumsum(differs)])
    sizes = np.bincount(group_N)
    last = np.cumsum(sizes)
    return np.asarray((last - (sizes - 1) / 2)[group_N])
