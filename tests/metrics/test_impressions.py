"""Metrics by impression against MIND's own formulas, counted one impression at a time."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recsys.metrics.impressions import (
    RankedImpressions,
    impression_auc,
    impression_metrics,
    impression_mrr,
    impression_ndcg,
)


def in_words(labels, scores, k):
    """AUC, MRR and NDCG@k of one impression whose scores all differ."""
    ordered = [label for _, label in sorted(zip(scores, labels, strict=True), reverse=True)]
    discounts = [1 / np.log2(rank + 2) for rank in range(len(ordered))]
    best = sum(discounts[: min(k, sum(ordered))])
    mrr = sum(label / (rank + 1) for rank, label in enumerate(ordered)) / sum(ordered)
    gain = sum(label * discounts[rank] for rank, label in enumerate(ordered[:k]))
    return roc_auc_score(labels, scores), mrr, gain / best


@pytest.fixture
def rows():
    """Labels, scores that all differ, and impressions of 1 to 14 rows, mixed up."""
    rng = np.random.default_rng(0)
    impressions = rng.permutation(np.repeat(np.arange(100, 160), rng.integers(1, 15, 60)))
    return (rng.random(len(impressions)) < 0.3).astype(int), rng.permutation(len(impressions)), impressions


def test_every_impression_has_the_value_that_plain_python_gives(rows):
    labels, scores, impressions = rows
    found, values = impression_metrics(labels, scores, impressions)
    assert 20 < len(found) < 60
    for place, impression in enumerate(found):
        mine = impressions == impression
        auc, mrr, ndcg = in_words(labels[mine], scores[mine], 5)
        assert values["impression_auc"][place] == pytest.approx(auc)
        assert values["impression_mrr"][place] == pytest.approx(mrr)
        assert values["impression_ndcg@5"][place] == pytest.approx(ndcg)
        assert values["impression_ndcg@10"][place] == pytest.approx(
            in_words(labels[mine], scores[mine], 10)[2]
        )


def test_impressions_of_one_class_are_left_out(rows):
    labels, scores, impressions = rows
    found, _ = impression_metrics(labels, scores, impressions)
    both = [one for one in np.unique(impressions) if 0 < labels[impressions == one].mean() < 1]
    assert found.tolist() == both


def test_tied_rows_have_the_mean_over_their_orders():
    labels, scores = np.array([1, 0, 1, 0, 0]), np.array([0.5, 0.5, 0.5, 0.9, 0.1])
    orders = [
        in_words(labels, scores + np.array([*nudges, 0, 0]), 3)
        for nudges in itertools.permutations([0.01, 0.02, 0.03])
    ]
    one = np.zeros(5, int)
    assert impression_auc(labels, scores, one)[0] == pytest.approx(np.mean([auc for auc, _, _ in orders]))
    ranked = RankedImpressions.of(labels, scores, one)
    assert impression_mrr(ranked)[0] == pytest.approx(np.mean([mrr for _, mrr, _ in orders]))
    assert impression_ndcg(ranked, k=3)[0] == pytest.approx(np.mean([n for *_, n in orders]))


def test_the_order_of_rows_decides_nothing(rows):
    labels, scores, impressions = rows
    scores = scores // 7
    mixed = np.random.default_rng(1).permutation(len(labels))
    _, values = impression_metrics(labels, scores, impressions)
    _, again = impression_metrics(labels[mixed], scores[mixed], impressions[mixed])
    for key, value in values.items():
        np.testing.assert_allclose(again[key], value)


def test_no_rows_have_no_impressions():
    found, values = impression_metrics(np.zeros(0, int), np.zeros(0), np.zeros(0, int))
    assert len(found) == 0
    assert {len(value) for value in values.values()} == {0}
