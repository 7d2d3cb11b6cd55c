import numpy as np
import pytest
from scipy import stats

from recsys.bandits.estimates import ratio_estimate
from recsys.bandits.pilots import PilotAim, compare_arms, daily_trend, plan_pilot, sample_ratio_p_value


def test_needed_users_are_those_of_the_textbook():
    """Independent users, one request each: n = 2 (1.96 + 0.8416)^2 p (1 - p) / (lift p)^2."""
    rewards = np.tile([1.0, 0, 0, 0], 2500)
    days = np.arange(10_000) // 1000
    plan = plan_pilot(rewards, np.arange(10_000), days, aim=PilotAim(lift=0.1))
    expected = 2 * (1.95996 + 0.84162) ** 2 * 0.25 * 0.75 / (0.1 * 0.25) ** 2
    assert plan.needed[-1] == pytest.approx(expected, rel=1e-3)  # 4,710
    assert plan.users == [1000 * day for day in range(1, 11)]
    assert (plan.duration_days, plan.in_log) == (10, True)  # 9,420 in both arms
    assert plan.inflation[-1] == pytest.approx(1)
    assert plan.detectable[-1] == pytest.approx(0.1 * np.sqrt(plan.needed[-1] / 5000), rel=1e-3)


def test_duration_beyond_the_log_goes_on_at_its_pace():
    rewards = np.tile([1.0, 0, 0, 0], 250)
    plan = plan_pilot(rewards, np.arange(1000), np.arange(1000) // 100, aim=PilotAim(lift=0.1, share=0.5))
    assert not plan.in_log
    needed = 2 * (1.95996 + 0.84162) ** 2 * 0.25 * 0.75 * 1000 / 999 / 0.025**2
    assert plan.duration_days == 10 + np.ceil((needed * 2 / 0.5 - 1000) / 100)


def test_no_new_users_means_no_duration():
    users = np.tile(np.arange(50), 4)
    plan = plan_pilot(np.tile([1.0, 0], 100), users, np.repeat(np.arange(4), 50), aim=PilotAim(lift=0.001))
    assert plan.duration_days is None


def test_moods_of_users_ask_for_more_of_them():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(400), 10)
    rewards = (rng.random(4000) < np.where(rng.random(400) < 0.5, 0.9, 0.1)[users]).astype(float)
    plan = plan_pilot(rewards, users, np.zeros(4000, dtype=int), aim=PilotAim(lift=0.1))
    # Correlation within users is .16 / .25: 1 + 9 * .64 = 6.8 times the variance of independent requests.
    assert plan.inflation[0] == pytest.approx(6.8, abs=0.5)


def test_planned_pilots_find_the_lift_with_the_planned_power():
    rng = np.random.default_rng(1)
    log = (rng.random(20_000) < 0.3).astype(float)
    needed = plan_pilot(log, np.arange(20_000), np.zeros(20_000, dtype=int), aim=PilotAim(lift=0.15)).needed[
        0
    ]
    treated = np.arange(2 * needed) % 2 == 1
    found = 0
    for _ in range(200):
        clicks = (rng.random(2 * needed) < np.where(treated, 0.345, 0.3)).astype(float)
        ones, users = np.ones(2 * needed), np.arange(2 * needed)
        found += compare_arms(clicks, ones, users, treated_N=treated).difference.p_value() < 0.05
    assert 140 <= found <= 178  # 80 % of 200, 3.5 standard deviations


def test_one_user_cannot_be_planned_with():
    with pytest.raises(ValueError, match=r"at least two users a day .* found 1"):
        plan_pilot(np.ones(2), np.zeros(2, dtype=int), np.zeros(2, dtype=int), aim=PilotAim(lift=0.1))


def test_arms_of_independent_users_compare_as_welch_does():
    rng = np.random.default_rng(0)
    values, treated = rng.normal(1, 1, size=300), np.arange(300) < 120
    made = compare_arms(values, np.ones(300), np.arange(300), treated_N=treated)
    welch = stats.ttest_ind(values[treated], values[~treated], equal_var=False)
    assert made.difference.value == pytest.approx(values[treated].mean() - values[~treated].mean())
    assert made.difference.value / made.difference.standard_error == pytest.approx(welch.statistic, rel=0.01)
    assert made.lift.value == pytest.approx(made.arm.value / made.control.value - 1)


def test_sample_ratio_is_tested_by_chi_square():
    counts, shares = np.array([480, 530, 990]), np.array([0.25, 0.25, 0.5])
    expected = stats.chisquare(counts, 2000 * shares).pvalue
    assert sample_ratio_p_value(counts, shares) == pytest.approx(expected)


def test_trend_of_the_difference_is_the_slope_over_days():
    rng = np.random.default_rng(0)
    days, users = np.repeat(np.arange(7), 2000), np.tile(np.arange(2000), 7)
    treated = users < 1000
    values = 1.0 + treated * (0.5 - 0.05 * days) + rng.normal(size=2000)[users] + rng.normal(size=14_000)
    shown, differences, slope = daily_trend(values, users, days, treated_N=treated)
    assert shown == list(range(7))
    daily = [one.value for one in differences]
    assert slope.value == pytest.approx(np.polyfit(shown, daily, 1)[0])
    assert slope.value == pytest.approx(-0.05, abs=0.02)
    # The moods of the users, who come every day, leave the slope alone: noise 1 a day and arm.
    assert slope.standard_error == pytest.approx(np.sqrt(2 / 1000 / 28), rel=0.05)


def test_two_days_have_no_trend():
    days = np.repeat([0, 1], 4)
    treated = np.tile([True, False], 4)
    assert daily_trend(np.arange(8.0), np.arange(8), days, treated_N=treated)[2] is None


def test_an_arm_without_events_is_refused():
    with pytest.raises(ValueError, match=r"nothing to estimate from"):
        compare_arms(np.ones(3), np.ones(3), np.arange(3), treated_N=np.zeros(3, dtype=bool))


def test_a_figure_of_requests_divides_by_requests():
    made = ratio_estimate(np.array([3.0, 0.0]), np.array([4.0, 2.0]))
    assert made.value == 0.5
