"""The prepared station, file by file, from tables that fit on a page."""

import dataclasses
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys.data.options import Columns, DataOptions, InteractionsTable, RawTables
from recsys.data.prepare import prepare
from tests.data.preparing import (
    STARS,
    by_id,
    column,
    events_of,
    history_of,
    manifest_of,
    options_for,
    prepared,
    rows_of,
)

# Train is 10..40, validation 50 and 60, test from 70 on.
EVENTS = {
    "user_id": ["ann", "bob", "ann", "ann", "bob", "ann", "cy", "ann", "ann"],
    "item_id": [3, 3, 1, 2, 1, 4, 3, 1, 9],
    "timestamp": [10, 20, 30, 40, 50, 60, 70, 80, 80],
    "stars": [5.0, 4.0, 1.0, 4.0, 3.0, 5.0, 4.0, 5.0, 2.0],
}
SPLIT = {"split": "global_time", "split_boundaries": (50, 70), "label": STARS}
USERS = {"user_id": ["dan", "bob", "ann"], "city": ["Rome", "Oslo", "Rome"]}
ITEMS = {"item_id": [1, 2, 3, 5], "title": ["One", "Two", "Three", "Five"], "price": [1.0, 2.0, 3.0, None]}


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("station"), EVENTS, users=USERS, items=ITEMS, **SPLIT)


def test_items_are_the_catalogue_in_order_of_train_counts(station):
    # In train: item 3 twice, 1 and 2 once; 5 is only in the items table; 4 and 9 are only in later splits.
    assert column(station, "items.parquet", "item_id") == [None, 3, 1, 2, 5]
    assert column(station, "items.parquet", "item_row") == [0, 1, 2, 3, 4]
    assert column(station, "items.parquet", "num_train_interactions") == [0, 2, 1, 1, 0]
    assert column(station, "items.parquet", "num_train_positives") == [0, 2, 0, 1, 0]
    assert column(station, "items.parquet", "raw.title") == [None, "Three", "One", "Two", "Five"]


def test_users_are_those_of_train_and_of_the_users_table(station):
    assert column(station, "users.parquet", "user_id") == [None, "ann", "bob", "dan"]
    assert column(station, "users.parquet", "num_train_interactions") == [0, 3, 1, 0]
    assert column(station, "users.parquet", "raw.city") == [None, "Rome", "Oslo", "Rome"]


def test_an_id_that_train_does_not_have_is_out_of_vocabulary(station):
    assert by_id(station, "items", "item_id_row") == {None: 0, 3: 1, 1: 2, 2: 3, 5: 0}
    assert by_id(station, "users", "user_id_row") == {None: 0, "ann": 1, "bob": 2, "dan": 0}


def test_vocabularies_hold_train_values_by_count(station):
    assert rows_of(station, "vocabularies/item_id.parquet") == [
        {"row": 1, "value": 3, "count": 2},
        {"row": 2, "value": 1, "count": 1},
        {"row": 3, "value": 2, "count": 1},
    ]
    # Cities count once for each train interaction of a user: ann has 3, bob 1.
    assert rows_of(station, "vocabularies/city.parquet") == [
        {"row": 1, "value": "Rome", "count": 3},
        {"row": 2, "value": "Oslo", "count": 1},
    ]


def test_train_rows_are_in_order_of_time_and_hold_rows_only(station):
    rows = rows_of(station, "train")
    assert [row["timestamp"] for row in rows] == [10_000_000, 20_000_000, 30_000_000, 40_000_000]
    assert [row["user_row"] for row in rows] == [1, 2, 1, 1]
    assert [row["item_row"] for row in rows] == [1, 1, 2, 3]
    assert [row["label"] for row in rows] == [5.0, 4.0, 1.0, 4.0]
    assert [row["positive"] for row in rows] == [True, True, False, True]
    assert "user_id" not in rows[0]


def test_test_rows_hold_raw_values_too(station):
    rows = rows_of(station, "test")
    # cy and item 9 are unknown; of two events at one instant the lower item id stands first.
    assert [(row["user_id"], row["item_id"], row["raw.timestamp"]) for row in rows] == [
        ("cy", 3, 70),
        ("ann", 1, 80),
        ("ann", 9, 80),
    ]
    assert [(row["user_row"], row["item_row"]) for row in rows] == [(0, 1), (1, 2), (1, 0)]


def test_column_types_are_as_promised(station):
    types = {name: str(kind) for name, kind in zip(*_schema(station / "test"), strict=True)}
    assert types == {
        "user_row": "int32",
        "item_row": "int32",
        "timestamp": "int64",
        "label": "float",
        "positive": "bool",
        "history_row": "int32",
        "history_length": "int32",
        "hour": "int32",
        "weekday": "int32",
        "user_id": "string",
        "item_id": "int64",
        "raw.timestamp": "int64",
    }
    histories = dict(zip(*_schema(station / "histories"), strict=True))
    assert {name: str(kind).replace("element: ", "item: ") for name, kind in histories.items()} == {
        "history_row": "int32",
        "user_row": "int32",
        "item_rows": "list<item: int32>",
        "timestamps": "list<item: int64>",
        "labels": "list<item: float>",
        "positives": "list<item: bool>",
        "splits": "list<item: int8>",
    }


def _schema(folder):
    schema = pq.read_schema(sorted(folder.glob("*.parquet"))[0])
    return schema.names, schema.types


def test_histories_hold_what_a_split_may_see(station):
    ann = {split: _history(station, split, user_row=1) for split in ("train", "validation", "test")}
    assert ann["train"]["item_rows"] == [1, 2, 3]
    # 4 and 9 are items that train does not know.
    assert ann["validation"]["item_rows"] == [1, 2, 3, 0]
    assert ann["test"]["item_rows"] == [1, 2, 3, 0, 2, 0]
    assert ann["test"]["timestamps"] == [s * 1_000_000 for s in (10, 30, 40, 60, 80, 80)]
    assert ann["test"]["labels"] == [5.0, 1.0, 4.0, 5.0, 5.0, 2.0]
    assert ann["test"]["positives"] == [True, False, True, True, True, False]
    assert ann["test"]["splits"] == [0, 0, 0, 1, 2, 2]


def _history(station, split, *, user_row):
    [found] = [row for row in rows_of(station, f"histories/{split}.parquet") if row["user_row"] == user_row]
    return found


def test_only_users_of_a_split_have_a_history_in_it(station):
    # bob has no test event; cy, row 0, has.
    assert sorted(column(station, "histories/test.parquet", "user_row")) == [0, 1]
    assert column(station, "histories/test.parquet", "history_row") == [0, 1]


def test_a_history_is_what_came_strictly_before(station):
    seen = [history_of(station, "train", row) for row in rows_of(station, "train")]
    assert seen == [[], [], [1], [1, 2]]
    # Two events of one instant do not see each other.
    seen = [history_of(station, "test", row) for row in rows_of(station, "test")]
    assert seen == [[], [1, 2, 3, 0], [1, 2, 3, 0]]


def test_train_histories_pass_over_later_splits(tmp_path):
    rows = {"user_id": ["a"] * 5, "item_id": [1, 2, 3, 4, 5], "timestamp": [1, 2, 3, 4, 5]}
    rows["part"] = ["train", "validation", "train", "test", "train"]
    station = prepared(tmp_path, rows, split="predefined", columns={"split": "part"})
    row = {item: row for row, item in enumerate([None, 1, 3, 5])}
    assert [history_of(station, "train", r) for r in rows_of(station, "train")] == [
        [],
        [row[1]],
        [row[1], row[3]],
    ]
    # Validation sees train and validation, test sees all.
    assert [history_of(station, "validation", r) for r in rows_of(station, "validation")] == [[row[1]]]
    assert [history_of(station, "test", r) for r in rows_of(station, "test")] == [[row[1], 0, row[3]]]


def test_the_manifest_describes_the_data(station):
    manifest = manifest_of(station)
    assert manifest["counts"] == {
        "rows": {"train": 4, "validation": 2, "test": 3},
        "positives": {"train": 3, "validation": 1, "test": 2},
        "users": 3,
        "items": 4,
        "rejected": 0,
    }
    assert manifest["timestamp"] == {"kind": "integer", "unit": "s"}
    assert manifest["label"] == {"column": "stars", "positive_at_least": 4, "only_positives": False}
    assert manifest["id_types"] == {"user_id": "string", "item_id": "integer"}
    assert manifest["title_column"] == "title"
    assert manifest["split"]["kind"] == "global_time"
    assert manifest["split"]["leaks"] is False
    assert all(check["passed"] for check in manifest["leakage"].values())


def test_hour_and_weekday_come_from_the_timestamp(tmp_path):
    # 1970-01-01 00:00 was a Thursday; 5 days and 13 hours later it is a Tuesday, 13 o'clock.
    rows = {"user_id": [1, 1], "item_id": [1, 2], "timestamp": [0, 5 * 86400 + 13 * 3600]}
    station = prepared(tmp_path, rows, split="random", split_fractions=(1.0, 0.0, 0.0), timestamp_unit="s")
    assert [(row["hour"], row["weekday"]) for row in rows_of(station, "train")] == [(1, 4), (14, 2)]


def test_without_timestamps_the_row_number_stands_in(tmp_path):
    rows = {"user_id": ["a", "b", "a"], "item_id": [2, 1, 1]}
    everything = {"split": "random", "split_fractions": (1.0, 0.0, 0.0), "columns": {"timestamp": None}}
    station = prepared(tmp_path, rows, **everything)
    assert events_of(station, "train") == [("a", 2, 1), ("b", 1, 2), ("a", 1, 3)]
    assert manifest_of(station)["timestamp"] == {"kind": None, "unit": None}
    assert "hour" not in rows_of(station, "train")[0]
    assert [row["label"] for row in rows_of(station, "train")] == [1.0, 1.0, 1.0]
    assert manifest_of(station)["label"]["only_positives"] is True


def test_split_without_events_still_has_a_file(tmp_path):
    rows = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2]}
    station = prepared(tmp_path, rows, split="random", split_fractions=(1.0, 0.0, 0.0))
    assert rows_of(station, "test") == []
    assert rows_of(station, "histories/test.parquet") == []


def test_a_second_call_finds_the_station(tmp_path):
    options = options_for(tmp_path, EVENTS, **SPLIT)
    first = prepare(options)
    made = (first / "manifest.json").stat().st_mtime_ns
    assert prepare(dataclasses.replace(options, batch_size=7)) == first
    assert (first / "manifest.json").stat().st_mtime_ns == made


@pytest.mark.parametrize(
    "change",
    [{"split_seed": 1}, {"label": dataclasses.replace(STARS, positive_at_least=5)}, {"split": "random"}],
)
def test_other_options_make_another_station(tmp_path, change):
    change = {"split_boundaries": None, **change} if "split" in change else change
    options = options_for(tmp_path, EVENTS, **SPLIT)
    assert prepare(dataclasses.replace(options, **change)) != prepare(options)


def test_changed_raw_files_make_another_station(tmp_path):
    options = options_for(tmp_path, EVENTS, **SPLIT)
    first = prepare(options)
    os.utime(options.interactions.path, ns=(1, 1))
    assert prepare(options) != first


def test_a_change_that_leaves_size_and_time_is_noticed(tmp_path):
    path = tmp_path / "events.csv"
    first = prepared(tmp_path, "user_id,item_id,timestamp\n1,1,1\n2,2,2\n", split="random")
    status = path.stat()
    path.write_text("user_id,item_id,timestamp\n1,1,1\n2,3,2\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    options = options_for(tmp_path, path.read_text(), split="random")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert prepare(options) != first


def test_a_damaged_station_is_made_anew(tmp_path, caplog):
    options = options_for(tmp_path, EVENTS, **SPLIT)
    path = prepare(options)
    whole = (path / "items.parquet").read_bytes()
    (path / "items.parquet").write_bytes(whole[:-1])
    assert prepare(options) == path
    assert (path / "items.parquet").read_bytes() == whole
    assert "anew" in caplog.text


def test_a_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="cannot be used"):
        prepared(tmp_path, {**EVENTS, "stars": [None] * 9}, **SPLIT)
    assert list((tmp_path / "cache" / "prepared").iterdir()) == []


def test_a_given_station_is_used_as_it_is(tmp_path):
    path = prepared(tmp_path, EVENTS, **SPLIT)
    assert prepare(DataOptions(prepared=str(path))) == path
    with pytest.raises(ValueError, match="expected a prepared station"):
        prepare(DataOptions(prepared=str(tmp_path / "elsewhere")))


@dataclasses.dataclass(frozen=True)
class OneFile:
    """A source whose raw table is there already."""

    path: str

    def tables(self, cache_dir: Path) -> RawTables:
        return RawTables(interactions=Path(self.path), licence="ask first")


def test_a_source_brings_tables_and_licence(tmp_path):
    given = options_for(tmp_path, EVENTS, **SPLIT)
    options = dataclasses.replace(
        given, source=OneFile(given.interactions.path), interactions=InteractionsTable()
    )
    station = prepare(options)
    assert len(rows_of(station, "train")) == 4
    assert manifest_of(station)["licence"] == "ask first"


def test_without_a_table_the_error_names_the_key(tmp_path):
    with pytest.raises(ValueError, match=r"`data.interactions.path` must name a CSV or Parquet file"):
        prepare(DataOptions(cache_dir=str(tmp_path)))


def test_a_missing_column_is_named_with_the_nearest_and_the_key(tmp_path):
    options = options_for(tmp_path, EVENTS, columns={"user_id": "userid"}, **SPLIT)
    with pytest.raises(
        ValueError, match=r"columns.user_id=userid`: there is no such column.*mean `user_id`\?"
    ):
        prepare(options)


def test_an_empty_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected interactions in .*, found no rows"):
        prepared(tmp_path, "user_id,item_id,timestamp\n", split="random")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "sideways"}, "`data.split` must be one of leave_last_out, .*, got `sideways`"),
        ({"split": "predefined"}, "`data.split=predefined` needs the column"),
        ({"label": dataclasses.replace(STARS, column=None)}, "`data.label.positive_at_least=4` needs"),
        ({"max_rejected_share": 2.0}, r"`data.max_rejected_share` must lie in \[0, 1\], got 2.0"),
        ({"name": "a/b"}, "`data.name` names a folder: .*, got `a/b`"),
        ({"split": "random", "split_boundaries": (1, 2)}, "`data.split_boundaries` must be two instants"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        prepare(dataclasses.replace(DataOptions(cache_dir=str(tmp_path)), **change))


def test_a_threshold_that_nothing_reaches_is_refused(tmp_path):
    label = dataclasses.replace(STARS, positive_at_least=6)
    message = "positive_at_least=6` leaves no positive interaction: `stars` lies between 1 and 5"
    with pytest.raises(ValueError, match=message):
        prepared(tmp_path, EVENTS, **{**SPLIT, "label": label})


def test_the_log_tells_what_was_read(tmp_path, caplog):
    with caplog.at_level("INFO"):
        prepared(tmp_path, EVENTS, **SPLIT)
    assert "6 of 9 interactions are positives" in caplog.text
    assert "timestamps (s) from 1970-01-01T00:00:10+00:00 to 1970-01-01T00:01:20+00:00" in caplog.text


def test_the_schema_names_features_in_a_fixed_order(station):
    features = json.loads((station / "schema.json").read_text())["features"]
    assert [f["name"] for f in features] == [
        *("user_id", "city", "history"),
        *("hour", "weekday"),
        *("item_id", "title", "price"),
    ]
    by_name = {f["name"]: f for f in features}
    assert by_name["item_id"]["num_rows"] == 4
    assert by_name["history"]["table"] == "item_id"
    assert by_name["history"]["num_rows"] == 4
    assert by_name["hour"]["num_rows"] == 25
    # Item 3 costs 3.0 and has two train interactions, 1 and 2 have one each: (2 * 3 + 1 + 2) / 4.
    assert by_name["price"]["mean"] == 2.25


def test_ids_may_be_hashed_and_rare_ones_left_out(tmp_path):
    changes = {
        "user_id": {"encoder": "hash", "num_buckets": 10},
        "item_id": {"min_count": 2},
        "history": {"max_length": 7},
    }
    station = prepared(tmp_path, EVENTS, ids=changes, **SPLIT)
    features = {f["name"]: f for f in json.loads((station / "schema.json").read_text())["features"]}
    assert features["user_id"]["num_rows"] == 11
    assert features["history"]["max_length"] == 7
    # Only item 3 occurs twice in train; the others stay in the catalogue, without a row of their own.
    assert by_id(station, "items", "item_id_row") == {None: 0, 3: 1, 1: 0, 2: 0}
    assert min(by_id(station, "users", "user_id_row")[name] for name in ("ann", "bob")) >= 1
    assert not (station / "vocabularies" / "user_id.parquet").exists()


def test_context_columns_are_encoded_and_kept_raw_for_evaluation(tmp_path):
    rows = {
        **EVENTS,
        "device": ["tv", "tv", "app", "tv", "app", "web", "tv", None, "app"],
        "tags": [["x", "y"], ["y"], [], None, ["z"], ["y"], ["x", "q"], ["y", "x"], None],
        "wait": [1.0, 3.0, 1.0, 3.0, 5.0, 1.0, None, 3.0, 1.0],
    }
    context = {"device": {"kind": "id"}, "tags": {"kind": "multi_id"}, "wait": {"kind": "numeric"}}
    station = prepared(tmp_path, rows, context=context, **SPLIT)
    train, test = rows_of(station, "train"), rows_of(station, "test")
    # In train tv occurs three times and app once; y twice and x once; the mean wait is 2, its deviation 1.
    assert [row["device"] for row in train] == [1, 1, 2, 1]
    assert [row["tags"] for row in train] == [[2, 1], [1], [], []]
    assert [row["wait"] for row in train] == [-1.0, 1.0, -1.0, 1.0]
    assert [(row["device"], row["tags"], row["wait"]) for row in test] == [
        (1, [2], 0.0),
        (0, [1, 2], 1.0),
        (2, [], -1.0),
    ]
    assert [(row["raw.device"], row["raw.tags"], row["raw.wait"]) for row in test] == [
        ("tv", ["x", "q"], None),
        (None, ["y", "x"], 3.0),
        ("app", None, 1.0),
    ]


def test_ids_of_a_side_table_take_the_type_of_the_interactions(tmp_path):
    station = prepared(tmp_path, EVENTS, items="item_id,size\n1,small\n3,large\n", **SPLIT)
    assert by_id(station, "items", "raw.size") == {None: None, 3: "large", 1: "small", 2: None}


def test_whole_floats_are_integer_ids(tmp_path):
    # What pandas makes of integers with a null.
    rows = {"user_id": [1.0, 2.0], "item_id": [5.0, 6.0], "timestamp": [1.0, 2.0]}
    station = prepared(tmp_path, rows, split="random", split_fractions=(1.0, 0.0, 0.0))
    assert events_of(station, "train") == [(1, 5, 1_000_000), (2, 6, 2_000_000)]
    assert manifest_of(station)["id_types"] == {"user_id": "integer", "item_id": "integer"}


def test_ids_with_leading_zeros_are_text(tmp_path):
    text = "user_id,item_id,timestamp\n007,1,1\n7,2,2\n"
    station = prepared(tmp_path, text, split="random", split_fractions=(1.0, 0.0, 0.0))
    assert {user for user, _, _ in events_of(station, "train")} == {"007", "7"}


def test_columns_may_have_any_names(tmp_path):
    text = "user, product, when, stars\nu1, p1, 2024-01-01T10:00:00Z, 5\nu1, p2, 2024-01-02, 3\n"
    columns = dataclasses.asdict(Columns(user_id="user", item_id="product", timestamp="when"))
    everything = {"split": "random", "split_fractions": (1.0, 0.0, 0.0)}
    station = prepared(tmp_path, text, columns=columns, label=STARS, **everything)
    assert events_of(station, "train") == [
        ("u1", "p1", 1_704_103_200_000_000),
        ("u1", "p2", 1_704_153_600_000_000),
    ]
    assert column(station, "train", "positive") == [True, False]
