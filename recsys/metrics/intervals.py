"""Bootstrap intervals over users: how far a figure could be off because these users were met and not others.

A user is drawn with all of her queries or rows, which are not independent of one another. R resamples of U
users are held as a matrix of how often each user was drawn:

    counts_RU  [[ 1, 0, 2 ],     first resample: user 0 once, user 1 not, user 2 twice
                [ 1, 1, 1 ]]

Drawing the counts once and using them for every figure makes the resamples paired: the difference of two
figures' samples is a sample of their difference.

Legend: R resamples, U users, N queries or rows, M figures, G distinct scores.

Reference:
    Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapters 6, 13 and 16.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.metrics.quotients import quotient

Counts = NDArray[np.uint8]
Samples = NDArray[np.float64]

# Numbers held at a time while passing over the counts.
_BLOCK = 2**24
_MAX_SCORE_GROUPS = 4096
# A matrix product does about so much more a second densely than sparsely, on the numbers that are not zero.
_DENSE_SHARE = 0.05


def resample_counts(num_users: int, *, num_resamples: int, seed: int) -> Counts:
    """Counts how often each user is drawn in each resample of as many users, drawn with replacement.

    Takes R * U bytes.

    Args:
        num_users: U.
        num_resamples: R; 1000 for an interval of 95 %.
        seed: of the draws.

    Returns:
        `counts_RU`, each row of which sums to U.
    """
    generator = np.random.default_rng(seed)
    counts_RU = np.empty((num_resamples, num_users), dtype=np.uint8)
    for counts_U in counts_RU:
        # Far quicker than `Generator.multinomial`, which draws a binomial for every user.
        counts_U[:] = np.bincount(generator.integers(num_users, size=num_users), minlength=num_users)
    return counts_RU


def sum_samples(counts_RU: Counts, values_UM: NDArray[Any]) -> Samples:
    """Resamples of sums over users, a block at a time in float32: chance is coarser than that.

    Args:
        counts_RU: [R, U] from `resample_counts`.
        values_UM: [U, M] values of each user.

    Returns:
        [R, M] float64.
    """
    block = max(1, _BLOCK // max(counts_RU.shape[1], 1))
    values_UM = values_UM.astype(np.float32)
    sums_RM = np.empty((len(counts_RU), values_UM.shape[1]))
    for begin in range(0, len(counts_RU), block):
        sums_RM[begin : begin + block] = counts_RU[begin : begin + block].astype(np.float32) @ values_UM
    return sums_RM


def ratio_samples(counts_RU: Counts, numerator_UM: NDArray[Any], denominator_UM: NDArray[Any]) -> Samples:
    """Resamples of figures that are a sum over users divided by another.

    A mean over queries is one: each user's sum of values over each user's number of queries.

    Args:
        counts_RU: [R, U] from `resample_counts`.
        numerator_UM: [U, M] sums of each user.
        denominator_UM: [U, M], or [U, 1] where all figures share it.

    Returns:
        [R, M] float64; NaN where a resample holds nobody with a denominator.
    """
    numerator_RM = sum_samples(counts_RU, numerator_UM)
    denominator_RM = np.broadcast_to(sum_samples(counts_RU, denominator_UM), numerator_RM.shape)
    return quotient(numerator_RM, denominator_RM)


def auc_samples(
    counts_RU: Counts, labels_N: NDArray[Any], *, scores_N: NDArray[Any], users_N: NDArray[Any]
) -> tuple[Samples, Samples]:
    """Resamples of AUC and PR-AUC over all rows; see `recsys.metrics.classification`.

    Scores of more than 4096 different values are taken together by rank, so that a sample costs one
    addition a row; that moves a sample of the AUC by less than 0.0002, one of the PR-AUC by less than 0.002.

    Args:
        counts_RU: [R, U] from `resample_counts`.
        labels_N: [N] 0 or 1.
        scores_N: [N] scores.
        users_N: [N] in 0 .. U - 1, whose row it is.

    Returns:
        Samples of the AUC and of the PR-AUC, [R] float64 each; NaN where a resample lacks positives, and for
        the AUC negatives.
    """
    group_N = _score_groups(scores_N)
    shape = (int(group_N.max(initial=0)) + 1, counts_RU.shape[1])
    positives_GU, negatives_GU = (
        _tally(group_N[of_class_N], users_N[of_class_N], shape=shape)
        for of_class_N in (labels_N > 0, labels_N <= 0)
    )
    auc_R, pr_auc_R = np.full(len(counts_RU), np.nan), np.full(len(counts_RU), np.nan)
    block = max(1, _BLOCK // max(shape))
    for begin in range(0, len(counts_RU), block):
        part = slice(begin, begin + block)
        # Sums of whole numbers below 2^24 are exact in float32.
        weights_UR = np.ascontiguousarray(counts_RU[part].T, dtype=np.float32)
        positives_GR, negatives_GR = positives_GU @ weights_UR, negatives_GU @ weights_UR
        _areas(positives_GR, negatives_GR, auc=auc_R[part], pr_auc=pr_auc_R[part])
    return auc_R, pr_auc_R


def _areas(positives_GR: NDArray[Any], negatives_GR: NDArray[Any], *, auc: Samples, pr_auc: Samples) -> None:
    """Writes the areas under both curves into [R], from the rows of each score in ascending order."""
    num_positives_R, num_negatives_R = (
        rows_GR.sum(axis=0, dtype=np.float64) for rows_GR in (positives_GR, negatives_GR)
    )
    below_GR = np.cumsum(negatives_GR, axis=0)
    below_GR -= negatives_GR / 2
    won_R = np.einsum("gr,gr->r", positives_GR, below_GR, dtype=np.float64)
    np.divide(won_R, num_positives_R * num_negatives_R, out=auc, where=num_positives_R * num_negatives_R > 0)
    hits_GR = np.cumsum(positives_GR[::-1], axis=0)
    shown_GR = hits_GR + np.cumsum(negatives_GR[::-1], axis=0)
    np.maximum(shown_GR, 1, out=shown_GR)  # no row yet: no hit either
    hits_GR /= shown_GR
    gained_R = np.einsum("gr,gr->r", positives_GR[::-1], hits_GR, dtype=np.float64)
    np.divide(gained_R, num_positives_R, out=pr_auc, where=num_positives_R > 0)


def percentile_interval(samples_RM: Samples, *, confidence: float) -> tuple[Samples, Samples]:
    """The middle `confidence` of the samples.

    Args:
        samples_RM: [R] or [R, M]; samples that are NaN are left out.
        confidence: share of the samples between the bounds.

    Returns:
        Lower and upper bounds, each [M]; NaN where every sample is.
    """
    ordered_RM = np.sort(samples_RM, axis=0)  # NaN last
    last_M = (~np.isnan(ordered_RM)).sum(axis=0) - 1
    tail = (1 - confidence) / 2
    return _quantile(ordered_RM, last_M, tail), _quantile(ordered_RM, last_M, 1 - tail)


def sum_by_user(values_NM: NDArray[Any], users_N: NDArray[Any], *, num_users: int) -> NDArray[np.float64]:
    """Each user's sum over her queries.

    Args:
        values_NM: [N, M] values of the queries.
        users_N: [N] in 0 .. U - 1, whose query it is.
        num_users: U.

    Returns:
        [U, M].
    """
    columns = [np.bincount(users_N, weights=column_N, minlength=num_users) for column_N in values_NM.T]
    return np.stack(columns, axis=1) if columns else np.zeros((num_users, 0))


def _quantile(ordered_RM: Samples, last_M: NDArray[Any], share: float) -> Samples:
    """Linear interpolation between order statistics, over the first last + 1 of each column."""
    place_M = share * last_M
    below_M = np.floor(place_M).astype(np.int64)
    above_M = np.minimum(below_M + 1, np.maximum(last_M, 0))
    columns = np.arange(ordered_RM.shape[1]) if ordered_RM.ndim == 2 else ...
    low_M, high_M = ordered_RM[below_M, columns], ordered_RM[above_M, columns]
    return np.asarray(low_M + (place_M - below_M) * (high_M - low_M))


def _tally(rows: NDArray[Any], columns: NDArray[Any], *, shape: tuple[int, int]) -> Any:
    """Counts how often each pair of row and column occurs; dense where that multiplies faster than sparse."""
    tally = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)
    return tally.toarray() if tally.nnz > _DENSE_SHARE * shape[0] * shape[1] else tally


def _score_groups(scores_N: NDArray[Any]) -> NDArray[np.int64]:
    """Rank of each score among the different ones, neighbours taken together when there are too many."""
    _, group_N, sizes_G = np.unique(scores_N, return_inverse=True, return_counts=True)
    if len(sizes_G) > _MAX_SCORE_GROUPS:
        first_G = np.cumsum(sizes_G) - sizes_G
        group_N = (first_G * _MAX_SCORE_GROUPS // len(scores_N))[group_N]
    return np.asarray(group_N, dtype=np.int64)
