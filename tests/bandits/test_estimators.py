import dataclasses

import numpy as np
import pytest

from recsys.bandits.estimates import ratio_estimate
from recsys.bandits.estimators import (
    check_overlap,
    clipped,
    default_ceiling,
    direct_method,
    doubly_robust,
    effective_sample_size,
    importance_weights,
    inverse_propensity,
    matched_mass,
    on_policy,
    replay,
    self_normalised,
)
from recsys.bandits.policies import examined_items, probabilities_of
from recsys.bandits.reward_models import fit_reward_model
from tests.bandits.worlds import BanditWorld, ListWorld, log_of


@pytest.fixture
def log():
    """Weights with the probabilities below: 2, 0, 0.5, 1."""
    return log_of([1, 1, 0, 2], [0.5, 0.5, 1.0, 0.25], [0, 1, 0, 2])


PROBABILITIES = np.array([1.0, 0.0, 0.5, 0.25])


def test_weights_are_target_over_log(log):
    assert importance_weights(log, PROBABILITIES).tolist() == [2, 0, 0.5, 1]


def test_each_estimator_is_its_formula(log):
    weights = importance_weights(log, PROBABILITIES)
    assert on_policy(log).value == (1 + 1 + 0 + 2) / 4
    assert inverse_propensity(log, weights).value == (2 * 1 + 0 + 0 + 1 * 2) / 4
    assert self_normalised(log, weights).value == pytest.approx((2 * 1 + 1 * 2) / (2 + 0.5 + 1))
    assert clipped(log, weights, ceiling=1.5).value == (1.5 * 1 + 1 * 2) / 4
    assert effective_sample_size(weights) == pytest.approx(3.5**2 / (4 + 0.25 + 1))
    assert default_ceiling(weights) == 2


def test_doubly_robust_adds_the_weighted_error_of_the_model(log):
    weights = importance_weights(log, PROBABILITIES)
    expected, predicted = np.array([0.5, 0.5, 1.0, 1.0]), np.array([0.5, 0.2, 0.1, 1.5])
    model = {"expected_N": expected, "predicted_N": predicted}
    assert direct_method(log, expected).value == 3 / 4
    assert direct_method(log, expected).interval(0.95) is None
    correction = 2 * (1 - 0.5) + 0 + 0.5 * (0 - 0.1) + 1 * (2 - 1.5)
    assert doubly_robust(log, weights, **model).value == pytest.approx((3 + correction) / 4)
    switched = 0.5 * (0 - 0.1) + 1 * (2 - 1.5)  # the weight of 2 is left to the model
    assert doubly_robust(log, weights, **model, ceiling=1.5).value == pytest.approx((3 + switched) / 4)


def test_value_of_a_list_is_the_sum_over_its_positions():
    log = log_of([1, 0, 1, 1], [0.5] * 4, [0, 1, 1, 0], positions=[1, 2, 1, 2], requests=[0, 0, 1, 1])
    weights = np.array([2.0, 1.0, 0.0, 1.0])
    assert on_policy(log).value == 3 / 2
    assert inverse_propensity(log, weights).value == (2 + 1) / 2
    assert self_normalised(log, weights).value == pytest.approx((2 + 1) / (2 + 1 + 1) * 2)


def test_replay_is_the_mean_where_a_fixed_target_agrees_with_a_uniform_log():
    log = log_of([1, 0, 1, 1, 0], [1 / 3] * 5, [0, 1, 2, 0, 0])
    target_shows = np.array([0, 0, 0, 0, 0])
    assert replay(log, (log.items_N == target_shows) * 1.0).value == pytest.approx((1 + 1 + 0) / 3)


def test_replay_refuses_a_log_that_is_not_uniform(log):
    with pytest.raises(ValueError, match=r"propensities from 0.25 to 1 .* use another estimator"):
        replay(log, PROBABILITIES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"propensities": [0.5, np.nan]},
            r"`propensity` of the log: expected .* \(0, 1\], found none in row 2",
        ),
        ({"propensities": [0.0, 0.5]}, r"`propensity` .* found 0 in row 1 .*cannot be made up later"),
        ({"propensities": [0.5, 1.5]}, r"found 1.5 in row 2 \(and so in 1 of 2 rows\)"),
        ({"rewards": [np.nan, 1]}, r"`reward` of the log: expected a number, found none in row 1"),
        ({"positions": [1, 0]}, r"`position` .* found 0 in row 2 .* count them from 1"),
        ({"rewards": [], "propensities": [], "items": []}, "expected logged rows in the log, found none"),
    ],
)
def test_feedback_that_cannot_be_used_is_refused_by_row(change, message):
    with pytest.raises(ValueError, match=message):
        log_of(**({"rewards": [0, 1], "propensities": [0.5, 0.5], "items": [0, 1]} | change))


def test_probabilities_outside_their_range_are_refused(log):
    with pytest.raises(ValueError, match=r"found 1.5 for row 2 of the log"):
        importance_weights(log, np.array([0, 1.5, 0, 0]))


def test_a_target_that_the_log_does_not_show_is_refused():
    world = BanditWorld()
    world.logging[:, 0] = 1e-12  # item 0 carries a sixth of the target and is never logged
    world.logging /= world.logging.sum(axis=1, keepdims=True)
    log, policy = world.draw(2000, seed=0)
    weights = importance_weights(log, probabilities_of(policy, log))
    with pytest.raises(ValueError, match=r"do not overlap.*expected at least 99.0%.*give"):
        check_overlap(log, weights, max_unsupported=0.01)


def test_a_target_without_any_agreement_is_refused(log):
    with pytest.raises(ValueError, match=r"carries 0.0% of the target's probability"):
        check_overlap(log, np.zeros(4), max_unsupported=0.5)
    with pytest.raises(ValueError, match=r"every weight is zero"):
        self_normalised(log, np.zeros(4))


def test_mean_weight_is_one_where_the_policies_overlap():
    log, policy = BanditWorld().draw(50_000, seed=1)
    weights = importance_weights(log, probabilities_of(policy, log))
    low, high = matched_mass(log, weights).interval(0.999)
    assert low < 1 < high
    assert check_overlap(log, weights, max_unsupported=0.01).value == pytest.approx(1, abs=0.05)


def estimates_of(log, policy, *, probabilities=None):
    weights = importance_weights(
        log, probabilities_of(policy, log) if probabilities is None else probabilities
    )
    model = fit_reward_model(log, num_folds=2)
    beside = {"expected_N": model.expected(policy), "predicted_N": model.predicted()}
    moved = model.moved_by_unit(policy)
    return {
        "ips": inverse_propensity(log, weights),
        "self_normalised": self_normalised(log, weights),
        "direct_method": direct_method(log, beside["expected_N"], moved_U=moved),
        "doubly_robust": doubly_robust(log, weights, **beside),
        "on_policy": on_policy(log),
    }


def covered_by(drawn, name, truth):
    """In how many of the drawn logs the 95 % interval holds the truth."""
    bounds = np.array([one[name].interval(0.95) for one in drawn])
    return int(((bounds[:, 0] < truth) & (truth < bounds[:, 1])).sum())


def check_unbiased_and_covered(drawn, truths):
    assert len(drawn) == 200
    for name, truth in truths.items():
        errors = np.array([one[name].value for one in drawn]) - truth
        bias, noise = errors.mean(), errors.std() / np.sqrt(200)
        assert abs(bias) < 4 * noise, name
        # 200 intervals of 95 % cover 181 to 198 times with probability .998.
        assert 181 <= covered_by(drawn, name, truth) <= 198, name


def spread_of(drawn, name):
    return np.std([one[name].value for one in drawn])


@pytest.mark.parametrize(("alike", "requests_a_user"), [(False, 10), (True, 1)])
def test_over_200_logs_estimates_are_unbiased_and_intervals_cover_the_truth(alike, requests_a_user):
    world = BanditWorld(seed=3, alike=alike)
    truths = dict.fromkeys(("ips", "self_normalised", "doubly_robust"), world.value)
    truths["on_policy"] = float((world.logging * world.rates).sum(axis=1).mean())
    # Where kinds of user differ, the model of items is wrong, and what it converges to is not the truth.
    truths["direct_method"] = world.modelled
    drawn = [estimates_of(*world.draw(3000, seed, requests_a_user)) for seed in range(200)]
    check_unbiased_and_covered(drawn, truths)
    assert (covered_by(drawn, "direct_method", world.value) < 100) == (not alike)
    assert spread_of(drawn, "direct_method") < spread_of(drawn, "doubly_robust") < spread_of(drawn, "ips")


@pytest.mark.parametrize("alike", [True, False])
def test_over_200_logs_of_examined_lists_estimates_are_unbiased_and_intervals_cover(alike):
    world = ListWorld(alike=alike)
    truths = dict.fromkeys(("ips", "self_normalised", "doubly_robust"), world.value)
    truths["direct_method"] = world.modelled
    drawn = []
    for seed in range(200):
        log, policy = world.draw(1500, seed)
        seen, probabilities = examined_items(policy, log, world.looks)
        drawn.append(estimates_of(seen, policy, probabilities=probabilities))
    check_unbiased_and_covered(drawn, truths)
    assert (covered_by(drawn, "direct_method", world.value) < 100) == (not alike)
    assert spread_of(drawn, "direct_method") < spread_of(drawn, "ips")


def test_error_of_the_direct_method_is_that_of_fitting_anew_to_resampled_users():
    log, policy = BanditWorld(seed=1, alike=True).draw(2000, seed=0, requests_a_user=10)
    rng = np.random.default_rng(0)
    refitted = []
    for _ in range(150):
        users = rng.integers(200, size=200)
        rows = (10 * users[:, None] + np.arange(10)).ravel()
        again = log_of(
            log.rewards_N[rows], log.propensities_N[rows], log.items_N[rows], clusters=np.arange(2000) // 10
        )
        asked = dataclasses.replace(policy, contexts_N=policy.contexts_N[rows])
        refitted.append(direct_method(again, fit_reward_model(again).expected(asked)).value)
    made = estimates_of(log, policy)["direct_method"]
    # The spread of 150 draws is known to 6 %.
    assert made.standard_error == pytest.approx(np.std(refitted), rel=0.2)
    model = fit_reward_model(log, num_folds=2)
    as_if_known = ratio_estimate(log.by_cluster(model.expected(policy)), log.requests_by_cluster)
    assert as_if_known.standard_error < 0.7 * made.standard_error
    assert model.moved_by_unit(policy).sum() == pytest.approx(0, abs=1e-9)


def test_rows_of_one_user_are_not_taken_for_independent():
    """One draw of each user's mood moves all her rewards: by row, intervals are three times too narrow."""
    rng = np.random.default_rng(0)
    covered = {True: 0, False: 0}
    for _ in range(200):
        users = np.repeat(np.arange(100), 10)
        rewards = rng.normal(size=100)[users] + 0.1 * rng.normal(size=1000)
        for by_user in covered:
            log = log_of(rewards, [1.0] * 1000, [0] * 1000, clusters=users if by_user else None)
            low, high = on_policy(log).interval(0.95)
            covered[by_user] += low < 0 < high
    assert 181 <= covered[True] <= 198
    assert covered[False] < 120
