"""Jagged columns against Python's own lists."""

import itertools
import random

import pytest
import torch

from recsys.schema.jagged import JaggedColumn, concatenated

LISTS = [[8, 3, 9], [], [1], [5, 5, 2, 7]]


def test_lists_make_the_round_trip():
    column = JaggedColumn.of_lists(LISTS)
    assert column.lists() == LISTS
    assert column.values.tolist() == [8, 3, 9, 1, 5, 5, 2, 7]
    assert column.offsets.tolist() == [0, 3, 3, 4, 8]
    assert column.rows.tolist() == [0, 0, 0, 2, 3, 3, 3, 3]
    assert len(column) == 4


def test_rows_come_in_the_order_asked_for_and_may_repeat():
    chosen = JaggedColumn.of_lists(LISTS).at(torch.tensor([3, 0, 0, 1]))
    assert chosen.lists() == [LISTS[3], LISTS[0], LISTS[0], []]
    assert chosen.compact().values.tolist() == [*LISTS[3], *LISTS[0], *LISTS[0]]


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_the_latest_elements_are_the_last_ones(count):
    column = JaggedColumn.of_lists(LISTS)
    expected = [rows[len(rows) - min(count, len(rows)) :] for rows in LISTS]
    assert column.latest(count).lists() == expected
    assert column.select(slice(1, 4), at_most=count).lists() == expected[1:]


def test_lists_may_overlap_and_leave_values_out():
    values = torch.arange(10, 20, dtype=torch.int32)
    column = JaggedColumn(values, starts=torch.tensor([4, 0, 3]), ends=torch.tensor([6, 0, 6]))
    assert column.lists() == [[14, 15], [], [13, 14, 15]]
    assert column.compact().values.dtype == torch.int32
    assert column.of(values * 2).lists() == [[28, 30], [], [26, 28, 30]]


def test_columns_follow_one_another_whatever_their_values_are():
    random.seed(0)
    parts = [[[random.randrange(99) for _ in range(random.randrange(4))] for _ in range(5)] for _ in range(3)]
    columns = [JaggedColumn.of_lists(part).at(torch.tensor([4, 2, 2])) for part in parts]
    expected = [[part[4], part[2], part[2]] for part in parts]
    assert concatenated(columns).lists() == [*itertools.chain.from_iterable(expected)]


def test_nothing_is_a_column_too():
    column = JaggedColumn.of_lists([])
    assert (len(column), column.lists(), column.offsets.tolist()) == (0, [], [0])
    assert column.compact().values.numel() == 0


def test_offsets_of_lists_that_do_not_lie_end_to_end_are_refused():
    column = JaggedColumn.of_lists(LISTS)
    for part in (column.at(torch.tensor([1, 3])), column.latest(1)):
        with pytest.raises(AssertionError, match="compact first"):
            _ = part.offsets
        assert part.compact().offsets[0] == 0
