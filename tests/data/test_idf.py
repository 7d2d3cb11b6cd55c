"""Weights of words and tags, by how rare they are among the items of train."""

import math

import pytest

from recsys.data.dataset import PreparedDataset
from tests.data.preparing import prepared

ITEMS = {"item_id": ["a", "b", "c", "d"], "tags": ["x|y|x", "x", "z|x", "w"]}
EVENTS = {"user_id": [1, 1, 1, 2], "item_id": ["a", "b", "b", "a"], "timestamp": [1, 2, 3, 4]}


def opened(folder, events=EVENTS, items=ITEMS, **changes):
    settings = {"split": "random", "split_fractions": (1.0, 0.0, 0.0), **changes}
    return PreparedDataset.open(prepared(folder, events, items=items, **settings))


def test_a_tag_weighs_by_the_items_of_train_that_have_it_and_nothing_where_none_has(tmp_path):
    features = {"tags": {"kind": "multi_id", "encoder": "hash", "num_buckets": 997, "pooling": "idf"}}
    dataset = opened(tmp_path, item_features=features)
    feature = dataset.schema["tags"]
    rows = dataset.items.ids["tags"].to_dense()
    by_item = {item: row.tolist() for item, row in zip(dataset.item_ids, rows, strict=True)}
    x, y = by_item["b"][0], by_item["a"][1]
    z, w = by_item["c"][0], by_item["d"][0]
    # Two items, a and b, have events in train; x is a tag of both, y of one, z and w of none.
    assert feature.idf[x] == pytest.approx(math.log(3 / 3) + 1, abs=1e-4)
    assert feature.idf[y] == pytest.approx(math.log(3 / 2) + 1, abs=1e-4)
    assert feature.idf[z] == feature.idf[w] == feature.idf[0] == 0
    assert len(feature.idf) == feature.num_rows == 998


def test_words_weigh_likewise_and_means_need_no_weights(tmp_path):
    items = {**ITEMS, "title": ["red Red hat", "red", "blue", "green"]}
    features = {
        "title": {"kind": "text", "num_buckets": 500, "pooling": "idf"},
        "tags": {"kind": "multi_id"},
    }
    schema = opened(tmp_path, items=items, item_features=features).schema
    assert sorted(weight for weight in schema["title"].idf if weight) == pytest.approx(
        [1, math.log(3 / 2) + 1], abs=1e-4
    )
    assert schema["tags"].idf == ()


def test_an_unknown_pooling_is_refused(tmp_path):
    with pytest.raises(ValueError, match="feature `tags`: `pooling` must be one of mean, idf, got `max`"):
        opened(tmp_path, item_features={"tags": {"kind": "multi_id", "pooling": "max"}})


def test_extending_keeps_the_weights_that_rows_had(tmp_path):
    features = {"tags": {"kind": "multi_id", "pooling": "idf"}}
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old = opened(tmp_path / "old", item_features=features)
    more = {
        "user_id": [3, *EVENTS["user_id"]],
        "item_id": ["c", *EVENTS["item_id"]],
        "timestamp": [5, 1, 2, 3, 4],
    }
    new = opened(tmp_path / "new", events=more, item_features=features, extends=str(old.path))
    before, after = old.schema["tags"].idf, new.schema["tags"].idf
    assert len(before) == 3
    assert after[:3] == before
    # z, which the third item brings: one item of three has it.
    assert after[3:] == pytest.approx([math.log(4 / 2) + 1], abs=1e-4)
