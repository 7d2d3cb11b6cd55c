"""Neighbours of items, found again in plain Python."""

import math
import random

import numpy as np
import pytest
import yaml

from recsys.data.options import NeighbourOptions, StatisticOptions
from recsys.data.preparing import neighbours
from recsys.data.preparing.neighbours import nearest_items
from recsys.schema.tables import encoded_column
from tests.data.preparing import STARS, by_id, column, prepared, rows_of

EVENTS = {
    "user_id": [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 1, 2],
    "item_id": [10, 11, 12, 10, 11, 12, 10, 11, 12, 10, 11, 12, 13, 13],
    # Who likes 10 likes 11 and not 12; 13 comes after train.
    "stars": [5, 5, 1, 1, 1, 5, 5, 4, 2, 2, 1, 4, 5, 5],
    "timestamp": list(range(14)),
    "part": ["train"] * 12 + ["validation", "test"],
}
SPLIT = {"split": "predefined", "columns": {"split": "part"}}
FEW = NeighbourOptions(number=2, shrinkage=1)


def station(folder, events=EVENTS, **changes):
    return prepared(folder, events, **{"label": STARS, "neighbours": FEW, **SPLIT, **changes})


def drawn(seed, size=200):
    """Events of users, items and stars; some users meet an item twice, some items nobody."""
    rng = random.Random(seed)
    events = [(rng.randrange(1, 12), rng.randrange(1, 9), rng.randint(1, 5)) for _ in range(size)]
    return tuple(np.array(column) for column in zip(*events, strict=True))


def similarity(users, items, stars, one, other, *, shrinkage):
    """Formula of `nearest_items`, for one pair of items."""
    mean = sum(stars) / len(stars)
    values = [star - mean for star in stars]
    for keys in (items, users):
        means = {
            key: sum(v for k, v in zip(keys, values, strict=True) if k == key)
            / (sum(k == key for k in keys) + 5)
            for key in set(keys)
        }
        values = [value - means[key] for key, value in zip(keys, values, strict=True)]
    judged = {}
    for user, item, value in zip(users, items, values, strict=True):
        judged.setdefault((user, item), []).append(value)
    judged = {pair: sum(found) / len(found) for pair, found in judged.items()}
    both = [user for user in set(users) if (user, one) in judged and (user, other) in judged]
    if not both:
        return 0.0
    pairs = [(judged[user, one], judged[user, other]) for user in both]
    lengths = math.sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))
    return len(both) / (len(both) + shrinkage) * sum(a * b for a, b in pairs) / lengths


@pytest.mark.parametrize("shrinkage", [0, 4])
@pytest.mark.parametrize("block", [1, 2**23])
def test_neighbours_are_the_items_judged_most_alike(shrinkage, block, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    users, items, stars = drawn(seed=3)
    owners, found = nearest_items(
        users, items, stars.astype(float), num_items=10, number=3, shrinkage=shrinkage
    )
    for item in range(1, 10):
        others = {
            other: similarity(
                users.tolist(), items.tolist(), stars.tolist(), item, other, shrinkage=shrinkage
            )
            for other in range(1, 10)
            if other != item
        }
        expected = sorted((other for other in others if others[other] > 1e-9), key=lambda o: -others[o])[:3]
        assert found[owners == item].tolist() == expected


def test_without_labels_neighbours_are_those_that_the_same_users_met():
    users, items = np.array([1, 1, 2, 2, 3, 3, 4]), np.array([1, 2, 1, 2, 1, 3, 3])
    owners, found = nearest_items(users, items, None, num_items=4, number=2, shrinkage=1)
    # 1 and 2 have two users in common, 1 and 3 one: 2/3 and 1/2 of a cosine over those in common of 1.
    assert found[owners == 1].tolist() == [2, 3]
    assert found[owners == 3].tolist() == [1]


def test_events_of_the_unknown_item_count_for_none():
    users, items = np.array([1, 1, 2, 2]), np.array([0, 1, 0, 1])
    owners, found = nearest_items(users, items, np.array([5.0, 5, 1, 1]), num_items=2, number=2, shrinkage=0)
    assert not len(owners)
    assert not len(found)


def test_an_item_comes_first_and_then_its_neighbours(tmp_path):
    path = station(tmp_path)
    raw = dict(
        zip(
            column(path, "items.parquet", "item_id"),
            column(path, "items.parquet", "raw.neighbours"),
            strict=True,
        )
    )
    assert raw == {None: None, 10: [10, 11], 11: [11, 10], 12: [12]}
    encoded, rows = by_id(path, "items", encoded_column("neighbours")), {}
    for row in rows_of(path, "vocabularies/neighbours.parquet"):
        rows[row["value"]] = row["row"]
    assert encoded[11] == [rows[11], rows[10]]


def test_later_events_do_not_move_neighbours(tmp_path):
    later = {**EVENTS, "item_id": [*EVENTS["item_id"][:12], 12, 12], "stars": [*EVENTS["stars"][:12], 5, 1]}
    first, second = (
        column(station(tmp_path / name, events), "items.parquet", "raw.neighbours")
        for name, events in (("a", EVENTS), ("b", later))
    )
    assert first == second


def test_statistics_count_the_users_events_of_neighbours(tmp_path):
    alike = StatisticOptions(("user_id", "neighbours"), "label_mean", strength=0)
    events = {name: [*values[:12], values[12]] for name, values in EVENTS.items()}
    events["item_id"][12], events["user_id"][12] = 11, 1  # user 1 has rated 10 and 11 with 5, 12 with 1
    events["part"][12] = "test"
    path = station(tmp_path, events, statistics={"alike": alike})
    assert column(path, "test", "raw.alike") == [5.0]


def test_features_file_leaves_out_what_is_found_and_can_be_used_again(tmp_path):
    path = station(tmp_path)
    declared = yaml.safe_load((path / "features.yaml").read_text())
    assert "neighbours" not in declared["items"]["features"]


def test_extending_keeps_the_rows_of_neighbours(tmp_path):
    first = station(tmp_path / "a")
    more = {name: [*values, *values[:1]] for name, values in EVENTS.items()}
    more["item_id"][-1], more["user_id"][-1] = 9, 5
    second = station(tmp_path / "b", more, extends=str(first))
    before, after = (rows_of(path, "vocabularies/neighbours.parquet") for path in (first, second))
    assert [row["value"] for row in after] == [*[row["value"] for row in before], 9]


def test_a_column_of_that_name_is_refused(tmp_path):
    items = {"item_id": [10, 11, 12], "neighbours": ["a", "b", "c"]}
    with pytest.raises(ValueError, match=r"`data.neighbours` adds a feature `neighbours`, and there is one"):
        station(tmp_path, items=items)
    with pytest.raises(ValueError, match=r"`data.neighbours` adds a column `neighbours` to the items"):
        station(tmp_path, items=items, item_features={})


def test_a_large_catalogue_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_ITEMS", 2)
    with pytest.raises(ValueError, match=r"compares all pairs of items, of at most 2; the catalogue has 3"):
        station(tmp_path)


@pytest.mark.parametrize(
    ("keys", "match"),
    [({"number": 0}, "`number` must be at least 1, got 0"), ({"shrinkage": -1}, "`shrinkage` must be .* -1")],
)
def test_senseless_options_are_refused(keys, match):
    with pytest.raises(ValueError, match=match):
        NeighbourOptions(**keys)
