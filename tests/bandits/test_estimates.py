import numpy as np
import pytest
from scipy import stats

from recsys.bandits.estimates import Estimate, difference, lift, ratio_estimate


def test_mean_of_independent_units_has_students_interval():
    values = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    made = ratio_estimate(values, np.ones(6))
    expected = stats.t.interval(0.9, 5, loc=values.mean(), scale=stats.sem(values))
    assert made.interval(0.9) == pytest.approx(expected)
    assert made.p_value() == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_difference_over_the_same_units_is_paired():
    one, other = np.array([3.0, 1.0, 4.0, 1.0]), np.array([2.0, 1.5, 3.0, 0.0])
    made = difference(ratio_estimate(one, np.ones(4)), ratio_estimate(other, np.ones(4)))
    assert made.value == pytest.approx((one - other).mean())
    assert made.standard_error == pytest.approx(stats.sem(one - other))


def test_error_of_a_ratio_is_that_of_its_jackknife():
    rng = np.random.default_rng(0)
    asked = rng.integers(1, 20, size=400).astype(float)
    earned = asked * rng.normal(1, 0.3, size=400)
    without = (earned.sum() - earned) / (asked.sum() - asked)
    jackknife = np.sqrt(399 / 400 * ((without - without.mean()) ** 2).sum())
    assert ratio_estimate(earned, asked).standard_error == pytest.approx(jackknife, rel=0.01)


def test_lift_is_relative_and_needs_something_above_zero():
    ones = np.ones(3)
    one, other = ratio_estimate(3 * ones, ones), ratio_estimate(2 * ones, ones)
    assert lift(one, other).value == 0.5
    assert lift(one, ratio_estimate(0 * ones, ones)) is None


def test_error_of_a_lift_is_that_of_its_jackknife():
    rng = np.random.default_rng(0)
    one, other = rng.normal(3, 1, size=400), rng.normal(2, 1, size=400)
    without = (one.sum() - one) / (other.sum() - other) - 1
    jackknife = np.sqrt(399 / 400 * ((without - without.mean()) ** 2).sum())
    made = lift(ratio_estimate(one, np.ones(400)), ratio_estimate(other, np.ones(400)))
    assert made.standard_error == pytest.approx(jackknife, rel=0.01)


def test_one_unit_or_a_models_error_gives_no_interval():
    assert ratio_estimate(np.ones(1), np.ones(1)).interval(0.95) is None
    assert Estimate(1.0, None).interval(0.95) is None
    assert difference(Estimate(1.0, None), Estimate(0.5, np.zeros(3))).interval(0.95) is None


def test_nothing_to_divide_by_is_refused():
    with pytest.raises(ValueError, match=r"denominators add up to more than 0, found 0 over 2 units"):
        ratio_estimate(np.ones(2), np.zeros(2))
