"""What is believed of candidates: a head, the items themselves and a reader's taste."""

import numpy as np
import pytest

from recsys.bandits.acting.choice import Candidates
from recsys.serving.beliefs import Known, beliefs, features_of, looked_at
from recsys.serving.feed import _regret
from recsys.serving.learning import ItemState, LinearHead, Positions, Taste
from recsys.serving.rules import HOUR, Rules

NOW = 1_700_000_000_000_000
SCORES = np.array([3.0, 2.0, 1.0, 0.0])
FEATURES = features_of(SCORES, [None, None, 6.0, 0.0])
COORDINATES = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
RULES = Rules(half_life_hours=24)


def believed(items=(None,) * 4, **known):
    return beliefs(SCORES, FEATURES, COORDINATES, Known(items, **known), now=NOW, rules=RULES)


def shown(looked, reward, number):
    return ItemState(
        since=NOW, shown=looked, looked=looked, reward=reward, features=(looked * FEATURES[number]).tolist()
    )


def test_without_feedback_the_order_is_that_of_the_scores():
    candidates = believed().candidates
    assert np.argsort(-candidates.means_N).tolist() == [0, 1, 2, 3]
    assert np.ptp(candidates.deviations_N) < 1e-12
    # Before anything is known a tenth is clicked; the item may be off by half of it, the reader by all.
    assert candidates.deviations_N[0] == pytest.approx(0.1 * np.hypot(0.5, 1.0), rel=0.01)


def test_freshness_falls_by_half_in_six_hours():
    assert FEATURES[:, 2].tolist() == [0.0, 0.0, 0.5, 1.0]


def test_what_an_item_earned_beyond_its_features_counts_by_how_well_it_is_known():
    plain = believed()
    prior_looks = 0.9 / (0.1 * 0.5**2)
    items = [None, None, shown(90.0, 60.0, 2), None]
    one = believed(items)
    surplus = 60 - 90 * plain.candidates.means_N[2]
    assert one.own_N[2] == pytest.approx(surplus / (90 + prior_looks))
    assert one.candidates.deviations_N[2] < 0.95 * plain.candidates.deviations_N[2]
    # Half a day later, 1 / sqrt(2) of it remains.
    later = beliefs(SCORES, FEATURES, COORDINATES, Known(items), now=NOW + 12 * HOUR, rules=RULES)
    remains = 0.5**0.5
    assert later.own_N[2] == pytest.approx(remains * surplus / (remains * 90 + prior_looks))


def test_the_head_learns_what_a_score_is_worth():
    gram = 100_000 * FEATURES.T @ FEATURES
    reward = gram @ np.array([0.4, 0.2, -0.1])
    head = LinearHead(NOW, gram.ravel().tolist(), reward.tolist())
    means = believed(head=head).candidates.means_N
    np.testing.assert_allclose(means, FEATURES @ [0.4, 0.2, -0.1], atol=0.01)


def test_a_taste_is_ridge_regression_of_what_is_left():
    plain = believed()
    ridge = 0.9 / 0.1
    looks, gained = np.array([30.0, 30.0, 30.0, 30.0]), np.array([0.0, 3.0, 30.0, 3.0])
    taste = Taste(
        space="s",
        since=NOW,
        gram=((COORDINATES.T * looks) @ COORDINATES).tobytes(),
        cross=((COORDINATES.T * looks) @ FEATURES).tobytes(),
        reward=(COORDINATES.T @ gained).tobytes(),
    )
    one = believed(taste=taste)
    left = gained - looks * plain.candidates.means_N
    expected = np.linalg.solve(
        (COORDINATES.T * looks) @ COORDINATES + ridge * np.eye(2), COORDINATES.T @ left
    )
    np.testing.assert_allclose(one.taste_N, COORDINATES @ expected)
    assert np.argmax(one.candidates.means_N) == 2
    # What has another number of features is of another time, and counts for nothing.
    assert believed(taste=Taste("s", NOW, b"", b"", b"")).taste_N.tolist() == [0.0] * 4


def test_a_bundle_without_a_space_has_no_tastes():
    none = beliefs(SCORES, FEATURES, np.zeros((4, 0)), Known([None] * 4), now=NOW, rules=RULES)
    assert none.taste_N.tolist() == [0.0] * 4
    assert np.isfinite(none.candidates.deviations_N).all()


def test_positions_are_looked_at_as_they_earn():
    positions = Positions(NOW, reward=[5000.0, 2500.0, 500.0], expected=[10000.0, 10000.0, 10000.0])
    np.testing.assert_allclose(looked_at(positions, 3, NOW, RULES), [1.0, 0.5, 0.1], atol=0.005)
    unknown = looked_at(None, 60, NOW, RULES)
    assert len(unknown) == 60
    assert (np.diff(unknown) <= 0).all()
    assert unknown[50] == unknown[49]


def test_regret_is_that_of_the_best_items_in_the_most_looked_at_places():
    candidates = Candidates(np.zeros(3), means_N=np.array([0.1, 0.4, 0.2]))
    looked_K = np.array([0.5, 1.0])  # the second place is looked at more
    assert _regret(candidates, np.array([2, 1]), looked_K) == pytest.approx(0.0)
    assert _regret(candidates, np.array([1, 2]), looked_K) == pytest.approx(0.5 * 0.2 + 0.4 - 0.5 * 0.4 - 0.2)
