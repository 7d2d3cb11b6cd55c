"""Coverage and novelty against arithmetic by hand."""

import math

import numpy as np
import pytest

from recsys.metrics.beyond_accuracy import coverage, novelty, self_information


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
