"""PairedComparison tests and their correction against enumeration by hand, SciPy and known distributions."""

import itertools
import sys

import numpy as np
import pytest
from scipy import stats

from recsys.metrics.significance import bootstrap_p_value, holm, sign_flip_test


def test_few_users_are_tested_exactly():
    differences = np.array([0.5, -0.2, 0.9, 0.3])
    observed = abs(differences.sum())
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([1, -1], repeat=4)]
    expected = np.mean([one >= observed - 1e-12 for one in sums])
    found = sign_flip_test(differences[:, None], num_permutations=16, seed=0)
    assert found == pytest.approx([expected])


def test_test_agrees_with_scipy():
    differences = np.random.default_rng(1).normal(0.3, 1, 12)
    expected = stats.permutation_test(
        (differences, np.zeros(12)),
        lambda x, y, axis: np.sum(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    exact = sign_flip_test(differences[:, None], num_permutations=2**12, seed=0)
    assert exact == pytest.approx([expected])
    drawn = sign_flip_test(differences[:, None], num_permutations=2**12 - 1, seed=0)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=0.03)


def test_many_users_agree_with_the_t_test_in_blocks_too(monkeypatch):
    differences = np.random.default_rng(2).normal(0.1, 1, (500, 2))
    whole = sign_flip_test(differences, num_permutations=4000, seed=0)
    assert whole == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)
    monkeypatch.setattr(sys.modules["recsys.metrics.significance"], "_BLOCK", 500 * 300)
    assert sign_flip_test(differences, num_permutations=4000, seed=0) == pytest.approx(whole, abs=0.03)


def test_p_values_are_uniform_where_nothing_differs():
    differences = np.random.default_rng(3).standard_t(3, (40, 2000))
    p = sign_flip_test(differences, num_permutations=999, seed=5)
    assert [(p <= level).mean() for level in (0.05, 0.5)] == pytest.approx([0.05, 0.5], abs=0.05)


def test_users_without_a_difference_change_nothing():
    differences = np.random.default_rng(4).normal(0.4, 1, (10, 1))
    padded = np.concatenate([differences, np.zeros((1000, 1))])
    found = [sign_flip_test(one, num_permutations=1024, seed=0)[0] for one in (differences, padded)]
    assert found[0] == found[1]


def test_equal_systems_are_not_told_apart():
    assert sign_flip_test(np.zeros((30, 2)), num_permutations=100, seed=0).tolist() == [1.0, 1.0]
    assert sign_flip_test(np.zeros((0, 1)), num_permutations=100, seed=0).tolist() == [1.0]


def test_p_is_never_nothing():
    assert sign_flip_test(np.ones((100, 1)), num_permutations=199, seed=0) == pytest.approx([1 / 200])


def test_difference_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="needs a number for each user and comparison, got NaN"):
        sign_flip_test(np.array([[np.nan]]), num_permutations=100, seed=0)


def test_bootstrap_p_value_counts_the_rarer_side_twice():
    samples = np.array([0.1] * 96 + [-0.1] * 3 + [np.nan])
    assert bootstrap_p_value(samples) == pytest.approx(2 * (3 + 1) / (99 + 1))
    assert bootstrap_p_value(-samples) == bootstrap_p_value(samples)
    assert bootstrap_p_value(np.zeros(10)) == 1.0
    assert np.isnan(bootstrap_p_value(np.full(3, np.nan)))


def test_holm_multiplies_step_by_step():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    # 0.005 x 4, 0.01 x 3, 0.03 x 2, then 0.04 x 1, which must not fall below the one before it.
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_stops_at_one_keeps_ties_and_leaves_out_what_was_not_tested():
    assert holm(np.array([0.4, 0.6, 0.5])).tolist() == [1.0, 1.0, 1.0]
    assert holm(np.array([0.02, 0.02])) == pytest.approx([0.04, 0.04])
    found = holm(np.array([np.nan, 0.02, 0.3]))
    assert np.isnan(found[0])
    assert found[1:] == pytest.approx([0.04, 0.3])
    assert len(holm(np.zeros(0))) == 0


def test_holm_rarely_errs_among_many_true_hypotheses():
    p = np.random.default_rng(0).random((2000, 20))
    erred = np.mean([(holm(row) <= 0.05).any() for row in p])
    assert erred == pytest.approx(0.05, abs=0.02)
