"""Off-policy estimators: what another policy would have earned a request, from a log of this one.

All are pure functions over a log and arrays beside its rows. Values are rewards a request: the sum over the
positions of its list. A row counts for its item in its position ("item-position" assumption: what comes of an
item depends on request, item and position, not on its neighbours); with the arrays of `examined_items`, for
its item wherever it is examined ("position-based" model).

    w = target probability / propensity          the importance weight of a row
    q = predicted reward                         of a row, or expected over what the target would show

Empty logs cannot be made. Ties do not arise. More is better where more reward is.

Legend: N rows, U independent units.
"""

from __future__ import annotations

import numpy as np

from recsys.bandits.estimates import Estimate, Floats, ratio_estimate
from recsys.bandits.feedback import LoggedFeedback
from recsys.schema.errors import InputError

# Propensities that differ by less are the same number, written with six digits.
_SAME = 1e-4
# Confidence at which a log is refused for its lack of overlap.
_SURE = 0.999


def importance_weights(feedback: LoggedFeedback, probabilities_N: Floats) -> Floats:
    """[N] the target's probability over the log's, of each row.

    Args:
        feedback: the log.
        probabilities_N: [N] with which the target would have done what each row says.

    Raises:
        ValueError: a probability is missing or outside [0, 1].
    """
    bad = np.flatnonzero(~((probabilities_N >= 0) & (probabilities_N <= 1 + 1e-9)))
    if len(bad):
        raise InputError(
            f"the target's probabilities must lie in [0, 1], found {probabilities_N[bad[0]]:g} for row "
            f"{bad[0] + 1} of {feedback.source} ({len(bad)} of {len(probabilities_N)} rows); give one for "
            "every row, 0 for what the target would not show"
        )
    return probabilities_N / feedback.propensities_N


def effective_sample_size(weights_N: Floats) -> float:
    """Counts the equally weighted rows that tell as much: (sum of w)^2 / sum of w^2; 0 where all are zero.

    Reference:
        Kish, "Survey sampling", 1965, section 11.7.

    Example:
        >>> effective_sample_size(np.array([1.0, 1.0, 0.0, 0.0]))
        2.0
    """
    squares = float((weights_N**2).sum())
    return float(weights_N.sum()) ** 2 / squares if squares else 0.0


def matched_mass(feedback: LoggedFeedback, weights_N: Floats) -> Estimate:
    """The mean weight: the share of the target's probability on what the log could have shown. 1 is right.

    The expectation of w over the log is the sum of the target's probabilities of all that the log gives a
    probability. Below 1, the target shows what the log does not; above 1, one of the two probabilities is not
    that of its policy.
    """
    looks_N = feedback.looks
    return ratio_estimate(feedback.by_cluster(weights_N * looks_N), feedback.by_cluster(looks_N))


def check_overlap(feedback: LoggedFeedback, weights_N: Floats, *, max_unsupported: float) -> Estimate:
    """The matched mass, when it may be that all but `max_unsupported` of the target is in the log.

    Chance alone makes it refuse once in a thousand logs.

    Raises:
        ValueError: the target puts more than that on what the log never or hardly ever shows.
    """
    mass = matched_mass(feedback, weights_N)
    low, high = mass.interval(_SURE) or (mass.value, mass.value)
    if not mass.value > 0 or high < 1 - max_unsupported:
        raise InputError(
            f"the target policy and {feedback.source} do not overlap: what the log could have shown carries "
            f"{mass.value:.1%} of the target's probability ({_SURE:.1%} interval {low:.1%} to {high:.1%}), "
            f"expected at least {1 - max_unsupported:.1%}; log a policy that gives some probability to all "
            "that the target would show, or judge a target nearer to the log's policy"
        )
    return mass


def on_policy(feedback: LoggedFeedback) -> Estimate:
    """Estimates what the log's own policy earned a request: sum of rewards / number of requests."""
    return ratio_estimate(feedback.by_cluster(feedback.rewards_N), feedback.requests_by_cluster)


def is_uniform(feedback: LoggedFeedback) -> bool:
    """True when the log's policy chose with one probability throughout, as replay needs."""
    lowest, highest = feedback.propensities_N.min(), feedback.propensities_N.max()
    return bool(highest - lowest <= _SAME * highest)


def replay(feedback: LoggedFeedback, probabilities_N: Floats) -> Estimate:
    """Mean reward where the target agrees with a log that chose uniformly.

    Formula: sum of p r / sum of p, times rows a request, p being the target's probability of the row: 1 or 0
    for a target that does not draw, else the expectation over its draws.

    Raises:
        ValueError: the log did not choose uniformly, or the target never agrees with it.

    Reference:
        Li, Chu, Langford and Wang, "Unbiased offline evaluation of contextual-bandit-based news article
        recommendation algorithms", 2011, arXiv:1003.5956, algorithm 2.
    """
    if not is_uniform(feedback):
        lowest, highest = feedback.propensities_N.min(), feedback.propensities_N.max()
        raise InputError(
            f"replay needs a log that chose uniformly, found propensities from {lowest:g} to {highest:g} in "
            f"{feedback.source}; use another estimator"
        )
    return _self_normalised(feedback, probabilities_N)


def inverse_propensity(feedback: LoggedFeedback, weights_N: Floats) -> Estimate:
    """Sum of w r / number of requests: unbiased where the log could have shown all that the target shows.

    Its variance grows with the largest weights.

    Reference:
        Horvitz and Thompson, "A generalization of sampling without replacement from a finite universe", 1952.
    """
    return ratio_estimate(feedback.by_cluster(weights_N * feedback.rewards_N), feedback.requests_by_cluster)


def self_normalised(feedback: LoggedFeedback, weights_N: Floats) -> Estimate:
    """Sum of w r / sum of w, times rows a request: a little biased, far steadier, never beyond the rewards.

    Raises:
        ValueError: all weights are zero.

    Reference:
        Swaminathan and Joachims, "The self-normalized estimator for counterfactual learning", 2015,
        equation 8.
    """
    return _self_normalised(feedback, weights_N)


def default_ceiling(weights_N: Floats) -> float:
    """The square root of the number of rows, at which bias and variance of a clipped mean balance.

    Reference:
        Ionides, "Truncated importance sampling", 2008, section 2.
    """
    return float(np.sqrt(len(weights_N)))


def clipped(feedback: LoggedFeedback, weights_N: Floats, *, ceiling: float) -> Estimate:
    """Sum of min(w, ceiling) r / number of requests: too low by what is cut off, for rewards from 0.

    Reference:
        Bottou et al., "Counterfactual reasoning and learning systems", 2013, arXiv:1209.2355, section 4.4.
    """
    return inverse_propensity(feedback, np.minimum(weights_N, ceiling))


def direct_method(feedback: LoggedFeedback, expected_N: Floats, *, moved_U: Floats | None = None) -> Estimate:
    """Sum of what a model expects of the target / number of requests.

    Steady, and as good as the model. With `moved_U` the interval covers chance in who asked and in what the
    model learnt from them: it holds what the model would say, had it seen endless logs like this one. Where
    the model is wrong (an item is worth more to some, and the log knew to whom), that is not the truth, and
    no interval says so: compare with the other estimators.

    Args:
        feedback: the log.
        expected_N: [N] predicted reward in each row's place, expected over what the target shows there.
        moved_U: [U] how far each unit moves the sum of `expected_N` by way of the model, see
            `RewardModel.moved_by_unit`; without it there is no interval.

    Reference:
        Dudik, Langford and Li, "Doubly robust policy evaluation and learning", 2011, arXiv:1103.4601,
        section 2.
    """
    made = ratio_estimate(feedback.by_cluster(expected_N), feedback.requests_by_cluster)
    if moved_U is None or made.influence_U is None:
        return Estimate(made.value, None)
    return Estimate(made.value, made.influence_U + moved_U / feedback.num_requests)


def doubly_robust(
    feedback: LoggedFeedback,
    weights_N: Floats,
    *,
    expected_N: Floats,
    predicted_N: Floats,
    ceiling: float = np.inf,
) -> Estimate:
    """The direct method and its mean weighted error: sum of (expected q + w (r - q)) / number of requests.

    Unbiased where the propensities are right, whatever the model; the better the model, the less variance.
    So too in the position-based model, in which nobody saw who looked: q and what corrects it are of the
    expected looks, and the examination of positions has to be right for either.
    With a finite `ceiling` rows of a greater weight are left to the model (Switch-DR).

    Args:
        feedback: the log.
        weights_N: [N] importance weights.
        expected_N: [N] predicted reward in each row's place, expected over what the target shows there; by a
            model that has not seen the row, else the interval is too narrow.
        predicted_N: [N] predicted reward of what each row shows.
        ceiling: weight from which on the model is trusted more than the log.

    Reference:
        Dudik, Langford and Li, "Doubly robust policy evaluation and learning", 2011, arXiv:1103.4601; Wang,
        Agarwal and Dudik, "Optimal and adaptive off-policy evaluation in contextual bandits", 2017,
        arXiv:1612.01205, equation 7; for expected looks, Oosterhuis, "Doubly-robust estimation for correcting
        position-bias in click feedback for unbiased learning to rank", 2023, arXiv:2203.17118.
    """
    corrections_N = np.where(weights_N <= ceiling, weights_N * (feedback.rewards_N - predicted_N), 0.0)
    return ratio_estimate(feedback.by_cluster(expected_N + corrections_N), feedback.requests_by_cluster)


def _self_normalised(feedback: LoggedFeedback, weights_N: Floats) -> Estimate:
    looks_N = feedback.looks
    if not weights_N.any():
        raise InputError(
            f"the target policy shows nothing that {feedback.source} has shown: every weight is zero; "
            "check that both name items and requests alike"
        )
    return ratio_estimate(
        feedback.by_cluster(weights_N * feedback.rewards_N),
        feedback.by_cluster(weights_N * looks_N),
        scale=float(looks_N.sum()) / feedback.num_requests,
    )
