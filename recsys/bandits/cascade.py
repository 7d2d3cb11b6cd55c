"""Off-policy estimators for lists that are read from the top: what comes of an item depends on those above.

    w_k = product over positions 1 .. k of target probability / log probability, given the items above

Where a reward depends on its own position alone, the weights of `recsys.bandits.estimators` are smaller and
do; where it depends on all of the list, neither is right.

Empty logs cannot be made. More is better where more reward is.

Legend: N rows, U independent units, K positions.
"""

from __future__ import annotations

import numpy as np

from recsys.bandits.estimates import Estimate, Floats, ratio_estimate
from recsys.bandits.feedback import LoggedFeedback
from recsys.schema.errors import InputError


def cascade_weights(feedback: LoggedFeedback, given_above_N: Floats, target_given_above_N: Floats) -> Floats:
    """[N] product of the ratios of a row's position and of all above it in its request.

    Args:
        feedback: the log; each request has positions 1, 2, ... without gaps.
        given_above_N: [N] the log's probability of each row given the rows above it.
        target_given_above_N: [N] the target's.

    Raises:
        ValueError: a probability is out of its range, or a request lacks a position.
    """
    for name, values_N, low in (
        ("the log's probabilities given the items above", given_above_N, np.nextafter(0, 1)),
        ("the target's probabilities given the items above", target_given_above_N, 0.0),
    ):
        bad = np.flatnonzero(~((values_N >= low) & (values_N <= 1 + 1e-9)))
        if len(bad):
            raise InputError(
                f"{name} must lie in {'(0' if low else '[0'}, 1], found {values_N[bad[0]]:g} in row "
                f"{bad[0] + 1} of {feedback.source} ({len(bad)} of {len(values_N)} rows)"
            )
    order_N = np.lexsort((feedback.positions_N, feedback.requests_N))
    requests_N, positions_N = feedback.requests_N[order_N], feedback.positions_N[order_N]
    is_first_N = np.concatenate([[True], requests_N[1:] != requests_N[:-1]])
    starts_N = np.flatnonzero(is_first_N)[np.cumsum(is_first_N) - 1]
    gaps = np.flatnonzero(positions_N != np.arange(len(order_N)) - starts_N + 1)
    if len(gaps):
        raise InputError(
            f"{feedback.source}: expected positions 1, 2, ... of every request, as a list is read from its "
            f"top, found position {positions_N[gaps[0]]} without the one above it in row "
            f"{order_N[gaps[0]] + 1}"
        )
    ratios_N = (target_given_above_N / given_above_N)[order_N]
    weights_N = np.empty(len(order_N))
    running_N = ratios_N.copy()
    for position in range(2, int(positions_N.max()) + 1):
        at = np.flatnonzero(positions_N == position)
        running_N[at] *= running_N[at - 1]
    weights_N[order_N] = running_N
    return weights_N


def reward_interaction(feedback: LoggedFeedback, weights_N: Floats) -> Estimate:
    """Sum over positions of (sum of w_k r_k / sum of w_k): self-normalised position by position.

    Assumes that a reward depends on its item and on those above it.

    Args:
        feedback: the log.
        weights_N: `cascade_weights`.

    Reference:
        McInerney, Brost, Chandar, Mehrotra and Carterette, "Counterfactual evaluation of slate
        recommendations with sequential reward interactions", 2020, arXiv:2007.12986, equation 9.
    """
    value, influence_U = 0.0, np.zeros(feedback.num_clusters)
    for position in range(1, int(feedback.positions_N.max()) + 1):
        at_N = feedback.positions_N == position
        # Lists that end above this position earn nothing in it.
        share = float(at_N.sum()) / feedback.num_requests
        one = ratio_estimate(
            feedback.by_cluster(np.where(at_N, weights_N * feedback.rewards_N, 0.0)),
            feedback.by_cluster(np.where(at_N, weights_N, 0.0)),
            scale=share,
        )
        assert one.influence_U is not None
        value, influence_U = value + one.value, influence_U + one.influence_U
    return Estimate(value, influence_U)


def cascade_doubly_robust(feedback: LoggedFeedback, weights_N: Floats) -> Estimate:
    """Mean over requests of the sum over k of w_k (r_k - q_k) + w_(k-1) q_k: unbiased, with less variance.

    q_k is what is still to be earned from position k on, foretold by the position alone; w_0 is 1. Assumes
    that a reward depends on its item and on those above it.

    Args:
        feedback: the log.
        weights_N: `cascade_weights`.

    Reference:
        Kiyohara, Saito, Matsuhiro, Narita, Shimizu and Yamamoto, "Doubly robust off-policy evaluation for
        ranking policies under the cascade behavior model", 2022, arXiv:2202.01562, equation 10.
    """
    deepest = int(feedback.positions_N.max())
    sums_K = np.bincount(feedback.positions_N, weights=feedback.rewards_N, minlength=deepest + 1)[1:]
    counts_K = np.bincount(feedback.positions_N, minlength=deepest + 1)[1:]
    means_K = np.divide(sums_K, counts_K, out=np.zeros(deepest), where=counts_K > 0)
    left_K = np.cumsum(means_K[::-1])[::-1]
    # What is foretold must not go beyond the end of a request's own list.
    lengths_M = np.bincount(feedback.requests_N, minlength=feedback.num_requests)
    beyond_K = np.append(left_K, 0.0)
    foretold_N = left_K[feedback.positions_N - 1] - beyond_K[lengths_M[feedback.requests_N]]
    order_N = np.lexsort((feedback.positions_N, feedback.requests_N))
    above_N = np.ones(len(weights_N))
    later_N = feedback.positions_N[order_N] > 1
    above_N[order_N[later_N]] = weights_N[order_N[np.flatnonzero(later_N) - 1]]
    values_N = weights_N * (feedback.rewards_N - foretold_N) + above_N * foretold_N
    return ratio_estimate(feedback.by_cluster(values_N), feedback.requests_by_cluster)
