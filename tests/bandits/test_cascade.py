import itertools

import numpy as np
import pytest

from recsys.bandits.cascade import cascade_doubly_robust, cascade_weights, reward_interaction
from recsys.bandits.estimators import inverse_propensity
from recsys.bandits.feedback import LoggedFeedback


def log_of(rows, **changes):
    """A log of (request, position, item, propensity, reward)."""
    requests, positions, items, propensities, rewards = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    values = {
        "rewards_N": rewards.astype(float),
        "propensities_N": propensities.astype(float),
        "items_N": items,
        "positions_N": positions,
        "requests_N": requests,
        "clusters_N": requests,
    }
    return LoggedFeedback(**{**values, **changes})


def test_weights_are_products_from_the_top():
    feedback = log_of(
        [(0, 2, 1, 0.5, 0), (0, 1, 0, 0.5, 1), (1, 1, 0, 0.5, 0), (1, 2, 2, 0.5, 1), (1, 3, 1, 0.5, 0)]
    )
    log, target = np.array([0.5, 0.25, 0.5, 0.5, 1.0]), np.array([0.25, 0.5, 1.0, 0.25, 1.0])
    # Request 0: .5/.25 = 2, then 2 * .25/.5 = 1. Request 1: 2, 2 * .5 = 1, 1.
    assert cascade_weights(feedback, log, target).tolist() == [1.0, 2.0, 2.0, 1.0, 1.0]


def test_a_request_without_its_top_is_refused():
    feedback = log_of([(0, 1, 0, 0.5, 0), (0, 3, 1, 0.5, 0)])
    with pytest.raises(ValueError, match="found position 3 without the one above it in row 2"):
        cascade_weights(feedback, np.ones(2), np.ones(2))
    with pytest.raises(
        ValueError, match=r"the log's probabilities .* must lie in \(0, 1\], found 0 in row 2"
    ):
        cascade_weights(feedback, np.array([1.0, 0.0]), np.ones(2))
    with pytest.raises(
        ValueError, match=r"the target's probabilities .* must lie in \[0, 1\], found 2 in row 1"
    ):
        cascade_weights(feedback, np.ones(2), np.array([2.0, 0.0]))


ATTRACTION = np.array([0.7, 0.4, 0.2, 0.1])
LOG, TARGET = np.array([1.0, 1.0, 2.0, 2.0]), np.array([4.0, 1.0, 1.0, 0.5])


def chances(weights, order):
    left, given = weights.sum(), []
    for item in order:
        given.append(weights[item] / left)
        left -= weights[item]
    return np.array(given)


def true_value(weights, k=3):
    """Expected reward where people go on only past what they liked, by all lists."""
    value = 0.0
    for order in itertools.permutations(range(4), k):
        looking, earned = 1.0, 0.0
        for item in order:
            earned += looking * ATTRACTION[item]
            looking *= ATTRACTION[item]
        value += chances(weights, order).prod() * earned
    return value


def drawn(rng, num_requests, k=3):
    rows, given, target = [], [], []
    for request in range(num_requests):
        order = np.argsort(-(np.log(LOG) + rng.gumbel(size=4)))[:k]
        given.extend(chances(LOG, order))
        target.extend(chances(TARGET, order))
        looking = True
        for position, item in enumerate(order, start=1):
            looking = looking and rng.random() < ATTRACTION[item]
            rows.append((request, position, item, 0.25, float(looking)))
    return log_of(rows), np.array(given), np.array(target)


def test_both_estimate_the_target_where_lists_are_read_from_the_top():
    truth = true_value(TARGET)
    covered = {"interaction": 0, "robust": 0}
    errors = {"plain": [], "robust": []}
    for seed in range(60):
        feedback, given, target = drawn(np.random.default_rng(seed), 300)
        weights = cascade_weights(feedback, given, target)
        interaction, robust = reward_interaction(feedback, weights), cascade_doubly_robust(feedback, weights)
        for name, estimate in (("interaction", interaction), ("robust", robust)):
            low, high = estimate.interval(0.95)
            covered[name] += low <= truth <= high
        errors["plain"].append(inverse_propensity(feedback, weights).value - truth)
        errors["robust"].append(robust.value - truth)
    assert min(covered.values()) >= 52
    assert abs(np.mean(errors["robust"])) < 0.03
    assert np.std(errors["robust"]) < np.std(errors["plain"])


def test_the_log_s_own_policy_is_estimated_by_its_mean():
    feedback, given, _ = drawn(np.random.default_rng(1), 50)
    weights = cascade_weights(feedback, given, given)
    mean = feedback.rewards_N.sum() / 50
    assert reward_interaction(feedback, weights).value == pytest.approx(mean)
    assert cascade_doubly_robust(feedback, weights).value == pytest.approx(mean)


def test_lists_of_different_lengths_are_weighed_by_request():
    feedback = log_of([(0, 1, 0, 0.5, 1), (1, 1, 0, 0.5, 0), (1, 2, 1, 0.5, 1)])
    assert reward_interaction(feedback, np.ones(3)).value == pytest.approx(1.0)
    assert cascade_doubly_robust(feedback, np.ones(3)).value == pytest.approx(1.0)
