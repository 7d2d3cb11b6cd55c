"""Bootstrap over users against resampling by hand, numpy's quantiles and known sampling distributions."""

import sys

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from recsys.metrics.classification import auc
from recsys.metrics.intervals import (
    auc_samples,
    percentile_interval,
    ratio_samples,
    resample_counts,
    sum_by_user,
)


def test_each_resample_draws_as_many_users_as_there_are():
    counts = resample_counts(50, num_resamples=200, seed=0)
    assert (counts.sum(axis=1) == 50).all()
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.4)
    assert len({tuple(row) for row in counts.tolist()}) == 200


def test_seed_fixes_the_draws():
    first, again, other = (resample_counts(20, num_resamples=5, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_ratio_samples_equal_repeating_the_drawn_users_queries(monkeypatch):
    monkeypatch.setattr(sys.modules["recsys.metrics.intervals"], "_BLOCK", 30)
    rng = np.random.default_rng(0)
    users = rng.integers(0, 10, 60)
    values = rng.random((60, 2))
    counts = resample_counts(10, num_resamples=40, seed=0)
    sums = sum_by_user(values, users, num_users=10)
    sizes = sum_by_user(np.ones((60, 1)), users, num_users=10)
    samples = ratio_samples(counts, sums, sizes)
    for count, sample in zip(counts, samples, strict=True):
        drawn = np.concatenate([np.flatnonzero(users == user) for user in np.repeat(np.arange(10), count)])
        assert sample == pytest.approx(values[drawn].mean(axis=0))


def test_interval_of_a_mean_is_as_wide_as_its_standard_error_says():
    values = np.random.default_rng(3).normal(5, 2, 2000)[:, None]
    counts = resample_counts(2000, num_resamples=2000, seed=0)
    low, high = percentile_interval(ratio_samples(counts, values, np.ones_like(values)), confidence=0.95)
    half_width = 1.96 * values.std() / np.sqrt(2000)
    assert low[0] == pytest.approx(values.mean() - half_width, abs=0.1 * half_width)
    assert high[0] == pytest.approx(values.mean() + half_width, abs=0.1 * half_width)


def test_queries_of_one_user_do_not_narrow_the_interval():
    values = np.random.default_rng(3).normal(5, 2, 200)[:, None]
    counts = resample_counts(200, num_resamples=500, seed=0)
    once = ratio_samples(counts, values, np.ones_like(values))
    repeated = ratio_samples(counts, values * 100, np.full_like(values, 100))
    assert once == pytest.approx(repeated)


def test_resample_without_a_denominator_is_no_number_and_left_out():
    counts = np.array([[2, 0], [0, 2]], dtype=np.uint8)
    samples = ratio_samples(counts, np.array([[3.0], [0.0]]), np.array([[4], [0]]))
    assert samples[0, 0] == 3 / 4
    assert np.isnan(samples[1, 0])
    low, high = percentile_interval(samples, confidence=0.9)
    assert (low[0], high[0]) == (3 / 4, 3 / 4)


def test_interval_of_nothing_but_no_numbers_is_no_number():
    low, high = percentile_interval(np.full((3, 1), np.nan), confidence=0.9)
    assert np.isnan(low[0])
    assert np.isnan(high[0])


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_interval_equals_numpy_quantiles(confidence):
    samples = np.random.default_rng(0).random((101, 3))
    low, high = percentile_interval(samples, confidence=confidence)
    tail = (1 - confidence) / 2
    assert low == pytest.approx(np.quantile(samples, tail, axis=0))
    assert high == pytest.approx(np.quantile(samples, 1 - tail, axis=0))
    assert percentile_interval(samples[:, 1], confidence=confidence)[0] == pytest.approx(low[1])


@pytest.mark.parametrize("dense_share", [0.0, 2.0])
@pytest.mark.parametrize("decimals", [1, 6])
def test_auc_samples_equal_the_auc_of_the_drawn_rows(monkeypatch, decimals, dense_share):
    monkeypatch.setattr(sys.modules["recsys.metrics.intervals"], "_BLOCK", 200)
    monkeypatch.setattr(sys.modules["recsys.metrics.intervals"], "_DENSE_SHARE", dense_share)
    rng = np.random.default_rng(0)
    users, labels = rng.integers(0, 8, 60), rng.integers(0, 2, 60)
    scores = np.round(rng.random(60) + 0.3 * labels, decimals)
    counts = resample_counts(8, num_resamples=30, seed=0)
    samples, of_pr = auc_samples(counts, labels, scores_N=scores, users_N=users)
    for count, sample, pr_sample in zip(counts, samples, of_pr, strict=True):
        drawn = np.concatenate([np.flatnonzero(users == user) for user in np.repeat(np.arange(8), count)])
        assert sample == pytest.approx(auc(labels[drawn], scores[drawn]))
        assert pr_sample == pytest.approx(average_precision_score(labels[drawn], scores[drawn]))


def test_grouping_many_different_scores_hardly_moves_the_auc_samples(monkeypatch):
    rng = np.random.default_rng(0)
    users, labels = rng.integers(0, 50, 20_000), rng.integers(0, 2, 20_000)
    scores = rng.random(20_000) + 0.3 * labels
    counts = resample_counts(50, num_resamples=10, seed=0)
    grouped, grouped_pr = auc_samples(counts, labels, scores_N=scores, users_N=users)
    monkeypatch.setattr(sys.modules["recsys.metrics.intervals"], "_MAX_SCORE_GROUPS", 20_000)
    exact, exact_pr = auc_samples(counts, labels, scores_N=scores, users_N=users)
    assert exact[0] == pytest.approx(
        auc(np.repeat(labels, counts[0, users]), np.repeat(scores, counts[0, users]))
    )
    assert grouped == pytest.approx(exact, abs=2e-4)
    assert (grouped != exact).any()
    assert grouped_pr == pytest.approx(exact_pr, abs=2e-3)
    assert (grouped_pr != exact_pr).any()


def test_resample_of_one_class_has_no_auc():
    counts = np.array([[2, 0], [1, 1], [0, 2]], dtype=np.uint8)
    samples, of_pr = auc_samples(
        counts, np.array([1, 0]), scores_N=np.array([0.9, 0.1]), users_N=np.array([0, 1])
    )
    assert np.isnan(samples[[0, 2]]).all()
    assert samples[1] == 1
    assert of_pr[:2].tolist() == [1, 1]
    assert np.isnan(of_pr[2])
