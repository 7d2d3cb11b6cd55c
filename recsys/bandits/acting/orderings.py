"""Probabilities of orderings by a score plus noise that is independent from candidate to candidate.

Candidate i stands in position p where its noisy score is x and p - 1 of the others are above x:

    P(i in p) = integral of f_i(x) P(p - 1 of the others above x) dx

The number of others above x is a sum of independent coins (Poisson-binomial), built up coin by coin. The
integrand is smooth and falls off fast on both sides, where equal steps (the trapezoidal rule) converge
exponentially, so that a hundred nodes are exact to 1e-4 and better.

Legend: N candidates, K positions asked about, X nodes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, special

from recsys.bandits.estimates import Floats

# Of the logarithm of an arrival time, whose peak is 1 / sqrt(K) wide for the Kth arrival: errors of 1e-5.
_LOG_STEP, _LOG_STEP_OF_PEAK = 0.45, 1.1
# Less than 1e-6 of what is summed lies beyond.
_LOG_TAIL = 18.0
_LARGEST_LOG = 6.0
# In standard deviations; a list's density is narrower than that of its candidates.
_STEP, _TAIL = 0.35, 8.5


def count_probabilities(above_NX: Floats, size: int) -> Floats:
    """[size, X] probability that so many of N independent coins fall.

    Args:
        above_NX: [N, X] probability of each coin, at each node.
        size: counts 0 .. size - 1 are asked about.

    Example:
        >>> count_probabilities(np.array([[0.5], [0.5]]), 3).ravel().tolist()
        [0.25, 0.5, 0.25]
    """
    counts_SX = np.zeros((size, above_NX.shape[1]))
    counts_SX[0] = 1.0
    for above_X in above_NX:
        _add_coin(counts_SX, above_X)
    return counts_SX


def _add_coin(counts_SX: Floats, above_X: Floats) -> None:
    """Changes probabilities of counts to those with one more coin."""
    moved_SX = counts_SX * above_X
    counts_SX -= moved_SX
    counts_SX[1:] += moved_SX[:-1]


def plackett_luce_marginals(log_weights_N: Floats, chosen_K: NDArray[np.int64]) -> Floats:
    """[K] probability of each chosen candidate in its position, where positions are drawn in turn by weight.

    Drawing in turn is arriving in turn, after exponential times of rates w: with t the time of i's arrival,

        P(i in p) = integral over log t of w_i t e^(-w_i t) P(p - 1 of the others have arrived by t)

    Args:
        log_weights_N: [N] of all candidates.
        chosen_K: [K] candidates in positions 1 .. K.

    Reference:
        Yellott, "The relationship between Luce's choice axiom, Thurstone's theory of comparative judgment,
        and the double exponential distribution", 1977.
    """
    length = len(chosen_K)
    shifted_N = log_weights_N - _log_sum(log_weights_N)
    # The first arrival comes at about 1; by the last node the K heaviest are there for certain.
    lightest = float(np.sort(shifted_N)[-length])
    step = min(_LOG_STEP, _LOG_STEP_OF_PEAK / math.sqrt(length))
    log_times_X = np.arange(-_LOG_TAIL, -lightest + math.log(_LOG_TAIL) + step, step)
    rates_NX = np.exp(np.minimum(shifted_N[:, None] + log_times_X, _LARGEST_LOG))
    left_NX = np.exp(-rates_NX)
    return _marginals(rates_NX * left_NX * step, -np.expm1(-rates_NX), chosen_K)


def plackett_luce_given_above(log_weights_N: Floats, chosen_K: NDArray[np.int64]) -> Floats:
    """[K] probability of each chosen candidate among those that the positions above it have left.

    Example:
        >>> plackett_luce_given_above(np.log([1.0, 2.0, 1.0]), np.array([1, 0])).tolist()
        [0.5, 0.5]
    """
    left = np.ones(len(log_weights_N), dtype=np.bool_)
    left[chosen_K] = False
    chosen_log_K = log_weights_N[chosen_K]
    # Summed up from the last position to the first, so that nothing is lost to what is large.
    log_rest = _log_sum(log_weights_N[left]) if left.any() else -math.inf
    log_left_K = np.logaddexp.accumulate(np.concatenate([[log_rest], chosen_log_K[::-1]]))[:0:-1]
    given_above_K: Floats = np.exp(chosen_log_K - log_left_K)
    return given_above_K


def gaussian_probabilities(
    means_N: Floats, deviations_N: Floats, chosen_K: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Marginal and conditional probabilities [K] of chosen candidates, by independent normal scores.

    The probability of all of a list's first p candidates in their order has a density in the score x of the
    last of them, which follows from the density of one fewer:

        g_p(x) = f_p(x) * integral of g_(p-1) from x on
        P(first p) = integral of g_p(x) P(all that are not among them lie below x) dx

    Args:
        means_N: [N] of all candidates.
        deviations_N: [N] of all, above 0; time grows with the largest over the smallest.
        chosen_K: [K] candidates in positions 1 .. K.

    Returns:
        The probability of each candidate in its position, over all lists; and given those above it.

    Reference:
        The integrals from x on are sinc integrals, as exact as the trapezoidal rule: Stenger, "Handbook of
        sinc numerical methods", 2011, section 1.5.
    """
    step = _STEP * float(deviations_N.min())
    # K candidates at least are above the lowest node, so that no position is filled from below it.
    low = float(np.sort(means_N - _TAIL * deviations_N)[-len(chosen_K)])
    high = float((means_N + _TAIL * deviations_N).max())
    nodes_X = np.arange(low, high + step, step)
    standard_NX = (nodes_X - means_N[:, None]) / deviations_N[:, None]
    scale_N1 = step / (deviations_N[:, None] * math.sqrt(2 * math.pi))
    densities_NX = np.exp(-0.5 * standard_NX**2) * scale_N1
    marginals_K = _marginals(densities_NX, special.ndtr(-standard_NX), chosen_K)

    log_below_NX = special.log_ndtr(standard_NX)
    log_rest_X = log_below_NX.sum(axis=0)
    sinc_X = special.sici(math.pi * np.arange(len(nodes_X)))[0] / math.pi
    above_XX = linalg.toeplitz(0.5 - sinc_X, 0.5 + sinc_X)
    together = [1.0]
    density_X = np.ones(0)
    for position, candidate in enumerate(chosen_K):
        log_rest_X = log_rest_X - log_below_NX[candidate]
        density_X = densities_NX[candidate] * (above_XX @ density_X if position else 1.0)
        together.append(float(density_X @ np.exp(log_rest_X)))
    return marginals_K, np.array(together[1:]) / np.array(together[:-1])


def _log_sum(log_weights_N: Floats) -> float:
    """Logarithm of the sum of weights; ten times as quick as SciPy's, which takes any array."""
    largest = float(log_weights_N.max())
    return largest + math.log(float(np.exp(log_weights_N - largest).sum()))


def _marginals(densities_NX: Floats, above_NX: Floats, chosen_K: NDArray[np.int64]) -> Floats:
    """[K] sums over nodes that all share: density of a candidate times probability of so many above it."""
    length = len(chosen_K)
    others_N = np.ones(len(above_NX), dtype=np.bool_)
    others_N[chosen_K] = False
    before_SX = count_probabilities(above_NX[others_N], length)
    # The chosen ones are coins for each other, but not for themselves: those of lower positions come after.
    after_SX = count_probabilities(above_NX[:0], length)
    after_KSX = np.empty((length, *after_SX.shape))
    for position in reversed(range(length)):
        after_KSX[position] = after_SX
        _add_coin(after_SX, above_NX[chosen_K[position]])
    found_K = np.empty(length)
    for position, candidate in enumerate(chosen_K):
        # So many others are above in all: some of those before, the rest of those after.
        counts_X = (before_SX[: position + 1] * after_KSX[position, position::-1]).sum(axis=0)
        found_K[position] = densities_NX[candidate] @ counts_X
        _add_coin(before_SX, above_NX[candidate])
    return found_K
