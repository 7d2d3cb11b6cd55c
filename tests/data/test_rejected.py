"""Rows that cannot be used: what they are, where they are told of, and when there are too many."""

import logging

import pytest

from recsys.data.options import DataOptions, InteractionsTable
from recsys.data.prepare import prepare
from tests.data.preparing import STARS, events_of, manifest_of, prepared, rows_of

ALL = {"split": "random", "split_fractions": (1.0, 0.0, 0.0), "max_rejected_share": 1.0}
CSV = """user_id,item_id,timestamp,stars
u1,i1,100,5
,i1,101,5
u1,null,102,5
u1,i2,yesterday,5
u1,i3,103,many
u1,i4,104
u1,i1,100,1
u2,i1,105,4
u1,i5,,5
u1,i6,106,
"""


def rejected(station):
    return [(row["row"], row["reason"]) for row in rows_of(station, "rejected.parquet")]


def test_every_unusable_row_is_named_with_its_reason(tmp_path):
    station = prepared(tmp_path, CSV, label=STARS, **ALL)
    assert rejected(station) == [
        (2, "null user_id in `user_id`"),
        (3, "null item_id in `item_id`: null"),
        (4, "unreadable timestamp in `timestamp`: yesterday"),
        (5, "unreadable number in `stars`: many"),
        (6, "expected 4 columns, found 3"),
        (7, "same user, item and instant as an earlier row: row 1"),
        (9, "null timestamp in `timestamp`"),
        (10, "null number in `stars`"),
    ]
    assert events_of(station, "train") == [("u1", "i1", 100_000_000), ("u2", "i1", 105_000_000)]
    assert manifest_of(station)["counts"]["rejected"] == 8
    assert {row["file"] for row in rows_of(station, "rejected.parquet")} == {str(tmp_path / "events.csv")}


def test_of_repeated_events_the_one_with_the_highest_label_is_kept(tmp_path):
    rows = {
        "user_id": [1, 1, 1, 2],
        "item_id": [7, 7, 7, 7],
        "timestamp": [5, 5, 6, 5],
        "stars": [2, 5, 5, 5],
    }
    station = prepared(tmp_path, rows, label=STARS, **ALL)
    assert rejected(station) == [(1, "same user, item and instant as a later row of a higher label: row 2")]
    # At instant 5, users 1 and 2 in order of their ids; then user 1 at instant 6.
    assert [row["label"] for row in rows_of(station, "train")] == [5.0, 5.0, 5.0]


def test_without_timestamps_repetition_is_no_fault(tmp_path):
    rows = {"user_id": [1, 1], "item_id": [7, 7]}
    station = prepared(tmp_path, rows, columns={"timestamp": None}, **ALL)
    assert rejected(station) == []
    assert len(rows_of(station, "train")) == 2


def test_numbers_that_are_not_finite_are_unusable(tmp_path):
    rows = {
        "user_id": [1, 2, 3],
        "item_id": [1, 2, 3],
        "timestamp": [1, 2, 3],
        "stars": [5.0, float("nan"), float("inf")],
    }
    station = prepared(tmp_path, rows, label=STARS, **ALL)
    assert rejected(station) == [
        (2, "unreadable number in `stars`: nan"),
        (3, "unreadable number in `stars`: inf"),
    ]


def test_instants_beyond_the_calendar_are_unusable(tmp_path):
    rows = {"user_id": [1, 2, 3], "item_id": [1, 2, 3], "timestamp": [1, 2, 2**60]}
    station = prepared(tmp_path, rows, **ALL, timestamp_unit="s")
    assert rejected(station) == [(3, f"unreadable timestamp in `timestamp`: {2**60}")]


def test_rows_are_counted_in_each_file_of_a_folder(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "b.csv").write_text("user_id,item_id,timestamp\n1,1,1\n,2,2\n")
    (folder / "a.csv").write_text("item_id,user_id,timestamp\n1,1,5\n1,1,x\n1,2\n")
    (folder / "_notes.csv").write_text("not a table")
    station = prepare(
        DataOptions(
            interactions=InteractionsTable(path=str(folder)),
            cache_dir=str(tmp_path / "cache"),
            timestamp_unit="s",
            **ALL,
        )
    )
    assert [(row["file"].rpartition("/")[2], row["row"]) for row in rows_of(station, "rejected.parquet")] == [
        ("a.csv", 2),
        ("a.csv", 3),
        ("b.csv", 2),
    ]
    # Columns are matched by name.
    assert events_of(station, "train") == [(1, 1, 1_000_000), (1, 1, 5_000_000)]


def test_counts_are_logged_by_reason(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        prepared(tmp_path, CSV, label=STARS, **ALL)
    assert "rejected 1 of 10 rows of the interactions table: unreadable number in `stars`" in caplog.text


def test_too_many_are_an_error_that_shows_reasons_and_examples(tmp_path):
    with pytest.raises(ValueError, match=r"more than `data.max_rejected_share=0.5`") as caught:
        prepared(tmp_path, CSV, label=STARS, **{**ALL, "max_rejected_share": 0.5})
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("8 of 10 rows of the interactions table cannot be used")
    assert "  1 rows: unreadable timestamp in `timestamp`" in lines
    assert f"  {tmp_path}/events.csv row 4: unreadable timestamp in `timestamp`: yesterday" in lines
    assert "raise `data.max_rejected_share`" in lines[-1]


def test_a_share_up_to_the_limit_is_accepted(tmp_path):
    rows = {"user_id": [1] * 99 + [None], "item_id": list(range(100)), "timestamp": list(range(100))}
    station = prepared(tmp_path, rows, **{**ALL, "max_rejected_share": 0.01})
    assert manifest_of(station)["counts"]["rejected"] == 1
    with pytest.raises(ValueError, match="1 of 100 rows"):
        prepared(tmp_path, rows, **{**ALL, "max_rejected_share": 0.009})


def test_side_tables_reject_rows_without_an_id_and_second_rows(tmp_path):
    events = {"user_id": [1], "item_id": [1], "timestamp": [1]}
    items = {"item_id": [1, None, 1, 2], "colour": ["red", "blue", "green", "blue"]}
    station = prepared(tmp_path, events, items=items, **ALL)
    assert rejected(station) == [(2, "null item_id in `item_id`"), (3, "same item_id as an earlier row: 1")]
    assert [(r["item_id"], r["raw.colour"]) for r in rows_of(station, "items.parquet")] == [
        (None, None),
        (1, "red"),
        (2, "blue"),
    ]


def test_side_table_ids_that_cannot_be_the_interactions_are_rejected(tmp_path):
    events = {"user_id": [1], "item_id": [1], "timestamp": [1]}
    station = prepared(tmp_path, events, items="item_id,colour\n1,red\nX,blue\n", **ALL)
    assert rejected(station) == [(2, "item_id in `item_id` is no integer, as in the interactions: X")]


def test_a_table_without_a_usable_row_is_refused(tmp_path):
    rows = {"user_id": [None, None], "item_id": [1, 2], "timestamp": [1, 2]}
    with pytest.raises(ValueError, match="no row of the interactions can be used"):
        prepared(tmp_path, rows, split="global_time", max_rejected_share=1.0)


def test_a_side_table_without_rows_adds_nothing(tmp_path):
    events = {"user_id": [1], "item_id": [1], "timestamp": [1]}
    station = prepared(tmp_path, events, items="item_id,colour\n", users="user_id\n1\n", **ALL)
    assert [row["item_id"] for row in rows_of(station, "items.parquet")] == [None, 1]
    assert [row["user_id"] for row in rows_of(station, "users.parquet")] == [None, 1]
