"""Ranking metrics against plain re-implementations, scikit-learn and arithmetic by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from recsys.metrics.ranking import (
    average_precision,
    find_hits,
    hit_rate,
    mrr,
    ndcg,
    precision,
    ranking_metrics,
    recall,
)

CATALOGUE = 30
LENGTH = 12


@pytest.fixture
def worlds():
    """200 random lists of distinct items, each with 1 to 20 relevant ones."""
    rng = np.random.default_rng(0)
    lists = [list(1 + rng.permutation(CATALOGUE)[:LENGTH]) for _ in range(200)]
    relevant = [set(1 + rng.permutation(CATALOGUE)[: rng.integers(1, 21)]) for _ in range(200)]
    return lists, relevant


def arrays(lists, relevant):
    hits = np.array(
        [[item in wanted for item in ranked] for ranked, wanted in zip(lists, relevant, strict=True)]
    )
    return hits, np.array([len(wanted) for wanted in relevant])


def slow_metrics(ranked, relevant, k):
    """Textbook definitions, one list at a time."""
    top = ranked[:k]
    found = [item for item in top if item in relevant]
    gain = sum(1 / math.log2(rank + 1) for rank, item in enumerate(top, start=1) if item in relevant)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    ranks = [rank for rank, item in enumerate(top, start=1) if item in relevant]
    precisions = [number / rank for number, rank in enumerate(ranks, start=1)]
    return {
        f"hit_rate@{k}": float(bool(found)),
        f"recall@{k}": len(found) / len(relevant),
        f"precision@{k}": len(found) / k,
        f"ndcg@{k}": gain / ideal,
        f"mrr@{k}": 1 / ranks[0] if ranks else 0.0,
        f"map@{k}": sum(precisions) / min(k, len(relevant)),
    }


@pytest.mark.parametrize("k", [1, 5, LENGTH])
def test_every_metric_equals_its_textbook_loop(worlds, k):
    lists, relevant = worlds
    values = ranking_metrics(*arrays(lists, relevant), ks=[k])
    for query, (ranked, wanted) in enumerate(zip(lists, relevant, strict=True)):
        for key, expected in slow_metrics(ranked, wanted, k).items():
            assert values[key][query] == pytest.approx(expected, abs=1e-9), key


def test_ndcg_and_average_precision_equal_scikit_learn(worlds):
    lists, relevant = worlds
    hits, num_relevant = arrays(lists, relevant)
    gains = np.array([[float(item in wanted) for item in range(1, CATALOGUE + 1)] for wanted in relevant])
    scores = np.full(gains.shape, -1.0)
    for query, ranked in enumerate(lists):
        scores[query, np.array(ranked) - 1] = np.arange(LENGTH, 0, -1)
    values = ndcg(hits, num_relevant, k=LENGTH)
    expected = [ndcg_score(gains[[q]], scores[[q]], k=LENGTH) for q in range(len(lists))]
    assert values == pytest.approx(expected, abs=1e-6)
    whole = [q for q in range(len(lists)) if hits[q].sum() == num_relevant[q]]
    expected = [average_precision_score(hits[q], np.arange(LENGTH, 0, -1)) for q in whole]
    assert len(whole) > 3
    assert average_precision(hits, num_relevant, k=LENGTH)[whole] == pytest.approx(expected, abs=1e-6)


def test_values_spelled_out_for_one_list():
    hits, num_relevant = np.array([[False, True, False, True]]), np.array([3])
    assert hit_rate(hits, num_relevant, k=4)[0] == 1
    assert recall(hits, num_relevant, k=4)[0] == pytest.approx(2 / 3)
    assert precision(hits, num_relevant, k=4)[0] == pytest.approx(2 / 4)
    assert mrr(hits, num_relevant, k=4)[0] == pytest.approx(1 / 2)
    assert average_precision(hits, num_relevant, k=4)[0] == pytest.approx((1 / 2 + 2 / 4) / 3)
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert ndcg(hits, num_relevant, k=4)[0] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)


def test_hits_beyond_the_cut_off_count_for_nothing():
    hits, num_relevant = np.array([[False, False, True]]), np.array([1])
    for key, value in ranking_metrics(hits, num_relevant, ks=[2]).items():
        assert value[0] == 0, key


def test_ideal_list_of_more_relevant_items_than_ranks_has_full_ndcg_and_map_but_not_recall():
    hits, num_relevant = np.ones((1, 5), dtype=bool), np.array([20])
    assert ndcg(hits, num_relevant, k=5)[0] == pytest.approx(1)
    assert average_precision(hits, num_relevant, k=5)[0] == pytest.approx(1)
    assert recall(hits, num_relevant, k=5)[0] == pytest.approx(5 / 20)


def test_query_without_relevant_items_has_zero_everywhere():
    values = ranking_metrics(np.zeros((1, 3), dtype=bool), np.array([0]), ks=[3])
    assert {float(value[0]) for value in values.values()} == {0.0}


def test_no_queries_give_empty_values():
    values = ranking_metrics(np.zeros((0, 3), dtype=bool), np.zeros(0, dtype=int), ks=[1, 3])
    assert {value.shape for value in values.values()} == {(0,)}


@pytest.mark.parametrize("k", [0, 4])
def test_cut_off_outside_the_list_is_refused(k):
    with pytest.raises(ValueError, match=f"between 1 and the length of the lists, 3; got {k}"):
        recall(np.zeros((1, 3), dtype=bool), np.array([1]), k=k)


def test_find_hits_equals_set_membership(worlds):
    lists, relevant = worlds
    values = np.concatenate([sorted(wanted) for wanted in relevant])
    offsets = np.concatenate([[0], np.cumsum([len(wanted) for wanted in relevant])])
    hits, num_relevant = find_hits(np.array(lists), relevant_rows_V=values, relevant_offsets=offsets)
    expected_hits, expected_counts = arrays(lists, relevant)
    assert (hits == expected_hits).all()
    assert (num_relevant == expected_counts).all()


def test_unknown_items_are_never_hits_but_count_as_relevant():
    hits, num_relevant = find_hits(
        np.array([[0, 2, 0], [1, 0, 0]]),
        relevant_rows_V=np.array([0, 2, 0]),
        relevant_offsets=np.array([0, 2, 3]),
    )
    assert hits.tolist() == [[False, True, False], [False, False, False]]
    assert num_relevant.tolist() == [2, 1]


def test_item_relevant_twice_counts_once():
    hits, num_relevant = find_hits(
        np.array([[4, 7]]), relevant_rows_V=np.array([7, 7, 7]), relevant_offsets=np.array([0, 3])
    )
    assert recall(hits, num_relevant, k=2)[0] == 1


def test_find_hits_with_nothing_relevant_finds_nothing():
    hits, num_relevant = find_hits(
        np.array([[4, 7]]), relevant_rows_V=np.array([], dtype=int), relevant_offsets=np.array([0, 0])
    )
    assert not hits.any()
    assert num_relevant.tolist() == [0]
