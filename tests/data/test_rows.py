"""Rows that tell of no user and no item, as impressions and forms do."""

import re

import pytest

from recsys.data.datamodule import open_dataset
from recsys.data.dataset import PreparedDataset
from recsys.data.options import Label, StatisticOptions
from tests.data.preparing import column, manifest_of, options_for, prepared, rows_of

NO_IDS = {"user_id": None, "item_id": None}
ROWS = {
    "city": ["Rome", "Rome", "Oslo", "Rome", "Oslo", "Rome"],
    "age": [20, 30, 20, 30, 30, 20],
    "ts": [5, 5, 5, 7, 8, 9],
    "click": [1.0, 0.0, 1.0, 0.0, 1.0, 0.0],
    "part": ["train", "train", "train", "train", "test", "test"],
}
CLICK = Label(column="click", positive_at_least=1)
PREDEFINED = {
    "split": "predefined",
    "label": CLICK,
    "columns": {**NO_IDS, "timestamp": None, "split": "part"},
}


def test_each_row_is_a_user_of_its_own_about_one_item(tmp_path):
    station = prepared(tmp_path, ROWS, context={"city": {"kind": "id"}}, **PREDEFINED)
    assert column(station, "train", "user_id") == [1, 2, 3, 4]
    assert column(station, "test", "user_id") == [5, 6]
    assert {row["user_row"] for name in ("train", "test") for row in rows_of(station, name)} == {0}
    assert {row["item_row"] for name in ("train", "test") for row in rows_of(station, name)} == {1}
    assert {row["history_length"] for row in rows_of(station, "test")} == {0}
    counts = manifest_of(station)["counts"]
    assert (counts["users"], counts["items"], counts["rejected"]) == (0, 1, 0)
    assert all(
        check["passed"] for name, check in manifest_of(station)["leakage"].items() if name[:6] != "train_"
    )
    facts = PreparedDataset.open(station).facts()
    assert (facts.num_users, str(facts)) == (0, "2 positives of 4 rows, of no known user")


@pytest.mark.parametrize("split", ["global_time", "random"])
def test_rows_of_one_instant_are_all_kept(tmp_path, split):
    columns = {**NO_IDS, "timestamp": "ts"}
    fractions = (0.5, 0.25, 0.25)
    station = prepared(tmp_path, ROWS, split=split, columns=columns, label=CLICK, split_fractions=fractions)
    assert sum(manifest_of(station)["counts"]["rows"].values()) == len(ROWS["ts"])


def test_unused_columns_become_features_when_asked(tmp_path, caplog):
    with caplog.at_level("INFO"):
        station = prepared(tmp_path, ROWS, context="infer", **PREDEFINED)
    found = {feature.name: feature.kind for feature in PreparedDataset.open(station).schema.features}
    assert {"city": "id", "age": "id", "ts": "id"}.items() <= found.items()
    assert not {"click", "part"} & found.keys()
    assert "interactions: column `city` is inferred to be id" in caplog.text


def test_what_is_inferred_of_csv_reads_numbers_and_clocks(tmp_path):
    lines = [f"{place % 7 + 0.5},u{place % 3},{place},{place % 2}" for place in range(1, 40)]
    station = prepared(
        tmp_path,
        "\n".join(["price,item_id,when,click", *lines]),
        context="infer",
        split="random",
        label=CLICK,
        columns={"user_id": None, "timestamp": "when"},
    )
    schema = PreparedDataset.open(station).schema
    found = {feature.name: feature.kind for feature in schema.features}
    assert {"price": "numeric", "hour": "time", "weekday": "time"}.items() <= found.items()
    assert "when" not in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"item_id": None}}, "`data.interactions.columns.item_id=null` is for rows that have no"),
        ({"split": "leave_last_out"}, "`data.split=leave_last_out` needs users"),
        ({"split": "cold_item"}, "`data.split=cold_item` needs items"),
        ({"users": {"user_id": [1]}}, "`data.users.path` needs their id in the interactions"),
        ({"label": Label()}, "without items a label must tell rows apart"),
        (
            {"statistics": {"mine": StatisticOptions(of=("user_id",), measure="count")}},
            "`data.statistics.mine`: `of: user_id` needs users",
        ),
    ],
)
def test_what_needs_users_or_items_is_refused(tmp_path, change, message):
    columns = {**NO_IDS, "timestamp": "ts"}
    changed = {"split": "random", "label": CLICK, "columns": columns, **change}
    with pytest.raises(ValueError, match=re.escape(message)):
        prepared(tmp_path, ROWS, **changed)


def test_nothing_is_to_be_retrieved_without_items(tmp_path):
    options = options_for(tmp_path, ROWS, context="infer", **PREDEFINED)
    with pytest.raises(ValueError, match=r"`data.interactions.columns.item_id` is null, and without items"):
        open_dataset(options, task="retrieval")


def test_features_may_be_many(tmp_path):
    rows = {**ROWS, **{f"C{number}": ROWS["city"] for number in range(45)}}
    station = prepared(tmp_path, rows, context="infer", **PREDEFINED)
    test = rows_of(station, "test")
    assert [row["C44"] for row in test] == [row["city"] for row in test] == [2, 1]
