"""Rows of a newer dataset, where they were in an earlier one."""

import logging

import pytest

from recsys.data.dataset import PreparedDataset
from recsys.data.growth import earlier_rows
from tests.data.preparing import prepared

SPLIT = {"split_fractions": (1.0, 0.0, 0.0)}
FIRST = {"user_id": [1, 1, 2, 2, 2], "item_id": ["a", "b", "a", "c", "d"], "timestamp": [1, 2, 3, 4, 5]}
# b is now the most frequent, then a, e, c; d is gone.
SECOND = {
    "user_id": [1, 2, 3, 3, 3, 1, 1],
    "item_id": ["b", "b", "b", "a", "e", "a", "c"],
    "timestamp": [6, 7, 8, 9, 10, 11, 12],
}
ITEMS = {"item_id": ["a", "b", "c", "d"], "price": [1.0, 2.0, 3.0, 4.0]}
FEATURES = {
    "price": {"kind": "numeric", "transform": "bucketise", "num_buckets": 8},
    "dear": {"kind": "numeric", "column": "price"},
}


def opened(folder, events, **changes):
    return PreparedDataset.open(prepared(folder, events, **SPLIT, **changes))


def test_rows_are_found_by_value_in_another_order(tmp_path):
    first, second = opened(tmp_path / "1", FIRST), opened(tmp_path / "2", SECOND)
    rows = earlier_rows(second, first)
    # first: a 1, b 2, c 3, d 4; second: b 1, a 2, c 3, e 4
    assert rows["item_id"].tolist() == [0, 2, 1, 3, 0]
    # first: 2 1, 1 2; second: 1 1, 3 2, 2 3
    assert rows["user_id"].tolist() == [0, 2, 0, 1]
    assert rows["hour"].tolist() == list(range(25))


def test_extended_rows_are_where_they_were(tmp_path):
    first = opened(tmp_path / "1", FIRST)
    rows = earlier_rows(opened(tmp_path / "2", SECOND, extends=str(first.path)), first)
    assert rows["item_id"].tolist() == [0, 1, 2, 3, 4, 0]
    assert rows["user_id"].tolist() == [0, 1, 2, 0]


def test_whole_numbers_are_found_among_text(tmp_path):
    numbers = {"user_id": [1, 1, 1], "item_id": [7, 7, 8], "timestamp": [1, 2, 3]}
    text = {"user_id": [1, 1, 1], "item_id": ["new", "new", "8"], "timestamp": [4, 5, 6]}
    rows = earlier_rows(opened(tmp_path / "2", text), opened(tmp_path / "1", numbers))
    assert rows["item_id"].tolist() == [0, 0, 2]


def test_bucket_was_where_its_lower_edge_fell(tmp_path, caplog):
    first = opened(tmp_path / "1", FIRST, items=ITEMS, item_features=FEATURES)
    assert first.schema["price"].boundaries == (2.0, 3.0, 4.0)
    dear = {**ITEMS, "price": [1.5, 3.0, 9.0, 1.7]}
    second = opened(tmp_path / "2", SECOND, items=dear, item_features=FEATURES)
    assert second.schema["price"].boundaries == (3.0, 9.0)
    with caplog.at_level(logging.WARNING):
        rows = earlier_rows(second, first)
    # below 3 was bucket 1 (the lowest); 3 lay in [3, 4), bucket 3; 9 lay from 4 on, bucket 4
    assert rows["price"].tolist() == [0, 1, 3, 4]
    assert "scaled otherwise than when the model was trained: `dear` (mean 2.2 and deviation" in caplog.text


def test_other_features_are_named(tmp_path):
    first = opened(tmp_path / "1", FIRST, items=ITEMS, item_features=FEATURES)
    second = opened(tmp_path / "2", SECOND)
    with pytest.raises(ValueError, match=r"`price` is missing; `dear` is missing; prepare .*data.extends="):
        earlier_rows(second, first)
