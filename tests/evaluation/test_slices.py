"""Slices against small cases spelled out."""

import numpy as np
import pytest

from recsys.evaluation.slices import (
    HEAD,
    MIDDLE,
    NEW,
    TAIL,
    answer_slices,
    history_slices,
    item_classes,
    item_slices,
    time_slices,
    user_slices,
)

DAY_US = 86_400_000_000


def members(slices):
    return {one.name: np.flatnonzero(one.mask).tolist() for one in slices}


def test_head_middle_and_tail_hold_a_third_of_the_positives_each():
    counts = np.array([99, 30, 20, 10, 9, 8, 6, 4, 3, 0])  # the unknown item's own count says nothing
    assert item_classes(counts).tolist() == [NEW, HEAD, MIDDLE, MIDDLE, TAIL, TAIL, TAIL, TAIL, TAIL, NEW]


def test_equally_popular_items_are_of_one_class():
    assert item_classes(np.array([0, 5, 5, 5, 1])).tolist() == [NEW, HEAD, HEAD, HEAD, TAIL]


def test_items_weigh_as_much_as_the_positives_they_hold():
    assert item_classes(np.array([0, 4, 4, 4, 4, 6, 2])).tolist() == [NEW, *[HEAD] * 5, TAIL]


def test_nothing_in_train_makes_every_item_new():
    assert item_classes(np.zeros(3, dtype=np.int64)).tolist() == [NEW] * 3


def test_users_are_cold_warm_or_hot_by_their_history():
    found = members(user_slices(np.array([0, 1, 4, 5, 9]), hot_history=5))
    assert found == {"cold": [0], "warm": [1, 2], "hot": [3, 4]}


def test_steps_of_the_history_take_in_every_length_once():
    found = members(history_slices(np.array([0, 1, 4, 5, 199, 200, 5000])))
    assert (found["0"], found["1-4"], found["5-9"], found["100-199"]) == ([0], [1, 2], [3], [4])
    assert found["200+"] == [5, 6]
    assert sum(len(one) for one in found.values()) == 7


def test_steps_of_time_are_equal_and_count_days_since_train():
    times = 10 * DAY_US + DAY_US * np.array([1, 3, 5, 8, 9], dtype=np.int64)
    found = list(time_slices(times, train_end_us=10 * DAY_US))
    assert [one.name for one in found][:2] == ["1.0-2.0", "2.0-3.0"]
    assert [np.flatnonzero(one.mask).tolist() for one in found] == [[0], [], [1], [], [2], [], [], [3, 4]]


def test_one_instant_has_no_steps_of_time():
    assert not list(time_slices(np.array([5, 5]), train_end_us=0))
    assert not list(time_slices(np.array([], dtype=np.int64), train_end_us=0))


def test_item_slices_keep_their_class_and_their_members():
    classes = np.array([NEW, HEAD, MIDDLE, TAIL, TAIL])
    rows = np.array([4, 1, 0])
    slices = list(item_slices(classes, holding=lambda items: items[rows]))
    assert members(slices) == {"new": [2], "tail": [0], "middle": [], "head": [1]}
    assert {one.name: np.flatnonzero(one.items).tolist() for one in slices} == {
        "new": [0],
        "tail": [3, 4],
        "middle": [2],
        "head": [1],
    }


@pytest.mark.parametrize("hot", [1, 2])
def test_every_user_is_in_one_of_the_three_slices(hot):
    masks = np.stack([one.mask for one in user_slices(np.arange(6), hot_history=hot)])
    assert masks.sum(axis=0).tolist() == [1] * 6


def test_answers_are_known_or_new_where_there_are_both():
    counts = np.array([7, 3, 0, 2])  # row 0 stands for what is outside the catalogue: new
    relevant = [{1}, {2}, {0}, {1, 2}]

    def holding(items):
        return np.array([any(items[row] for row in rows) for rows in relevant])

    pieces = list(answer_slices(counts, holding=holding))
    assert members(pieces) == {"known": [0, 3], "new": [1, 2, 3]}
    assert pieces[0].items.tolist() == [False, True, False, True]
    relevant = [{1}, {3}]
    assert list(answer_slices(counts, holding=holding)) == []
