"""Classification metrics against scikit-learn and against pairs counted one by one."""

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from recsys.metrics.classification import (
    auc,
    calibration_error,
    gauc,
    log_loss,
    normalised_entropy,
    pr_auc,
    predicted_over_observed,
    reliability,
    row_log_loss,
    user_auc,
)


@pytest.fixture(params=[2, 1000], ids=["many ties", "few ties"])
def rows(request):
    """Labels, probabilities with ties and users, 50 of them, some with one class of label."""
    rng = np.random.default_rng(request.param)
    users = rng.integers(0, 50, 400)
    labels = (rng.random(400) < np.where(users < 5, 0, 0.4)).astype(np.float32)
    scores = np.round(0.5 * rng.random(400) + 0.3 * labels, 1 if request.param == 2 else 6).astype(np.float32)
    return labels, scores, users


def test_auc_equals_scikit_learn(rows):
    labels, scores, _ = rows
    assert auc(labels, scores) == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores), abs=1e-6)


def test_pr_auc_equals_scikit_learn(rows):
    labels, scores, _ = rows
    expected = sklearn_metrics.average_precision_score(labels, scores)
    assert pr_auc(labels, scores) == pytest.approx(expected, abs=1e-6)


def test_log_loss_equals_scikit_learn(rows):
    labels, scores, _ = rows
    clipped = np.clip(scores, 0.01, 0.99).astype(np.float64)
    assert log_loss(labels, clipped) == pytest.approx(sklearn_metrics.log_loss(labels, clipped), abs=1e-6)


def test_gauc_is_the_mean_of_users_scikit_learn_aucs_weighted_by_rows(rows):
    labels, scores, users = rows
    aucs, weights, with_both = [], [], []
    for user in np.unique(users):
        own = users == user
        if 0 < labels[own].sum() < own.sum():
            aucs.append(sklearn_metrics.roc_auc_score(labels[own], scores[own]))
            weights.append(own.sum())
            with_both.append(user)
    assert len(aucs) < 50
    assert gauc(labels, scores, users) == pytest.approx(np.average(aucs, weights=weights), abs=1e-6)
    found_users, found, num_rows = user_auc(labels, scores, users)
    assert found_users.tolist() == with_both
    assert found == pytest.approx(aucs, abs=1e-6)
    assert num_rows.tolist() == weights


def test_tied_pair_counts_half():
    assert auc(np.array([1, 0]), np.array([0.4, 0.4])) == 0.5


def test_user_of_one_class_weighs_nothing():
    labels, scores = np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.9, 0.8])
    assert gauc(labels, scores, np.array(["a", "a", "b", "b"])) == 1.0


def test_scores_of_different_users_are_not_compared():
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.2, 0.1, 0.9, 0.8])
    assert auc(labels, scores) == 3 / 4
    assert gauc(labels, scores, np.array([3, 3, 1, 1])) == 1.0


def test_row_log_loss_spelled_out():
    assert row_log_loss(np.array([1, 0]), np.array([0.25, 0.25])) == pytest.approx(
        [math.log(4), math.log(4 / 3)]
    )


def test_certain_and_wrong_prediction_has_a_large_finite_loss():
    losses = row_log_loss(np.array([1, 0]), np.array([0.0, 1.0], dtype=np.float32))
    assert losses == pytest.approx([-math.log(1e-7)] * 2)


def test_equal_scores_of_different_users_are_no_tie():
    labels, scores = np.array([0, 1, 0, 1]), np.array([0.2, 0.5, 0.5, 0.9])
    assert gauc(labels, scores, np.array([1, 1, 2, 2])) == 1.0


@pytest.mark.parametrize("labels", [[], [1, 1]])
def test_labels_of_one_class_have_no_auc(labels):
    scores = np.linspace(0, 1, len(labels))
    with pytest.raises(ValueError, match=f"both positives and negatives, got {len(labels)} rows"):
        auc(np.array(labels), scores)
    with pytest.raises(ValueError, match=f"got none in {len(labels)} rows"):
        gauc(np.array(labels), scores, np.arange(len(labels)))


def test_no_rows_have_no_log_loss():
    with pytest.raises(ValueError, match="at least one row, got none"):
        log_loss(np.array([]), np.array([]))


def test_reliability_bins_hold_equally_many_rows():
    labels = np.array([0, 1, 0, 0, 1, 1])
    predicted, observed, sizes = reliability(labels, np.array([0.1, 0.2, 0.9, 0.3, 0.8, 0.7]), num_bins=3)
    assert predicted == pytest.approx([0.15, 0.5, 0.85])
    assert observed == pytest.approx([1 / 2, 1 / 2, 1 / 2])
    assert sizes.tolist() == [2, 2, 2]


def test_rows_of_equal_probability_share_a_reliability_bin():
    predicted, observed, sizes = reliability(
        np.array([0, 1, 0, 1]), np.array([0.5, 0.5, 0.5, 0.9]), num_bins=4
    )
    assert (predicted.tolist(), sizes.tolist()) == ([0.5, 0.9], [3, 1])
    assert observed == pytest.approx([1 / 3, 1])


def test_reliability_of_no_rows_has_no_bins():
    assert [len(part) for part in reliability(np.array([]), np.array([]), num_bins=4)] == [0, 0, 0]


def test_all_ties_have_the_share_of_positives_as_pr_auc_and_no_positive_has_none():
    assert pr_auc(np.array([1, 0, 0, 1]), np.full(4, 0.3)) == 0.5
    with pytest.raises(ValueError, match="PR-AUC needs positives, got none in 2 rows"):
        pr_auc(np.zeros(2), np.array([0.1, 0.2]))


def test_normalised_entropy_of_the_mean_rate_is_one_and_of_one_class_unknown():
    labels = np.array([1, 0, 0, 0])
    assert normalised_entropy(labels, np.full(4, 0.25)) == pytest.approx(1)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    expected = -(math.log(0.7) + math.log(0.9) * 3) / 4 / entropy
    assert normalised_entropy(labels, np.array([0.7, 0.1, 0.1, 0.1])) == pytest.approx(expected)
    assert math.isnan(normalised_entropy(np.ones(3), np.full(3, 0.5)))


def test_predicted_over_observed_is_a_ratio_of_sums_and_unknown_without_positives():
    assert predicted_over_observed(np.array([1, 0, 0, 1]), np.array([0.9, 0.6, 0.9, 0.6])) == pytest.approx(
        1.5
    )
    assert math.isnan(predicted_over_observed(np.zeros(2), np.full(2, 0.5)))


def test_calibration_error_is_the_mean_distance_of_the_bins():
    labels, probabilities = np.array([0, 1, 1, 0]), np.array([0.1, 0.3, 0.6, 0.9])
    expected = (abs(0.2 - 0.5) + abs(0.75 - 0.5)) / 2
    assert calibration_error(labels, probabilities, num_bins=2) == pytest.approx(expected)
    # Equal rows share a bin: three quarters of the rows say 0.5 of which a third is positive.
    tied = calibration_error(np.array([0, 1, 0, 1]), np.array([0.5, 0.5, 0.5, 0.9]), num_bins=4)
    assert tied == pytest.approx(0.75 * abs(0.5 - 1 / 3) + 0.25 * 0.1)
    assert math.isnan(calibration_error(np.array([]), np.array([]), num_bins=4))
