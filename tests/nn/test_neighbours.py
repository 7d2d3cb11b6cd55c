"""What neighbours add, against the arithmetic spelled out."""

import math

import pytest
import torch

from recsys.nn import neighbours as nn_neighbours
from recsys.nn.neighbours import CatalogueNeighbours, Neighbours


@pytest.fixture
def neighbours():
    """Items 1 and 2 are alike, and 2 and 3; 3 was liked four times, 4 never."""
    found = Neighbours(5, weight=10.0)
    items, others = torch.tensor([1, 2, 2, 3]), torch.tensor([2, 1, 3, 2])
    found.put(items, others, torch.tensor([0.5, 0.5, 0.25, 0.25]), torch.tensor([0.0, 1.0, 2.0, 4.0, 0.0]))
    return found


def of_everybody(count, events):
    """Log of the share, of 7 likes and one more of each of 5 rows, in shares of an item; by the events."""
    return math.log((count + 1) / (7 + 5) * 5) / (1 + events)


def test_cosines_of_all_items_of_a_history_are_added(neighbours):
    added = neighbours(torch.tensor([1, 3, 2]), torch.tensor([2, 0, 1]))
    expected = [
        [of_everybody(0, 2), of_everybody(1, 2), 10 * (0.5 + 0.25) + of_everybody(2, 2)],
        [of_everybody(0, 0), of_everybody(1, 0), of_everybody(2, 0)],
        [of_everybody(0, 1), 10 * 0.5 + of_everybody(1, 1), of_everybody(2, 1)],
    ]
    torch.testing.assert_close(added[:, :3], torch.tensor(expected))


def test_popularity_is_the_order_of_whoever_is_not_known(neighbours):
    order = neighbours(torch.zeros(0, dtype=torch.int64), torch.tensor([0]))[0].argsort(descending=True)
    assert order[:3].tolist() == [3, 2, 1]


def test_what_a_history_holds_twice_counts_once(neighbours):
    twice = neighbours(torch.tensor([1, 1]), torch.tensor([2]))
    torch.testing.assert_close(float(twice[0, 2]), 10 * 0.5 + of_everybody(2, 2))


def test_unknown_items_of_a_history_add_nothing(neighbours):
    unknown = neighbours(torch.tensor([0]), torch.tensor([1]))
    torch.testing.assert_close(unknown, neighbours.popularity[None] / 2)


def test_scripted_equals_eager(neighbours):
    arguments = torch.tensor([1, 3, 2, 2, 0]), torch.tensor([2, 0, 3])
    assert torch.equal(torch.jit.script(neighbours)(*arguments), neighbours(*arguments))


def test_a_new_item_borrows_three_quarters_of_what_the_nearest_known_items_get(neighbours, monkeypatch):
    monkeypatch.setattr(nn_neighbours, "_NUM_LENDERS", 2)
    # Of the catalogue 5 is new, and 1 is of row 4, which nobody likes; both lie nearest to 2 and 4.
    rows = torch.tensor([0, 4, 1, 2, 3, 0])
    vectors = torch.tensor([[9.0, 9.0], [3.0, 1.0], [0.1, 0.0], [0.0, 2.0], [1.0, 1.0], [2.0, 1.5]])
    catalogue = CatalogueNeighbours(neighbours, rows, vectors)
    history = torch.tensor([2]), torch.tensor([1])
    by_row, added = neighbours(*history)[0], catalogue(*history)[0]
    borrowed = 0.75 * (by_row[1] + by_row[3]) / 2
    expected = torch.stack([by_row[0], borrowed, by_row[1], by_row[2], by_row[3], borrowed])
    torch.testing.assert_close(added, expected)
    catalogue.append(torch.tensor([[0.1, 5.0]]), vectors)
    after = catalogue(*history)[0]
    assert torch.equal(torch.jit.script(catalogue)(*history)[0], after)
    torch.testing.assert_close(after[:-1], expected)
    torch.testing.assert_close(after[-1], 0.75 * (by_row[2] + by_row[3]) / 2)


def test_where_nothing_is_known_nothing_is_borrowed():
    catalogue = CatalogueNeighbours(Neighbours(3, weight=1.0), torch.tensor([0, 1, 2]), torch.ones(3, 2))
    assert torch.equal(catalogue(torch.tensor([1]), torch.tensor([1])), torch.zeros(1, 3))
