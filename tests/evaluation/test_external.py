"""Tables of recommendations made by anyone: matched by hand, every fault named."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.evaluation.external import read_lists

K = 3


@pytest.fixture(scope="module")
def queries(rated):
    return rated.queries("test", mode="event", history_length=5)


def written(path, rows, columns=("user_id", "timestamp", "rank", "item_id")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def unseen(rated, queries, number, how_many):
    """Raw ids of items that the history of a query does not hold."""
    seen = set(queries.histories.select(np_positions(number)).values.tolist())
    return [rated.item_ids[row] for row in range(1, rated.num_items) if row not in seen][:how_many]


def np_positions(number):
    import torch

    return torch.tensor([number])


def query(queries, number):
    return str(queries.user_ids[number]), int(queries.timestamps[number])


def titles(rated, lists, number):
    return [rated.item_ids[row] for row in lists.item_rows[number]]


def problems(findings):
    return {one["problem"]: one["count"] for one in findings}


def test_list_answers_the_query_of_its_user_and_instant(rated, queries, tmp_path):
    user, when = query(queries, 7)
    items = unseen(rated, queries, 7, 3)
    rows = [(user, when, rank, item) for rank, item in ((2, items[1]), (1, items[0]), (3, items[2]))]
    lists, findings = read_lists(written(tmp_path / "x.csv", rows), rated, queries, k=K)
    assert titles(rated, lists, 7) == items
    assert problems(findings) == {"missing queries": len(queries) - 1}
    assert (lists.item_rows[np.arange(len(queries)) != 7] == 0).all()
    assert f"{len(queries) - 1:,} queries of {len(queries):,} have no list" in findings[0]["text"]


def test_list_without_a_timestamp_answers_every_query_of_its_user(rated, queries, tmp_path):
    user = query(queries, 0)[0]
    item = unseen(rated, queries, 0, 1)[0]
    path = written(tmp_path / "x.csv", [(user, 1, item)], columns=("user_id", "rank", "item_id"))
    lists, _ = read_lists(path, rated, queries, k=K)
    answered = (lists.item_rows[:, 0] > 0).nonzero()[0]
    assert set(answered) <= set((queries.user_ids == user).nonzero()[0])
    assert 0 in answered


def test_list_written_once_for_each_of_several_queries_is_not_found_fault_with(rated, queries, tmp_path):
    user, when = query(queries, 7)
    items = unseen(rated, queries, 7, 2)
    rows = [(user, when, rank, item) for rank, item in enumerate(items, start=1)]
    lists, findings = read_lists(written(tmp_path / "x.csv", [*rows, *rows]), rated, queries, k=K)
    assert titles(rated, lists, 7)[:2] == items
    assert problems(findings) == {"missing queries": len(queries) - 1}


def test_any_delimiter_will_do(rated, queries, tmp_path):
    user, when = query(queries, 7)
    [item] = unseen(rated, queries, 7, 1)
    (tmp_path / "x.csv").write_text(f"user_id;timestamp;rank;item_id\n{user};{when};1;{item}\n")
    lists, _ = read_lists(tmp_path / "x.csv", rated, queries, k=K)
    assert titles(rated, lists, 7)[0] == item


def test_parquet_with_scores_orders_ties_by_them(rated, queries, tmp_path):
    user, when = query(queries, 3)
    items = unseen(rated, queries, 3, 2)
    columns = {
        "user_id": [user] * 2,
        "timestamp": [when] * 2,
        "rank": pa.array([1, 1], pa.int32()),
        "item_id": items,
        "score": [0.2, 0.7],
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    lists, findings = read_lists(tmp_path / "x.parquet", rated, queries, k=K)
    assert titles(rated, lists, 3)[:2] == items[::-1]
    assert problems(findings)["ties"] == 1


def test_item_outside_the_catalogue_keeps_its_place_as_a_miss(rated, queries, tmp_path):
    user, when = query(queries, 3)
    item = unseen(rated, queries, 3, 1)[0]
    rows = [(user, when, 1, "nowhere"), (user, when, 2, item)]
    lists, findings = read_lists(written(tmp_path / "x.csv", rows), rated, queries, k=K)
    assert titles(rated, lists, 3) == [None, item, None]
    found = next(one for one in findings if one["problem"] == "unknown items")
    assert found["count"] == 1
    assert found["examples"] == [{"user_id": user, "item_id": "nowhere"}]


def test_items_of_the_history_are_taken_out_and_the_rest_moves_up(rated, queries, tmp_path):
    lengths = queries.histories.lengths.numpy()
    number = int(lengths.argmax())
    user, when = query(queries, number)
    seen = rated.item_ids[int(queries.histories.select(np_positions(number)).values[0])]
    item = unseen(rated, queries, number, 1)[0]
    rows = [(user, when, 1, seen), (user, when, 2, item)]
    lists, findings = read_lists(written(tmp_path / "x.csv", rows), rated, queries, k=K)
    assert titles(rated, lists, number)[0] == item
    assert problems(findings)["seen items"] == 1


def test_every_other_fault_is_counted_with_examples(rated, queries, tmp_path):
    user, when = query(queries, 3)
    first, second, third = unseen(rated, queries, 3, 3)
    rows = [
        (user, when, 1, first),
        (user, when, 2, first),
        (user, when, 5, second),
        ("nobody", when, 1, first),
        (user, when + 1, 1, third),
        (user, when, "", third),
    ]
    lists, findings = read_lists(written(tmp_path / "x.csv", rows), rated, queries, k=K)
    assert titles(rated, lists, 3) == [first, second, None]
    assert problems(findings) == {
        "incomplete": 1,
        "unknown users": 1,
        "other instants": 1,
        "duplicates": 1,
        "gaps": 1,
        "missing queries": len(queries) - 1,
    }
    texts = {one["problem"]: one["text"] for one in findings}
    assert "user_id nobody" in texts["unknown users"]
    assert "row 6" in texts["incomplete"]


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (
            [("u1", 1, "i01")],
            ("user", "rank", "item_id"),
            r"lacks `user_id`.* expected user_id, rank, item_id",
        ),
        ([("u1", 0, "i01")], ("user_id", "rank", "item_id"), r"expected ranks from 1 .* found 0 in row 1"),
        ([("u1", "top", "i01")], ("user_id", "rank", "item_id"), "expected whole numbers from 1"),
        (
            [("x", 1, "i01")],
            ("user_id", "rank", "item_id"),
            r"to answer queries .*such as user_id u.*user_id x",
        ),
        (
            [("u1", "now", 1, "i01")],
            ("user_id", "timestamp", "rank", "item_id"),
            "expected instants in the column `timestamp`",
        ),
        ([], ("user_id", "rank", "item_id"), "expected rows, found none"),
    ],
)
def test_table_that_cannot_be_read_is_refused(rated, queries, tmp_path, rows, columns, expected):
    with pytest.raises(ValueError, match=expected):
        read_lists(written(tmp_path / "x.csv", rows, columns), rated, queries, k=K)


def test_file_that_is_none_is_refused(rated, queries, tmp_path):
    with pytest.raises(ValueError, match="expected a table of recommendations, found no file"):
        read_lists(tmp_path / "nothing.csv", rated, queries, k=K)
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="is named as Parquet"):
        read_lists(tmp_path / "x.parquet", rated, queries, k=K)
