"""A share of the places of a list goes to items that were shown little."""

import pytest
import torch

from recsys.serving.bundle import Bundle
from recsys.serving.exploration import explored
from recsys.serving.values import RequestError

ROWS = torch.tensor([5, 2, 9, 4, 7, 1, 3, 8, 6, 10])
SCORES = torch.arange(10, 0, -1).float()


def listed(share, few, more):
    is_few = torch.zeros(30, dtype=torch.bool)
    is_few[list(few)] = True
    rows, scores = explored(
        (ROWS, SCORES),
        share,
        is_few,
        lambda k: (torch.tensor(more[:k]), torch.tensor([0.5] * len(more[:k]))),
    )
    assert len(rows) == len(scores) == 10
    return rows.tolist()


def test_places_at_even_distances_are_those_of_the_last_items():
    assert listed(0.2, (20, 21, 22), [20, 21, 22]) == [5, 2, 9, 4, 20, 7, 1, 3, 8, 21]


def test_what_the_list_has_already_counts_and_stays():
    assert listed(0.2, (10, 20, 21), [10, 20, 21]) == [5, 2, 9, 4, 7, 1, 3, 8, 10, 20]
    assert listed(0.2, (5, 10), [5, 10]) == ROWS.tolist()


def test_where_too_few_were_shown_little_the_list_keeps_its_own():
    assert listed(0.5, (20,), [20]) == [5, 2, 9, 4, 7, 1, 3, 8, 6, 20]
    assert listed(0.04, (20,), [20]) == ROWS.tolist()  # less than half a place


def test_bundle_explores_what_it_has_shown_little_and_counts(retrieval_folder, market):
    bundle, ids = Bundle.open(retrieval_folder), market.item_ids[1:].tolist()
    plain = bundle.recommend({}, [], 10)[0]
    least = set(ids) - set(plain)
    bundle.count_impressions(plain * 100)
    explored_ids = bundle.recommend({}, [], 10, explore=0.3, explore_below=100)[0]
    assert explored_ids[:2] == plain[:2]
    assert len(set(explored_ids) & least) == 3
    assert bundle.count_impressions([*least, "nobody's"]) == len(least)
    bundle.count_impressions([*least] * 100)
    assert bundle.recommend({}, [], 10, explore=0.3, explore_below=100)[0] == plain
    with pytest.raises(RequestError, match="`explore` must be a number from 0 to 1"):
        bundle.recommend({}, [], 10, explore=3)
