"""Examination by position: how likely a position is looked at, beside the first, estimated from logs.

In the position-based model a click is an examination, which depends on the position alone, and an attraction,
which does not: P(click) = e(position) * attraction. Clicks give e up to a factor; e(1) is set to 1.

Legend: P positions, G groups (an item in a context), U independent units.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse, special

from recsys.bandits.estimates import Estimate, Floats, lift, ratio_estimate
from recsys.bandits.feedback import Codes, LoggedFeedback
from recsys.schema.errors import InputError

_ITERATIONS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class _Examination:
    """The curve.

    Args:
        values_P: [P] examination of each position over that of the first.
        low_P, high_P: [P] bounds of an interval.
        rows_P: [P] rows that told about each position.
    """

    values_P: Floats
    low_P: Floats
    high_P: Floats
    rows_P: Codes


def randomised_examination(feedback: LoggedFeedback, *, confidence: float = 0.95) -> _Examination:
    """The curve from a log in which chance put the items into their positions.

    Formula: mean reward of position p over that of position 1, rows weighted by 1 / propensity: uniform
    propensities need no weights, known others are undone. Intervals are over users or requests.

    Args:
        feedback: every item could have been in every position; its propensities say how likely.
        confidence: of the intervals.

    Raises:
        ValueError: the first position earned nothing, or a position has no row.

    Reference:
        Joachims, Swaminathan and Schnabel, "Unbiased learning-to-rank with biased feedback", 2017,
        arXiv:1608.04468, section 5 (swap interventions are the case of two positions).
    """
    rows_P = np.bincount(feedback.positions_N - 1)
    _refuse_if_any(rows_P == 0, feedback, "no row")
    first = _mean_reward(feedback, 1)
    if not first.value > 0:
        raise InputError(
            f"expected rewards in position 1 of {feedback.source}, found a mean of {first.value:g}; the "
            "curve is relative to it, log longer"
        )
    values, bounds = [1.0], [(1.0, 1.0)]
    for position in range(2, len(rows_P) + 1):
        beyond = lift(_mean_reward(feedback, position), first)
        assert beyond is not None
        values.append(1 + beyond.value)
        low, high = beyond.interval(confidence) or (np.nan, np.nan)
        bounds.append((1 + low, 1 + high))
    low_P, high_P = np.array(bounds).T
    return _Examination(np.array(values), low_P, high_P, rows_P)


def harvested_examination(
    feedback: LoggedFeedback, contexts_N: Codes, *, confidence: float = 0.95
) -> _Examination:
    """The curve from interventions that nobody planned: one item, in one context, in several positions.

    Rankers change, tests run, lists are refreshed; what is the same item for the same user or query at
    another position then tells the positions apart, whatever the items are worth. Each group's clicks are
    shared out over its positions in proportion to e(position) * shows; the curve is the one of greatest
    conditional likelihood, which needs no attraction to be known and stays right for any mean-correct clicks:

        log L = sum over groups g, positions p of clicks_gp * log(shows_gp e_p / sum over q of shows_gq e_q)

    Groups in one position, and those without a click, say nothing. It rests on this: why an item moved must
    not have to do with how it would be clicked in that context. Intervals are those of the likelihood.

    Args:
        feedback: rewards must not be negative.
        contexts_N: [N] who or what asked; rows of one item and one context form a group.
        confidence: of the intervals.

    Raises:
        ValueError: a reward is negative; no group tells about a position; positions fall apart into sets
            that no item has been in both of, or a position was never clicked.

    Reference:
        Agarwal, Zaitsev, Wang, Li, Najork and Joachims, "Estimating position bias without intrusive
        interventions", 2019, arXiv:1806.03555, for the harvest (section 4); Wooldridge, "Distribution-free
        estimation of some nonlinear panel data models", 1999, for this likelihood in place of their weighted
        one.
    """
    if feedback.rewards_N.min() < 0:
        raise InputError(
            f"expected clicks (0 or more) as rewards in {feedback.source}, found "
            f"{feedback.rewards_N.min():g}; position bias needs what is clicked"
        )
    shows_GP, clicks_GP = _groups(feedback, contexts_N)
    rows_P = np.asarray(shows_GP.sum(axis=0)).ravel().astype(np.int64)
    _refuse_if_any(
        np.asarray(clicks_GP.sum(axis=0)).ravel() == 0, feedback, "no click on an item that has moved"
    )
    _check_connected(shows_GP, feedback)
    log_P, information_PP = _most_likely(shows_GP, clicks_GP)
    errors_P = np.concatenate([[0.0], np.sqrt(np.diag(np.linalg.inv(information_PP[1:, 1:])))])
    half_P = float(special.ndtri((1 + confidence) / 2)) * errors_P
    return _Examination(np.exp(log_P), np.exp(log_P - half_P), np.exp(log_P + half_P), rows_P)


def _mean_reward(feedback: LoggedFeedback, position: int) -> Estimate:
    weights_N = (feedback.positions_N == position) / feedback.propensities_N
    return ratio_estimate(feedback.by_cluster(weights_N * feedback.rewards_N), feedback.by_cluster(weights_N))


def _groups(feedback: LoggedFeedback, contexts_N: Codes) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Shows and clicks of each group in each position, of the groups that tell something."""
    num_items = int(feedback.items_N.max()) + 1
    _, group_N = np.unique(contexts_N * num_items + feedback.items_N, return_inverse=True)
    shape = (int(group_N.max()) + 1, int(feedback.positions_N.max()))
    places = (group_N, feedback.positions_N - 1)
    shows_GP = sparse.csr_array(sparse.coo_array((np.ones(len(group_N)), places), shape=shape))
    clicks_GP = sparse.csr_array(sparse.coo_array((feedback.rewards_N, places), shape=shape))
    moved_G = np.diff(shows_GP.indptr) > 1
    clicked_G = np.asarray(clicks_GP.sum(axis=1)).ravel() > 0
    kept = np.flatnonzero(moved_G & clicked_G)
    return shows_GP[kept], clicks_GP[kept]


def _check_connected(shows_GP: sparse.csr_array, feedback: LoggedFeedback) -> None:
    count, label_P = sparse.csgraph.connected_components(shows_GP.T @ shows_GP, directed=False)
    if count > 1:
        apart = [int(place) + 1 for place in np.flatnonzero(label_P != label_P[0])]
        raise InputError(
            f"expected items that moved between all positions in {feedback.source}, found none between "
            f"positions {apart} and the others; log longer, or leave those positions out"
        )


def _refuse_if_any(bad_P: np.ndarray, feedback: LoggedFeedback, what: str) -> None:
    if bad_P.any():
        positions = [int(place) + 1 for place in np.flatnonzero(bad_P)]
        raise InputError(
            f"expected something to learn from in every position of {feedback.source}, found {what} in "
            f"{positions}; log longer, leave those positions out, or name a coarser context"
        )


def _most_likely(shows_GP: sparse.csr_array, clicks_GP: sparse.csr_array) -> tuple[Floats, Floats]:
    """Newton's method on the conditional likelihood, the first position held; and its information."""
    clicks_P = np.asarray(clicks_GP.sum(axis=0)).ravel()
    clicks_G = np.asarray(clicks_GP.sum(axis=1)).ravel()
    log_P = np.zeros(len(clicks_P))
    for _ in range(_ITERATIONS):
        expected_GP = shows_GP @ sparse.diags_array(np.exp(log_P))
        totals_G = np.asarray(expected_GP.sum(axis=1)).ravel()
        shares_GP = sparse.diags_array(1 / totals_G) @ expected_GP
        shared_GP = sparse.diags_array(clicks_G) @ shares_GP
        means_P = np.asarray(shared_GP.sum(axis=0)).ravel()
        information_PP = np.diag(means_P) - (shares_GP.T @ shared_GP).toarray()
        step_P = np.linalg.solve(information_PP[1:, 1:], (clicks_P - means_P)[1:])
        log_P[1:] += np.clip(step_P, -1, 1)
        if np.abs(step_P).max(initial=0) < 1e-10:
            break
    return log_P, information_PP
