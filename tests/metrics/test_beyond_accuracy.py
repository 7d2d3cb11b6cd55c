"""Metrics beyond accuracy against arithmetic by hand, scikit-learn's distances and SciPy's divergence."""

import math

import numpy as np
import pytest
from scipy import sparse
from scipy.special import rel_entr
from sklearn.metrics.pairwise import cosine_distances

from recsys.metrics import beyond_accuracy
from recsys.metrics.beyond_accuracy import (
    coverage,
    distributions,
    diversity,
    mean_of_listed,
    miscalibration,
    novelty,
    popularity_lift,
    self_information,
    serendipity,
    unit_rows,
)


def test_coverage_counts_each_item_once_and_no_unknown_one():
    lists = np.array([[3, 1, 4], [3, 0, 0]])
    assert coverage(lists, num_items=11, k=3) == 3 / 10
    assert coverage(lists, num_items=11, k=1) == 1 / 10


def test_no_lists_cover_nothing():
    assert coverage(np.zeros((0, 3), dtype=int), num_items=11, k=3) == 0


def test_self_information_is_the_logarithm_of_the_smoothed_share():
    bits = self_information(np.array([99, 3, 0, 2]))
    assert bits == pytest.approx([0, -math.log2(4 / 8), -math.log2(1 / 8), -math.log2(3 / 8)])


def test_novelty_is_the_mean_over_the_items_listed():
    bits = np.array([0.0, 1.0, 3.0, 7.0])
    lists = np.array([[1, 2, 3], [3, 0, 0], [0, 0, 0]])
    assert novelty(lists, self_information_I=bits, k=2).tolist() == [2.0, 7.0, 0.0]
    assert novelty(lists, self_information_I=bits, k=3)[0] == pytest.approx(11 / 3)


LISTS = np.array([[1, 2, 3], [4, 5, 0], [2, 0, 0], [0, 0, 0]])


def test_mean_of_listed_is_over_the_items_listed_and_unknown_for_none():
    values = np.array([99, 10, 20, 60, 5, 6])  # the unknown item's own says nothing
    found = mean_of_listed(LISTS, values_I=values, k=3)
    assert found[:3].tolist() == [30, 5.5, 20]
    assert np.isnan(found[3])
    assert mean_of_listed(LISTS, values_I=values, k=2)[0] == 15


def test_popularity_lift_is_a_power_of_two_and_unknown_without_a_history():
    found = popularity_lift(np.array([7.0, 1.0, 3.0, np.nan]), np.array([3.0, 3.0, np.nan, 3.0]))
    assert found[:2].tolist() == [1, -1]
    assert np.isnan(found[2:]).all()


def test_serendipity_counts_hits_that_popularity_does_not_show_as_early():
    hits = np.array([[True, False, True], [True, True, False], [False] * 3, [False] * 3])
    obvious = np.array([[3, 9, 1], [7, 8, 4], [2, 1, 0], [1, 2, 3]])
    # Item 1 is the third of the obvious ones: too late for k = 2, in time for k = 3; so is item 4.
    assert serendipity(LISTS, hits, obvious_rows_QK=obvious, k=2).tolist() == [1 / 2, 2 / 2, 0, 0]
    assert serendipity(LISTS, hits, obvious_rows_QK=obvious, k=3).tolist() == [0, 1 / 3, 0, 0]


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_diversity_is_the_mean_of_scikit_learns_cosine_distances(as_matrix, monkeypatch):
    monkeypatch.setattr(beyond_accuracy, "_BLOCK_QUERIES", 3)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 4)) * (rng.random((20, 1)) > 0.2)
    lists = np.stack([1 + rng.permutation(19)[:6] for _ in range(10)])
    lists[0, 2:] = 0
    found = diversity(lists, unit_vectors_ID=unit_rows(as_matrix(vectors)), k=5)
    for ranked, value in zip(lists, found, strict=True):
        known = [row for row in ranked[:5] if row and vectors[row].any()]
        pairs = cosine_distances(vectors[known])[np.triu_indices(len(known), 1)] if known else []
        assert value == pytest.approx(np.mean(pairs) if len(pairs) else np.nan, abs=1e-5, nan_ok=True)


def test_one_item_or_none_has_no_diversity_and_equal_ones_have_zero():
    vectors = unit_rows(np.array([[5.0, 5], [1, 0], [3, 0], [7, 0], [0, 0], [0, 1]]))
    found = diversity(LISTS, unit_vectors_ID=vectors, k=3)
    assert found[0] == 0
    assert np.isnan(found[1:]).all()  # item 4 has no vector: one item is left of the second list


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix], ids=["dense", "sparse"])
def test_miscalibration_is_stecks_divergence(as_matrix):
    shares = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1], [0, 0, 0]])
    histories = np.array([[1, 1, 2, 3], [4, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    counts = sparse.csr_matrix(np.stack([np.bincount(one, minlength=6) for one in histories]))
    history = distributions(counts, as_matrix(shares))
    found = miscalibration(LISTS, history_QG=history, shares_IG=as_matrix(shares), k=3)
    p, q = np.array([2, 1.5, 0.5]) / 4, np.array([1, 1.5, 0.5]) / 3
    assert found[0] == pytest.approx(rel_entr(p, 0.99 * q + 0.01 * p).sum())
    assert found[1] == pytest.approx(0, abs=1e-12)  # item 5 has no content, item 4 is the history
    assert np.isnan(found[2:]).all()  # no history; an empty list


def test_list_with_nothing_of_the_history_is_as_miscalibrated_as_can_be():
    shares = np.array([[0, 0], [1, 0], [0, 1.0]])
    history = distributions(sparse.csr_matrix([[0, 1, 0]]), shares)
    found = miscalibration(np.array([[2]]), history_QG=history, shares_IG=shares, k=1)
    assert found[0] == pytest.approx(math.log(100))
