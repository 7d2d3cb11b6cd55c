import numpy as np
import pytest

from recsys.bandits.estimators import importance_weights, inverse_propensity, self_normalised
from recsys.bandits.policies import (
    TargetPolicy,
    examined_items,
    never_logged_share,
    probabilities_of,
    uniform_policy,
)
from recsys.bandits.reward_models import fit_reward_model
from tests.bandits.worlds import log_of


def policy_of(contexts, items, probabilities, *, of_rows, positions=(1, 1)):
    return TargetPolicy(
        np.array(of_rows), np.array(positions), np.array(contexts), np.array(items), np.array(probabilities)
    )


def test_probability_of_a_row_is_that_of_its_item_in_its_context():
    log = log_of([0, 0, 1], [1, 1, 1], [7, 3, 9])
    policy = policy_of([0, 0, 1], [7, 3, 3], [0.9, 0.1, 1.0], of_rows=[0, 1, 1])
    assert probabilities_of(policy, log).tolist() == [0.9, 1.0, 0.0]


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([0.9, 0.2, 1.0], r"must add up to 1 in each context, found 1.1 for context 0 \(1 of 2 contexts\)"),
        ([1.1, -0.1, 1.0], r"must lie in \[0, 1\], found 1.1 for context 0"),
        ([0.9, 0.1, np.nan], r"found nan for context 1"),
    ],
)
def test_probabilities_that_are_none_are_refused(probabilities, message):
    with pytest.raises(ValueError, match=message):
        policy_of([0, 0, 1], [7, 3, 3], probabilities, of_rows=[0, 1])


def test_uniform_policy_spreads_over_the_items_of_the_log():
    log = log_of([0, 0, 1], [1, 1, 1], [7, 3, 9], positions=[1, 2, 1])
    assert probabilities_of(uniform_policy(log), log).tolist() == [1 / 3] * 3


def test_share_that_is_never_logged_counts_positions_apart():
    log = log_of([0, 0], [1, 1], [7, 3], positions=[1, 2])
    policy = policy_of([0, 0, 1], [7, 3, 3], [0.75, 0.25, 1.0], of_rows=[0, 1], positions=[1, 2])
    assert never_logged_share(policy, log) == (0.25 + 0) / 2  # item 3 was not seen in position 1


def test_model_does_not_predict_a_row_from_itself():
    rewards = np.zeros(40)
    rewards[0] = 100.0
    log = log_of(rewards, [1] * 40, [0] * 20 + [1] * 20)
    model = fit_reward_model(log, num_folds=4)
    others = log.clusters_N[model.folds_N != model.folds_N[0]]
    assert 0 not in others
    assert model.predicted()[0] == 0.0
    assert model.predicted()[others].max() > 1


def test_model_finds_what_items_and_positions_earn():
    rng = np.random.default_rng(0)
    items, positions = rng.integers(5, size=20_000), rng.integers(1, 3, size=20_000)
    means = np.array([1.0, 2.0, 3.0, 4.0, 5.0])[items] - 2.0 * (positions == 2)
    log = log_of(means + rng.normal(size=20_000), [1] * 20_000, items, positions=positions)
    assert fit_reward_model(log).predicted() == pytest.approx(means, abs=0.15)


def test_a_single_user_is_too_few_for_a_model():
    log = log_of([0, 1], [1, 1], [0, 1], clusters=[0, 0])
    with pytest.raises(ValueError, match=r"at least two folds of at least two users .* found 1"):
        fit_reward_model(log)


def reordered(examination, attraction, num_requests, seed):
    """Three items shown by attraction upwards, always; the target shows them downwards."""
    rng = np.random.default_rng(seed)
    requests = np.repeat(np.arange(num_requests), 3)
    positions = np.tile([1, 2, 3], num_requests)
    items = positions - 1
    clicks = rng.random(len(items)) < examination[positions - 1] * attraction[items]
    log = log_of(
        clicks, np.ones(len(items)), items, positions=positions, requests=requests, clusters=requests
    )
    policy = policy_of([0, 1, 2], [2, 1, 0], [1.0] * 3, of_rows=positions - 1, positions=[1, 2, 3])
    return log, policy


def test_position_based_model_judges_another_order_of_the_same_items():
    examination, attraction = np.array([1.0, 0.5, 0.2]), np.array([0.1, 0.3, 0.6])
    log, policy = reordered(examination, attraction, 40_000, seed=0)
    seen, probabilities = examined_items(policy, log, examination)
    weights = importance_weights(seen, probabilities)
    assert weights[:3].tolist() == pytest.approx([0.2 / 1, 1, 1 / 0.2])
    truth = 1.0 * 0.6 + 0.5 * 0.3 + 0.2 * 0.1
    for made in (inverse_propensity(seen, weights), self_normalised(seen, weights)):
        low, high = made.interval(0.999)
        assert low < truth < high
        assert made.value == pytest.approx(truth, rel=0.05)


def test_positions_of_unknown_examination_are_refused():
    log, policy = reordered(np.array([1.0, 0.5, 0.2]), np.array([0.1, 0.3, 0.6]), 5, seed=0)
    with pytest.raises(ValueError, match=r"expected the examination of positions 1 to 3, found that of 2"):
        examined_items(policy, log, np.array([1.0, 0.5]))


def test_model_of_looks_finds_how_attractive_an_item_is_wherever_it_stood():
    rng = np.random.default_rng(0)
    looks, attraction = np.array([1.0, 0.5, 0.2]), np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    items, places = rng.integers(5, size=40_000), rng.integers(3, size=40_000)
    clicks = rng.random(40_000) < looks[places] * attraction[items]
    log = log_of(clicks, [1] * 40_000, items, positions=places + 1, exposures_N=looks[places])
    assert fit_reward_model(log).predicted() == pytest.approx(looks[places] * attraction[items], abs=0.02)
