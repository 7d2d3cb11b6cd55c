"""Tests whether two systems differ: a paired test over users, and the correction for making many of them.

Legend: U users, M comparisons, P permutations, R resamples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.schema.errors import InputError

PValues = NDArray[np.float64]

# Outcomes of a comparison; a metric without a direction is merely more or less.
BETTER, WORSE, UNDECIDED, MORE, LESS = "better", "worse", "undecided", "more", "less"

# Signs held at a time.
_BLOCK = 2**22
# Sums that differ by less than this share of all differences are equal but for rounding.
_ROUNDING = 1e-9


def sign_flip_test(differences_UM: NDArray[Any], *, num_permutations: int, seed: int) -> PValues:
    """Two-sided p values of the paired sign-flip permutation (randomisation) test over users.

    If two systems were equal, each user's answers might as well have come from the other one, all of them
    together: that turns the sign of her difference. Formula: p = (1 + #{|sum_u s_u d_u| >= |sum_u d_u|}) /
    (1 + P) over P random vectors of signs s; where there are no more than P vectors at all, each is taken
    once, and p is the share of them, exactly. Ties count against a difference. Users who differ in nothing
    change nothing; where all are such, or there are none, p is 1. Less is surer. A mean over queries is such
    a sum over users, divided by a number that no sign changes.

    Args:
        differences_UM: [U, M] each user's sum of differences over her queries, for every comparison.
        num_permutations: P; 10,000 tells p values from about 0.001 on apart. No p is below 1 / (1 + P).
        seed: of the signs, which all comparisons share.

    Returns:
        [M].

    Raises:
        ValueError: a difference is not a number.

    Example:
        >>> sign_flip_test(np.array([[1.0], [2.0], [3.0]]), num_permutations=100, seed=0)
        array([0.25])

    Reference:
        Fisher, "The design of experiments", 1935, section 21; for retrieval Smucker, Allan and Carterette, "A
        comparison of statistical significance tests for information retrieval evaluation", CIKM 2007; the
        added one of Phipson and Smyth, "Permutation p-values should never be zero", 2010.
    """
    if np.isnan(differences_UM).any():
        raise InputError("the paired test needs a number for each user and comparison, got NaN")
    differing = (differences_UM != 0).any(axis=1)
    kept_UM = differences_UM[differing].astype(np.float64)
    least_M = np.abs(kept_UM.sum(axis=0)) - _ROUNDING * np.abs(kept_UM).sum(axis=0)
    if 2 ** min(len(kept_UM), 62) <= num_permutations:
        return np.asarray(_extremes(_every_sign(len(kept_UM)), kept_UM, least_M) / 2 ** len(kept_UM))
    generator = np.random.default_rng(seed)
    extremes_M: PValues = np.zeros(kept_UM.shape[1])
    block = max(1, _BLOCK // len(kept_UM))
    for begin in range(0, num_permutations, block):
        size = (min(block, num_permutations - begin), len(kept_UM))
        signs_PU = 1.0 - 2.0 * generator.integers(2, size=size, dtype=np.int8)
        extremes_M = extremes_M + _extremes(signs_PU, kept_UM, least_M)
    return np.asarray((1 + extremes_M) / (1 + num_permutations))


def bootstrap_p_value(samples_R: NDArray[Any]) -> float:
    """Two-sided p value of a difference being nothing, from paired bootstrap resamples of the difference.

    Formula: twice the smaller of the shares of resamples at or below and at or above zero, one added to count
    and number, and at most 1; a percentile interval of confidence 1 - p just touches zero. Resamples that are
    NaN are left out; without any the p value is NaN. For figures that are no sum over users, as AUC is.

    Args:
        samples_R: [R] resamples of the difference.

    Reference:
        Efron and Tibshirani, "An introduction to the bootstrap", 1993, section 15.4.
    """
    usable = samples_R[~np.isnan(samples_R)]
    if not len(usable):
        return float("nan")
    rarer = min((usable <= 0).sum(), (usable >= 0).sum())
    return float(min(1.0, 2 * (1 + rarer) / (1 + len(usable))))


def holm(p_values_M: NDArray[Any]) -> PValues:
    """The p values corrected for having made M tests, by Holm's step-down procedure.

    Rejecting where the corrected value is at most alpha makes one false rejection or more, among all M, with
    a probability of at most alpha, however the tests depend on each other. Formula: the i-th smallest p times
    M - i + 1, at least the corrected one before it and at most 1. Equal p values stay equal. NaN stays NaN
    and is no test. Less is surer.

    Args:
        p_values_M: [M].

    Example:
        >>> holm(np.array([0.04, 0.01, 0.03]))
        array([0.06, 0.03, 0.06])

    Reference:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics
        1979.
    """
    order = np.argsort(p_values_M)  # NaN last
    num_tests = int((~np.isnan(p_values_M)).sum())
    steps = np.maximum(num_tests - np.arange(len(order)), 1)
    corrected_M = np.empty(len(order))
    corrected_M[order] = np.minimum(np.maximum.accumulate(p_values_M[order] * steps), 1.0)
    return corrected_M


def _every_sign(num_users: int) -> NDArray[np.float64]:
    """[2 ** U, U] every vector of signs once."""
    bits = (np.arange(2**num_users)[:, None] >> np.arange(num_users)) & 1
    return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)


def _extremes(
    signs_PU: NDArray[Any], differences_UM: NDArray[np.float64], least_M: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Counts the sums that lie as far from zero as `least_M`."""
    return np.asarray((np.abs(signs_PU @ differences_UM) >= least_M).sum(axis=0), dtype=np.float64)
