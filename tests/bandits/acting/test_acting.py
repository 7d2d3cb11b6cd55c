"""The contract of every policy: what it says of its choices is what it does."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from recsys.bandits.acting.choice import Candidates
from recsys.bandits.acting.epsilon import Epsilon, epsilon_marginals
from recsys.bandits.acting.greedy import Greedy
from recsys.bandits.acting.lin_ucb import LinUcb, linear_posterior
from recsys.bandits.acting.orderings import (
    gaussian_probabilities,
    plackett_luce_given_above,
    plackett_luce_marginals,
)
from recsys.bandits.acting.policies import POLICIES, make_policy
from recsys.bandits.acting.softmax import Softmax
from recsys.bandits.acting.thompson import Thompson

SCORES = np.array([0.3, -0.2, 1.1, 0.9, 0.3, -1.5])
CANDIDATES = Candidates(
    SCORES,
    means_N=SCORES[::-1] / 3,
    deviations_N=np.array([0.1, 0.2, 0.05, 0.4, 0.15, 0.3]),
    bonuses_N=np.array([0.0, 2.0, 0.0, 0.0, 0.0, 0.0]),
)
EXPLORING = [Epsilon(0.4), Epsilon(1.0), Softmax(0.5), Softmax(2.0, learning=True), Thompson(), Thompson(3.0)]
ALL = [*EXPLORING, Greedy(), Greedy(learning=True), LinUcb(), LinUcb(0.0)]


def label(policy):
    return f"{policy.name}-{policy.parameters}"


@pytest.mark.parametrize("policy", ALL, ids=label)
def test_a_list_has_each_candidate_once_and_probabilities(policy):
    for k in (1, 3, 6, 9):
        choice = policy.choose(CANDIDATES, k, np.random.default_rng(k))
        assert len(set(choice.positions_K.tolist())) == len(choice.positions_K) == min(k, 6)
        for probabilities in (choice.propensities_K, choice.given_above_K):
            assert len(probabilities) == min(k, 6)
            assert (probabilities > 0).all()
            assert (probabilities <= 1 + 1e-9).all()


@pytest.mark.parametrize("policy", ALL, ids=label)
def test_the_same_seed_chooses_the_same(policy):
    first, second = (policy.choose(CANDIDATES, 4, np.random.default_rng(7)) for _ in range(2))
    assert first.positions_K.tolist() == second.positions_K.tolist()


@pytest.mark.parametrize("policy", ALL, ids=label)
def test_logged_propensities_are_observed_frequencies(policy):
    """Every item in every position, and every pair of the first two: within four standard errors."""
    rng = np.random.default_rng(0)
    draws, k = 6000, 3
    shown, pairs = np.zeros((6, k)), {}
    marginals, given = {}, {}
    for _ in range(draws):
        choice = policy.choose(CANDIDATES, k, rng)
        items = choice.positions_K.tolist()
        for position, item in enumerate(items):
            shown[item, position] += 1
            marginals[item, position] = choice.propensities_K[position]
        pairs[tuple(items[:2])] = pairs.get(tuple(items[:2]), 0) + 1
        given[tuple(items[:2])] = choice.given_above_K[0] * choice.given_above_K[1]
    for (item, position), expected in marginals.items():
        error = 4 * math.sqrt(expected * (1 - expected) / draws) + 1e-9
        assert shown[item, position] / draws == pytest.approx(expected, abs=error + 1 / draws)
    for pair, expected in given.items():
        error = 4 * math.sqrt(max(expected * (1 - expected), 0) / draws) + 1e-9
        assert pairs[pair] / draws == pytest.approx(expected, abs=error + 1 / draws)
    # What is shown seldom has been shown too.
    if policy.judges_others:
        assert sum(marginals.values()) == pytest.approx(k, abs=0.05)


@pytest.mark.parametrize("policy", EXPLORING, ids=label)
def test_what_leaves_something_to_chance_judges_others(policy):
    assert policy.judges_others
    choice = policy.choose(CANDIDATES, 1, np.random.default_rng(0))
    # In the first position both probabilities are the same one.
    assert choice.propensities_K[0] == pytest.approx(choice.given_above_K[0], rel=1e-6)


def test_certain_policies_say_so_and_judge_nobody():
    for policy, expected in [
        (Greedy(), [2, 3, 0]),
        (Greedy(learning=True), [3, 2, 1]),
        (LinUcb(1.0), [1, 3, 2]),
        (LinUcb(0.0), [3, 2, 1]),
    ]:
        choice = policy.choose(CANDIDATES, 3, np.random.default_rng(0))
        assert choice.positions_K.tolist() == expected
        assert choice.propensities_K.tolist() == choice.given_above_K.tolist() == [1, 1, 1]
        assert not policy.judges_others


def enumerated_plackett_luce(weights, k):
    """Marginals [N, k] by all orderings."""
    marginals = np.zeros((len(weights), k))
    for order in itertools.permutations(range(len(weights)), k):
        probability, left = 1.0, weights.sum()
        for item in order:
            probability *= weights[item] / left
            left -= weights[item]
        for position, item in enumerate(order):
            marginals[item, position] += probability
    return marginals


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-9, 9), min_size=6, max_size=6), st.integers(1, 6))
def test_plackett_luce_marginals_are_those_of_all_orderings(log_weights, k):
    log_weights = np.array(log_weights)
    expected = enumerated_plackett_luce(np.exp(log_weights), k)
    for chosen in itertools.islice(itertools.permutations(range(6), k), 0, 720, 97):
        found = plackett_luce_marginals(log_weights, np.array(chosen))
        np.testing.assert_allclose(found, expected[list(chosen), range(k)], rtol=1e-4, atol=1e-12)


def test_plackett_luce_in_a_long_list_sums_to_one_a_position():
    rng = np.random.default_rng(1)
    log_weights, k = rng.normal(0, 3, 60), 30
    rotations = [(np.arange(60) + shift)[:k] % 60 for shift in range(60)]
    sums = sum(plackett_luce_marginals(log_weights, chosen) for chosen in rotations)
    np.testing.assert_allclose(sums, 1, rtol=1e-5)


def test_weights_of_any_scale_are_handled():
    found = plackett_luce_marginals(np.array([800.0, 0.0, -800.0]), np.array([0, 1, 2]))
    np.testing.assert_allclose(found, [1, 1, 1], rtol=1e-6)
    assert plackett_luce_given_above(np.array([800.0, 0.0, -800.0]), np.array([0, 1, 2])).tolist() == [
        1,
        1,
        1,
    ]


def test_epsilon_marginals_are_those_of_all_lists():
    size, k, epsilon = 5, 4, 0.3
    expected = np.zeros((size, k))
    for order in itertools.permutations(range(size), k):
        probability, left = 1.0, list(range(size))
        for item in order:
            probability *= epsilon / len(left) + (1 - epsilon) * (item == left[0])
            left.remove(item)
        for position, item in enumerate(order):
            expected[item, position] += probability
    for ranks in itertools.permutations(range(size), k):
        np.testing.assert_allclose(
            epsilon_marginals(np.array(ranks), size, epsilon=epsilon), expected[list(ranks)]
        )


def test_gaussian_marginals_of_the_first_position_are_those_of_an_adaptive_quadrature():
    means, deviations = np.array([0.2, 0.0, -0.4, 0.1]), np.array([0.05, 0.4, 0.2, 0.1])
    for item in range(4):
        others = [n for n in range(4) if n != item]

        def integrand(x, item=item, others=others):
            below = math.prod(stats.norm.cdf(x, means[n], deviations[n]) for n in others)
            return stats.norm.pdf(x, means[item], deviations[item]) * below

        expected = integrate.quad(integrand, -3, 3, epsabs=1e-12, limit=500, points=means.tolist())[0]
        marginals, given_above = gaussian_probabilities(means, deviations, np.array([item, others[0]]))
        assert marginals[0] == pytest.approx(expected, rel=1e-6)
        assert given_above[0] == pytest.approx(expected, rel=1e-6)


def test_gaussian_orderings_of_two_are_known_in_closed_form():
    means, deviations = np.array([0.3, 0.0]), np.array([0.2, 0.5])
    marginals, given_above = gaussian_probabilities(means, deviations, np.array([1, 0]))
    expected = stats.norm.cdf(-0.3 / math.hypot(0.2, 0.5))
    np.testing.assert_allclose(marginals, [expected, expected], rtol=1e-6)
    np.testing.assert_allclose(given_above, [expected, 1.0], rtol=1e-6)


def test_gaussian_orderings_sum_to_one():
    means, deviations = np.array([0.3, 0.0, 0.1, -0.5]), np.array([0.2, 0.5, 0.1, 0.4])
    orders = list(itertools.permutations(range(4)))
    found = [gaussian_probabilities(means, deviations, np.array(order)) for order in orders]
    assert sum(given_above.prod() for _, given_above in found) == pytest.approx(1, abs=1e-5)
    for item, position in itertools.product(range(4), range(4)):
        whole = sum(
            given.prod() for order, (_, given) in zip(orders, found, strict=True) if order[position] == item
        )
        marginal = next(m[position] for o, (m, _) in zip(orders, found, strict=True) if o[position] == item)
        assert marginal == pytest.approx(whole, rel=1e-4)


def test_the_linear_posterior_is_that_of_ridge_regression():
    rng = np.random.default_rng(2)
    shown, rewards = rng.normal(size=(30, 3)), rng.normal(size=30)
    asked = rng.normal(size=(5, 3))
    means, deviations = linear_posterior(asked, shown.T @ shown, rewards @ shown, ridge=0.5)
    precision = shown.T @ shown + 0.5 * np.eye(3)
    np.testing.assert_allclose(means, asked @ np.linalg.inv(precision) @ shown.T @ rewards)
    np.testing.assert_allclose(deviations**2, np.diag(asked @ np.linalg.inv(precision) @ asked.T))


def test_equal_scores_are_drawn_alike():
    even = Candidates(np.zeros(4), deviations_N=np.full(4, 0.1))
    for policy in (Softmax(), Thompson(), Epsilon(1.0)):
        choice = policy.choose(even, 2, np.random.default_rng(0))
        np.testing.assert_allclose(choice.propensities_K, 0.25, rtol=1e-6)


def test_policies_are_made_by_name():
    assert {name: make_policy(name, {}).name for name in POLICIES} == {name: name for name in POLICIES}
    with pytest.raises(ValueError, match=r"`policy` must be one of greedy, .*, got `best`"):
        make_policy("best", {})
    with pytest.raises(ValueError, match="`policy=epsilon` takes `epsilon`, got `temperature`"):
        make_policy("epsilon", {"temperature": 1})


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("epsilon", {"epsilon": 0.0}, r"`policy_parameters.epsilon` must lie in \(0, 1\], got 0.0"),
        ("softmax", {"temperature": 0}, "`policy_parameters.temperature` must be above 0, got 0"),
        ("thompson", {"scale": -1}, "`policy_parameters.scale` must be above 0, got -1"),
        ("lin_ucb", {"alpha": math.nan}, "`policy_parameters.alpha` must be 0 or above, got nan"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        make_policy(name, parameters)
