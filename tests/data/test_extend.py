"""Extending a prepared dataset: known rows and numbers stay what they were."""

import dataclasses
import json

import pyarrow.parquet as pq
import pytest

from recsys.data.options import Columns
from recsys.data.prepare import prepare
from recsys.schema.manifest import read_station
from tests.data.preparing import by_id, column, events_of, options_for, prepared

FIRST = {
    "user_id": ["ann", "bob", "ann", "cid", "bob", "ann"],
    "item_id": [3, 3, 5, 5, 9, 9],
    "timestamp": [100, 200, 300, 400, 500, 600],
}
# Item 7 becomes the most frequent one, and 5 is not seen any more.
SECOND = {
    "user_id": ["dan", "dan", "eve", "eve", "ann", "bob", "dan"],
    "item_id": [7, 3, 7, 9, 7, 7, 8],
    "timestamp": [700, 710, 720, 730, 740, 750, 760],
}
ITEMS = {"item_id": [3, 5, 7, 9], "price": [1.0, 2.0, 30.0, 4.0], "genre": ["a", "b", "c", "a"]}
ITEM_FEATURES = {
    "price": {"kind": "numeric", "transform": "standardise"},
    "level": {"kind": "numeric", "column": "price", "transform": "bucketise", "num_buckets": 2},
    "genre": {"kind": "id"},
}
SPLIT = {"split_fractions": (1.0, 0.0, 0.0)}


def vocabulary(station, table):
    return pq.read_table(station / "vocabularies" / f"{table}.parquet").to_pydict()


def fitted(station):
    return {f["name"]: f for f in json.loads((station / "schema.json").read_text())["features"]}


@pytest.fixture
def first(tmp_path):
    return prepared(tmp_path / "first", FIRST, items=ITEMS, item_features=ITEM_FEATURES, **SPLIT)


def extend(first, tmp_path, events=SECOND, **changes):
    settings = {"items": ITEMS, "item_features": ITEM_FEATURES, **SPLIT, "extends": str(first), **changes}
    return prepared(tmp_path / "second", events, **settings)


def test_known_values_keep_their_rows_and_new_ones_follow(first, tmp_path):
    second = extend(first, tmp_path)
    assert vocabulary(first, "item_id")["value"] == [3, 5, 9]
    # 5 does not occur any more; of the new ones 7 is more frequent than 8.
    assert vocabulary(second, "item_id") == {
        "row": [1, 2, 3, 4, 5],
        "value": [3, 5, 9, 7, 8],
        "count": [1, 0, 1, 4, 1],
    }
    assert vocabulary(second, "user_id")["value"] == ["ann", "bob", "cid", "dan", "eve"]
    assert fitted(second)["history"]["num_rows"] == 6
    rows = by_id(second, "items", "item_id_row")
    assert {item: rows[item] for item in (3, 5, 9, 7, 8)} == {3: 1, 5: 2, 9: 3, 7: 4, 8: 5}


def test_numbers_keep_their_meaning(first, tmp_path):
    second = extend(first, tmp_path)
    alone = extend(first, tmp_path, extends=None)
    for name, field in (("price", "mean"), ("price", "std"), ("level", "boundaries")):
        assert fitted(second)[name][field] == fitted(first)[name][field]
        assert fitted(second)[name][field] != fitted(alone)[name][field]
    kept = [by_id(station, "items", "price")[9] for station in (first, second, alone)]
    assert kept[0] == kept[1] != kept[2]


def test_ids_may_become_text(first, tmp_path):
    second = extend(first, tmp_path, {**SECOND, "item_id": ["7", "3", "7", "9", "7", "7", "new"]})
    assert vocabulary(second, "item_id")["value"] == ["3", "5", "9", "7", "new"]


def test_manifest_names_what_was_extended(first, tmp_path):
    manifest = read_station(extend(first, tmp_path), "prepared")
    assert manifest["source"] == read_station(first, "prepared")["fingerprint"]
    assert manifest["config"]["extends"] == str(first)
    assert manifest["leakage"]["vocabularies_from_train_alone"]["passed"]


def test_inferred_features_are_those_of_before(tmp_path):
    before = {"item_id": [3, 5, 9], "tag": ["x", "y", "x"]}
    first = prepared(tmp_path / "first", FIRST, items=before, **SPLIT)
    # Alone, `tag` would be inferred to be multi-valued.
    after = {"item_id": [3, 5, 9, 7], "tag": ["x|y", "y|z", "x|z", "z|x"]}
    second = extend(first, tmp_path, items=after, item_features=None)
    assert fitted(second)["tag"]["kind"] == fitted(first)["tag"]["kind"] == "id"
    assert fitted(extend(first, tmp_path, items=after, item_features=None, extends=None))["tag"]["kind"] == (
        "multi_id"
    )


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"genre": {"kind": "id"}}, "`price` is missing; `level` is missing"),
        ({**ITEM_FEATURES, "x": {"kind": "id", "column": "genre"}}, "`x` is new"),
        (
            {**ITEM_FEATURES, "genre": {"kind": "id", "encoder": "hash", "num_buckets": 9}},
            "`genre` has encoder 'hash', it had 'vocabulary'; `genre` has num_buckets 9, it had 0",
        ),
        (dict(reversed(ITEM_FEATURES.items())), "the order is user_id, .*, it was user_id"),
    ],
)
def test_other_features_are_refused(first, tmp_path, features, message):
    with pytest.raises(ValueError, match=message):
        extend(first, tmp_path, item_features=features)


def test_missing_station_is_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match=r"expected a prepared station at .*nowhere"):
        extend(tmp_path / "nowhere", tmp_path)
    assert not (tmp_path / "second" / "cache").exists()


def test_what_comes_later_is_not_there_yet(tmp_path):
    station = prepared(tmp_path, FIRST, until=500, **SPLIT)
    assert events_of(station, "train")[-1] == ("cid", 5, 400_000_000)
    assert 9 not in column(station, "items.parquet", "item_id")


def test_data_of_two_instants_are_two_datasets(tmp_path):
    options = options_for(tmp_path, FIRST, **SPLIT)
    early, late = (prepare(dataclasses.replace(options, until=until)) for until in (400, None))
    assert early != late


def test_nothing_before_the_instant_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`data\.until=50` leaves no interaction"):
        prepared(tmp_path, FIRST, until=50, **SPLIT)


def test_instant_needs_timestamps(tmp_path):
    columns = Columns(timestamp=None)
    with pytest.raises(ValueError, match=r"`data\.until=5` needs timestamps"):
        prepared(tmp_path, FIRST, until=5, split="random", columns=dataclasses.asdict(columns))
