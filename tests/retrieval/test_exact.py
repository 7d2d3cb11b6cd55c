"""Exact retrieval against sorting everything in Python."""

import math

import pytest
import torch

from recsys.retrieval import exact
from recsys.retrieval.exact import top_k, top_k_of_scores
from recsys.schema.jagged import JaggedColumn


def sorted_lists(scores, k, seen):
    """(scores, rows) by sorting all items of each query on (score descending, row ascending)."""
    lists = []
    for query, row in enumerate(scores.tolist()):
        allowed = [item for item in range(1, len(row)) if item not in seen[query] and row[item] > -math.inf]
        best = sorted(allowed, key=lambda item, row=row: (-row[item], item))[:k]
        lists.append(([row[item] for item in best], best))
    missing = [k - len(best) for _, best in lists]
    return (
        torch.tensor([values + [-math.inf] * n for (values, _), n in zip(lists, missing, strict=True)]),
        torch.tensor([best + [0] * n for (_, best), n in zip(lists, missing, strict=True)]),
    )


def make_world(num_queries, num_items, *, num_levels, num_seen):
    """Whole-number vectors, whose products are exact and often equal, and random seen items."""
    torch.manual_seed(num_items)
    queries = torch.randint(-num_levels, num_levels + 1, (num_queries, 3)).float()
    candidates = torch.randint(-num_levels, num_levels + 1, (num_items, 3)).float()
    seen = [set(torch.randint(0, num_items, (num_seen,)).tolist()) for _ in range(num_queries)]
    return queries, candidates, seen, JaggedColumn.of_lists([sorted(items) for items in seen])


@pytest.mark.parametrize("num_levels", [1, 1000])
@pytest.mark.parametrize(("num_items", "k"), [(40, 5), (9001, 7)])
def test_lists_equal_sorting_everything(num_items, k, num_levels):
    queries, candidates, seen, masked = make_world(23, num_items, num_levels=num_levels, num_seen=20)
    scores, rows = top_k(queries, candidates, k, seen=masked)
    expected_scores, expected_rows = sorted_lists(queries @ candidates.T, k, seen)
    assert torch.equal(rows, expected_rows)
    assert torch.equal(scores, expected_scores)
    dense_scores, dense_rows = top_k_of_scores(queries @ candidates.T, k, seen=masked)
    assert torch.equal(dense_rows, expected_rows)
    assert torch.equal(dense_scores, expected_scores)


@pytest.mark.parametrize("num_levels", [1, 1000])
def test_blocks_do_not_change_the_lists(monkeypatch, num_levels):
    queries, candidates, seen, masked = make_world(23, 500, num_levels=num_levels, num_seen=20)
    monkeypatch.setattr(exact, "_BLOCK_ITEMS", 64)
    monkeypatch.setattr(exact, "_BLOCK_SCORES", 64 * 5)
    monkeypatch.setattr(exact, "_MIN_BLOCK_QUERIES", 1)
    scores, rows = top_k(queries, candidates, 6, seen=masked)
    expected_scores, expected_rows = sorted_lists(queries @ candidates.T, 6, seen)
    assert torch.equal(rows, expected_rows)
    assert torch.equal(scores, expected_scores)


def test_best_item_in_the_remainder_of_the_groups_is_found():
    scores = -torch.arange(5003.0)[None]
    scores[0, -1] = 1
    assert top_k_of_scores(scores, 5)[1].tolist() == [[5002, 1, 2, 3, 4]]


def test_tie_between_groups_goes_to_the_lower_row():
    scores = -torch.arange(9000.0)[None]
    scores[0, [10, 12]] = 5
    for best in range(14, 9000, 7):  # for some of them item 12 shares its group, which is then searched first
        ranked = scores.clone()
        ranked[0, best] = 9
        assert top_k_of_scores(ranked, 5)[1].tolist() == [[best, 10, 12, 1, 2]]


@pytest.mark.parametrize("num_items", [20, 200])
def test_tie_at_the_end_of_the_list_goes_to_the_lower_row(num_items):
    scores = torch.zeros(num_items, num_items)
    scores.fill_diagonal_(1)
    ranked = top_k_of_scores(scores[3:], 2)[1].tolist()
    assert ranked == [[row, 1] for row in range(3, num_items)]


def test_unknown_item_is_never_returned():
    assert top_k(torch.ones(1, 1), torch.tensor([[9.0], [1.0], [2.0]]), 2)[1].tolist() == [[2, 1]]
    assert top_k_of_scores(torch.tensor([[9.0, 1.0, 2.0]]), 2)[1].tolist() == [[2, 1]]


def test_list_longer_than_what_is_left_ends_in_row_zero():
    seen = JaggedColumn.of_lists([[2]])
    expected_scores, expected_rows = [[3.0, 1.0, -math.inf, -math.inf, -math.inf]], [[3, 1, 0, 0, 0]]
    scores, rows = top_k(torch.ones(1, 1), torch.tensor([[9.0], [1.0], [2.0], [3.0]]), 5, seen=seen)
    assert (scores.tolist(), rows.tolist()) == (expected_scores, expected_rows)
    scores, rows = top_k_of_scores(torch.tensor([[9.0, 1.0, 2.0, 3.0]]), 5, seen=seen)
    assert (scores.tolist(), rows.tolist()) == (expected_scores, expected_rows)


def test_all_items_seen_gives_an_empty_list():
    seen = JaggedColumn.of_lists([[1, 2]])
    assert top_k(torch.ones(1, 1), torch.ones(3, 1), 2, seen=seen)[1].tolist() == [[0, 0]]


def test_no_queries_give_no_lists():
    scores, rows = top_k(torch.ones(0, 2), torch.ones(3, 2), 2)
    assert scores.shape == rows.shape == (0, 2)


def test_scores_given_are_left_as_they_are():
    scores = torch.ones(1, 3)
    top_k_of_scores(scores, 2, seen=JaggedColumn.of_lists([[1]]))
    assert scores.tolist() == [[1.0, 1.0, 1.0]]


@pytest.mark.parametrize("num_items", [10, 9000])
def test_score_that_is_not_a_number_is_refused(num_items):
    candidates = torch.ones(num_items, 1)
    candidates[num_items // 2] = math.nan
    with pytest.raises(ValueError, match="not a number"):
        top_k(torch.ones(2, 1), candidates, 3)


def test_what_is_added_counts_in_every_block(monkeypatch):
    queries, candidates, seen, masked = make_world(23, 500, num_levels=1000, num_seen=20)
    added = torch.randint(-2000, 2001, (23, 500)).float()
    monkeypatch.setattr(exact, "_BLOCK_ITEMS", 64)
    monkeypatch.setattr(exact, "_BLOCK_SCORES", 64 * 5)
    monkeypatch.setattr(exact, "_MIN_BLOCK_QUERIES", 1)
    scores, rows = top_k(queries, candidates, 6, seen=masked, added_BI=added)
    expected_scores, expected_rows = sorted_lists(queries @ candidates.T + added, 6, seen)
    assert torch.equal(rows, expected_rows)
    assert torch.equal(scores, expected_scores)
