"""Every split of the contract on tables small enough to divide by hand."""

import pytest

from tests.data.preparing import STARS, events_of, history_of, manifest_of, prepared, rows_of

SECOND = 1_000_000

# Ten events of two users at the instants 1..10.
TEN = {
    "user_id": ["a", "b"] * 5,
    "item_id": [f"i{n}" for n in range(1, 11)],
    "timestamp": list(range(1, 11)),
}


def instants(station, split):
    return [when // SECOND for _user, _item, when in events_of(station, split)]


def test_global_time_cuts_at_quantiles(tmp_path):
    station = prepared(tmp_path, TEN, split="global_time", split_fractions=(0.5, 0.2, 0.3))
    # Quantiles of 1..10: at 0.5 it is 5.5, at 0.7 it is 7.3; the next instants that occur are 6 and 8.
    assert instants(station, "train") == [1, 2, 3, 4, 5]
    assert instants(station, "validation") == [6, 7]
    assert instants(station, "test") == [8, 9, 10]
    assert manifest_of(station)["split"]["boundaries"] == [
        {"raw": 6, "iso": "1970-01-01T00:00:06+00:00"},
        {"raw": 8, "iso": "1970-01-01T00:00:08+00:00"},
    ]


def test_global_time_keeps_events_of_one_instant_together(tmp_path):
    rows = {"user_id": list("abcdef"), "item_id": list("uvwxyz"), "timestamp": [1, 1, 2, 2, 2, 3]}
    station = prepared(tmp_path, rows, split="global_time", split_fractions=(0.4, 0.4, 0.2))
    # Position 0.4 * 5 = 2 holds the instant 2, and so does position 0.8 * 5 = 4: from 2 on all is test.
    assert [len(events_of(station, split)) for split in ("train", "validation", "test")] == [2, 0, 4]


def test_global_time_without_a_share_for_test_leaves_test_empty(tmp_path):
    station = prepared(tmp_path, TEN, split="global_time", split_fractions=(0.5, 0.5, 0.0))
    assert [len(events_of(station, split)) for split in ("train", "validation", "test")] == [5, 5, 0]


def test_global_time_takes_given_instants(tmp_path):
    station = prepared(tmp_path, TEN, split="global_time", split_boundaries=(3, "1970-01-01T00:00:09"))
    assert instants(station, "train") == [1, 2]
    assert instants(station, "validation") == [3, 4, 5, 6, 7, 8]
    assert instants(station, "test") == [9, 10]


@pytest.mark.parametrize(
    ("boundaries", "message"),
    [
        ((9, 3), r"`data.split_boundaries` must ascend, got \[9, 3\]"),
        ((1, "soon"), "or as a number in s, got `soon`"),
    ],
)
def test_global_time_refuses_instants_that_are_none(tmp_path, boundaries, message):
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, TEN, split="global_time", split_boundaries=boundaries)


def test_leave_last_out_takes_each_users_last_two_positives(tmp_path):
    rows = {
        "user_id": ["a"] * 8 + ["b"] * 3,
        "item_id": [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3],
        "timestamp": [10, 20, 30, 40, 50, 60, 70, 80, 15, 25, 35],
        # The positives of a are items 1, 3, 5, 7: 7 is test, 5 validation. b has two positives: all train.
        "stars": [5, 1, 4, 2, 4, 1, 5, 3, 5, 2, 5],
    }
    station = prepared(tmp_path, rows, split="leave_last_out", label=STARS)
    assert [(user, item) for user, item, _ in events_of(station, "train")] == [
        ("a", 1),
        ("b", 1),
        ("a", 2),
        ("b", 2),
        ("a", 3),
        ("b", 3),
        ("a", 4),
    ]
    # What was rated low goes where its time puts it.
    assert [item for _, item, _ in events_of(station, "validation")] == [5, 6]
    assert [item for _, item, _ in events_of(station, "test")] == [7, 8]


def test_leave_last_out_breaks_ties_by_item_id_as_a_number(tmp_path):
    rows = {"user_id": [1] * 4, "item_id": [9, 10, 2, 100], "timestamp": [5, 5, 5, 5]}
    station = prepared(tmp_path, rows, split="leave_last_out")
    # 2 < 9 < 10 < 100; as text it would be 10 < 100 < 2 < 9.
    assert [item for _, item, _ in events_of(station, "train")] == [2, 9]
    assert [item for _, item, _ in events_of(station, "validation")] == [10]
    assert [item for _, item, _ in events_of(station, "test")] == [100]
    rows_by_id = {row["item_id"]: row["item_row"] for row in rows_of(station, "items.parquet")}
    [test_row] = rows_of(station, "test")
    # 10 and 100 are not in train, so that the catalogue does not know them.
    assert history_of(station, "test", test_row) == [rows_by_id[2], rows_by_id[9], 0]


def test_leave_last_out_breaks_ties_of_text_by_bytes(tmp_path):
    rows = {"user_id": [1] * 4, "item_id": ["b", "a", "B", "é"], "timestamp": [5, 5, 5, 5]}
    station = prepared(tmp_path, rows, split="leave_last_out")
    assert [item for _, item, _ in events_of(station, "train")] == ["B", "a"]
    assert [item for _, item, _ in events_of(station, "test")] == ["é"]


def world(num_users=20, num_items=25):
    """Every user with every item, at different instants."""
    pairs = [(user, item) for user in range(num_users) for item in range(num_items)]
    return {
        "user_id": [user for user, _ in pairs],
        "item_id": [item for _, item in pairs],
        "timestamp": [1000 + (7 * user + 11 * item) % 501 for user, item in pairs],
    }


def test_random_draws_exact_shares_of_rows(tmp_path):
    station = prepared(tmp_path, world(), split="random")
    assert manifest_of(station)["counts"]["rows"] == {"train": 400, "validation": 50, "test": 50}
    assert manifest_of(station)["split"]["leaks"] is True


def test_random_does_not_depend_on_the_order_of_rows(tmp_path):
    rows = world()
    backwards = {name: values[::-1] for name, values in rows.items()}
    one = prepared(tmp_path / "one", rows, split="random")
    other = prepared(tmp_path / "other", backwards, split="random")
    for split in ("train", "validation", "test"):
        assert events_of(one, split) == events_of(other, split)


def test_random_without_timestamps_keeps_repeated_events_together(tmp_path):
    rows = world(num_users=10, num_items=10)
    twice = {name: [*rows[name], *rows[name][::-1]] for name in ("user_id", "item_id")}
    station = prepared(tmp_path, twice, split="random", columns={"timestamp": None})
    pairs = {split: {e[:2] for e in events_of(station, split)} for split in ("train", "validation", "test")}
    assert [len(pairs[split]) for split in ("train", "validation", "test")] == [80, 10, 10]
    assert not pairs["train"] & pairs["test"]


def test_random_follows_the_seed(tmp_path):
    drawn = [
        set(events_of(prepared(tmp_path / str(seed), world(), split="random", split_seed=seed), "test"))
        for seed in (0, 1)
    ]
    # Two draws of 50 out of 500 share about 5.
    assert len(drawn[0] & drawn[1]) < 20


@pytest.mark.parametrize(("kind", "place", "drawn"), [("cold_item", 1, 10), ("cold_user", 0, 8)])
def test_cold_items_and_users_never_occur_in_train(tmp_path, kind, place, drawn):
    station = prepared(tmp_path, world(), split=kind, split_fractions=(0.6, 0.2, 0.2))
    ids = {split: {e[place] for e in events_of(station, split)} for split in ("train", "validation", "test")}
    # A fifth of 25 items (20 users) each for validation and test.
    assert len(ids["validation"]) + len(ids["test"]) == drawn
    assert len(ids["test"]) == drawn / 2
    assert not ids["train"] & (ids["validation"] | ids["test"])
    assert not ids["validation"] & ids["test"]


def test_cold_both_keeps_drawn_users_and_drawn_items_out_of_train(tmp_path):
    fractions = {"split_fractions": (0.6, 0.2, 0.2)}
    both, items, users = (
        prepared(tmp_path / kind, world(), split=kind, **fractions)
        for kind in ("cold_both", "cold_item", "cold_user")
    )
    names = ("train", "validation", "test")
    of_item = {e[1]: part for part, split in enumerate(names) for e in events_of(items, split)}
    of_user = {e[0]: part for part, split in enumerate(names) for e in events_of(users, split)}
    for part, split in enumerate(names):
        found = events_of(both, split)
        assert found
        assert all(max(of_user[e[0]], of_item[e[1]]) == part for e in found)
    assert sum(len(events_of(both, split)) for split in names) == len(world()["item_id"])


def test_predefined_reads_the_column_in_its_usual_spellings(tmp_path):
    rows = {**TEN, "part": ["train"] * 4 + ["valid", "VAL", "dev", "validation", "test", " Test "]}
    station = prepared(tmp_path, rows, split="predefined", columns={"split": "part"})
    assert instants(station, "train") == [1, 2, 3, 4]
    assert instants(station, "validation") == [5, 6, 7, 8]
    assert instants(station, "test") == [9, 10]
    assert manifest_of(station)["split"]["leaks"] is False


def test_predefined_that_trains_on_a_users_future_is_marked_as_leaking(tmp_path):
    rows = {**TEN, "part": ["test", "train"] * 5}
    rows["user_id"] = ["a"] * 10
    station = prepared(tmp_path, rows, split="predefined", columns={"split": "part"})
    assert manifest_of(station)["split"]["leaks"] is True
    detail = manifest_of(station)["leakage"]["train_before_test"]["detail"]
    # a's last train event is at 10, its test events at 1, 3, 5, 7, 9.
    assert "5 of 5 test events have a later train event of their own user" in detail


def test_predefined_without_validation_says_what_that_means(tmp_path, caplog):
    rows = {**TEN, "part": ["train"] * 8 + ["test"] * 2}
    station = prepared(tmp_path, rows, split="predefined", columns={"split": "part"})
    assert instants(station, "train") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "no row says validation, so that nothing tells when to stop" in caplog.text


def test_validation_may_be_each_users_last_positive_of_train(tmp_path):
    rows = {**TEN, "part": ["train"] * 8 + ["test"] * 2, "stars": [5, 5, 5, 5, 5, 5, 1, 5, 5, 5]}
    rows["user_id"] = ["a", "b", "a", "b", "a", "b", "a", "c", "a", "b"]
    changes = {"split": "predefined", "columns": {"split": "part"}, "label": STARS}
    station = prepared(tmp_path, rows, validation_from_train="last", **changes)
    # The event at 7 is no positive and follows a's last one; c has nothing else to be known by.
    assert instants(station, "validation") == [5, 6, 7]
    assert instants(station, "train") == [1, 2, 3, 4, 8]
    assert instants(station, "test") == [9, 10]


@pytest.mark.parametrize("has_time", [True, False])
def test_validation_may_be_drawn_from_train(tmp_path, has_time):
    rows = {"user_id": [f"u{n % 20}" for n in range(500)], "item_id": list(range(500))}
    rows |= {"timestamp": list(range(500)), "part": ["test"] * 100 + ["train"] * 400}
    columns = {"split": "part", "timestamp": "timestamp" if has_time else None}
    changes = {"split": "predefined", "columns": columns, "split_fractions": (0.6, 0.2, 0.2)}
    station = prepared(tmp_path, rows, validation_from_train="random", **changes)
    parts = {
        name: [event[1] for event in events_of(station, name)] for name in ("train", "validation", "test")
    }
    assert sorted(parts["test"]) == list(range(100))
    assert len(parts["validation"]) == 100
    assert sorted(parts["train"] + parts["validation"]) == list(range(100, 500))
    again = prepared(tmp_path / "again", rows, validation_from_train="random", split_seed=1, **changes)
    assert [event[1] for event in events_of(again, "validation")] != parts["validation"]


def test_given_validation_is_left_as_it_is(tmp_path):
    rows = {**TEN, "part": ["train"] * 7 + ["validation"] + ["test"] * 2}
    changes = {"split": "predefined", "columns": {"split": "part"}}
    station = prepared(tmp_path, rows, validation_from_train="last", **changes)
    assert instants(station, "validation") == [8]


def test_predefined_names_the_values_that_it_does_not_know(tmp_path):
    rows = {**TEN, "part": ["train"] * 7 + ["holdout", "holdout", None]}
    with pytest.raises(
        ValueError, match=r"column `part` must say train.*`holdout` \(2 rows\), `None` \(1 rows\)"
    ):
        prepared(tmp_path, rows, split="predefined", columns={"split": "part"})


@pytest.mark.parametrize("kind", ["global_time", "leave_last_out"])
def test_a_split_by_time_needs_timestamps(tmp_path, kind):
    rows = {name: TEN[name] for name in ("user_id", "item_id")}
    with pytest.raises(ValueError, match=f"`data.split={kind}` needs timestamps"):
        prepared(tmp_path, rows, split=kind, columns={"timestamp": None})


def test_a_split_that_leaves_nothing_to_train_on_is_refused(tmp_path):
    rows = {**TEN, "timestamp": [7] * 10}
    with pytest.raises(ValueError, match="leaves nothing to train on: 0 rows in train"):
        prepared(tmp_path, rows, split="global_time")


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_fractions_must_be_shares(tmp_path, fractions):
    with pytest.raises(ValueError, match=r"`data.split_fractions` must be the shares of train"):
        prepared(tmp_path, TEN, split="random", split_fractions=fractions)
