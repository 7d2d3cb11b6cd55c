"""How exposure is shared out, against definitions written as sums over pairs."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import entropy

from recsys.metrics.exposure import exposure, exposure_entropy, gini, lorenz, personalisation


@pytest.fixture
def lists():
    rng = np.random.default_rng(0)
    rows = np.stack([1 + rng.permutation(12)[:5] for _ in range(30)])
    rows[::4, 3:] = 0
    return rows


def test_exposure_counts_lists_and_no_unknown_item(lists):
    found = exposure(lists, num_items=15, k=4)
    assert found[0] == 0
    assert found[1:].tolist() == [int((lists[:, :4] == item).sum()) for item in range(1, 15)]


def test_gini_is_the_mean_difference_of_two_items_over_twice_the_mean(lists):
    counts = exposure(lists, num_items=15, k=5)
    shown = counts[1:]
    expected = np.abs(shown[:, None] - shown).mean() / (2 * shown.mean())
    assert gini(counts) == pytest.approx(expected)


def test_one_item_alone_is_most_unequal_and_all_alike_equal():
    assert gini(np.array([0, 0, 8, 0, 0])) == pytest.approx(1 - 1 / 4)
    assert gini(np.array([9, 3, 3, 3])) == pytest.approx(0)
    assert exposure_entropy(np.array([0, 0, 8, 0, 0])) == 0
    assert exposure_entropy(np.array([9, 3, 3, 3])) == pytest.approx(1)


def test_entropy_equals_scipys_over_its_most(lists):
    counts = exposure(lists, num_items=15, k=5)
    assert exposure_entropy(counts) == pytest.approx(entropy(counts[1:]) / math.log(14))


def test_nothing_shown_has_no_figure():
    nothing = np.zeros(5, dtype=int)
    assert math.isnan(gini(nothing))
    assert math.isnan(exposure_entropy(nothing))
    assert math.isnan(exposure_entropy(np.array([0, 3])))  # a catalogue of one item
    assert lorenz(nothing) == []


def test_lorenz_curve_has_the_least_shown_items_first():
    expected = [[0, 0], [0.25, 0], [0.5, 1 / 8], [0.75, 3 / 8], [1, 1]]
    assert np.array(lorenz(np.array([99, 5, 0, 2, 1]))) == pytest.approx(np.array(expected))


def test_lorenz_curve_of_many_items_has_few_points_and_rises():
    curve = np.array(lorenz(np.arange(1001)))
    assert len(curve) == 51
    assert (np.diff(curve, axis=0) >= 0).all()
    assert curve[25] == pytest.approx([0.5, 500 * 501 / (1000 * 1001)])


def test_personalisation_is_over_all_pairs_of_lists_of_different_users(lists):
    users = np.arange(30) % 7
    shared = [
        len((set(lists[a, :4]) & set(lists[b, :4])) - {0}) / 4
        for a, b in itertools.combinations(range(30), 2)
        if users[a] != users[b]
    ]
    found = personalisation(lists, users_Q=users, num_items=15, k=4)
    assert found == pytest.approx(1 - np.mean(shared))


def test_one_list_for_everybody_is_not_personal_and_one_user_has_no_pair():
    same = np.array([[3, 1], [3, 1], [3, 1]])
    assert personalisation(same, users_Q=np.arange(3), num_items=4, k=2) == 0
    assert math.isnan(personalisation(same, users_Q=np.zeros(3, dtype=int), num_items=4, k=2))
