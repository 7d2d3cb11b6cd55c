"""Recommendations of a model, and their tables, as raw ids."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.evaluation.recommendations import Lists, queries_table, recommend, recommendations_table
from recsys.models.two_tower import TwoTower
from tests.data.preparing import prepared


def test_lists_of_a_model_are_its_best_items_outside_the_history(rated):
    torch.manual_seed(0)
    model = TwoTower(rated.schema, embedding_dim=8, hidden=[8]).eval()
    queries = rated.queries("test")
    lists = recommend(model, rated, queries, k=7, batch_size=10)
    with torch.no_grad():
        scores = (model.encode_queries(queries.batch(torch.arange(len(queries))))) @ model.encode_candidates(
            rated.items
        ).T
    for query in range(len(queries)):
        seen = set(queries.histories.select(torch.tensor([query])).values.tolist())
        allowed = [item for item in range(1, rated.num_items) if item not in seen]
        best = sorted(allowed, key=lambda item, query=query: (-scores[query, item].item(), item))[:7]
        assert lists.item_rows[query].tolist() == best
        assert lists.scores[query] == pytest.approx(scores[query, best].numpy(), abs=1e-5)


def test_model_that_does_not_encode_queries_is_refused(rated):
    with pytest.raises(ValueError, match="`encode_queries` and `encode_candidates`, got `Linear`"):
        recommend(nn.Linear(1, 1), rated, rated.queries("test"), k=2, batch_size=8)


def test_recommendations_hold_raw_ids_ranks_from_one_and_no_empty_places(rated):
    queries = rated.queries("test")
    lists = Lists.empty(len(queries), 3)
    lists.put(
        torch.tensor([1, 0]),
        torch.tensor([[5.0, 4.0, 3.0], [9.0, 8.0, -torch.inf]]),
        torch.tensor([[2, 1, 3], [4, 5, 0]]),
    )
    table = recommendations_table(rated, queries, lists)
    assert table.column_names == ["user_id", "timestamp", "rank", "item_id", "score"]
    assert table["rank"].to_pylist() == [1, 2, 1, 2, 3]
    assert table["item_id"].to_pylist() == [rated.item_ids[row] for row in (4, 5, 2, 1, 3)]
    assert table["score"].to_pylist() == [9.0, 8.0, 5.0, 4.0, 3.0]
    first, second = queries.user_ids[:2]
    assert table["user_id"].to_pylist() == [first] * 2 + [second] * 3
    raw = rated.split_table("test")
    positive = raw.filter(raw["positive"])["raw.timestamp"].to_pylist()
    assert table["timestamp"].to_pylist() == [positive[0]] * 2 + [positive[1]] * 3


@pytest.mark.parametrize(
    ("timestamps", "expected"),
    [
        ([1_600_000_000 + day for day in range(40)], pa.int64()),
        ([f"2020-01-01T00:00:{second:02}" for second in range(40)], pa.string()),
        (
            pa.array(
                [datetime.datetime(2020, 1, 1, 0, 0, s) for s in range(40)], pa.timestamp("us", tz="UTC")
            ),
            pa.timestamp("us", tz="UTC"),
        ),
    ],
)
def test_timestamps_are_written_as_the_raw_table_types_them(tmp_path, timestamps, expected):
    users = [1, 2] * 20
    items = [f"i{number % 7}" for number in range(40)]
    station = prepared(tmp_path, {"user_id": users, "item_id": items, "timestamp": timestamps})
    dataset = PreparedDataset.open(station)
    queries = dataset.queries("test")
    lists = Lists(
        item_rows=np.ones((len(queries), 1), dtype=np.int64), scores=np.ones((len(queries), 1), np.float32)
    )
    table = recommendations_table(dataset, queries, lists)
    assert table["timestamp"].type == expected
    assert table["user_id"].type == pa.int64()
    raw = pa.array(timestamps) if isinstance(timestamps, list) else timestamps
    assert set(table["timestamp"].to_pylist()) <= set(raw.to_pylist())
    assert len(table) == len(queries) > 0


def test_recommendations_without_timestamps_have_null_there(clicked):
    queries = clicked.queries("test")
    lists = Lists(
        item_rows=np.ones((len(queries), 1), dtype=np.int64), scores=np.ones((len(queries), 1), np.float32)
    )
    assert recommendations_table(clicked, queries, lists)["timestamp"].null_count == len(queries)


def test_queries_table_says_who_asked_how_much_was_known_and_every_value(rated):
    queries = rated.queries("test")
    values = np.linspace(0, 1, len(queries))
    table = queries_table(rated, queries, {"ndcg@10": values})
    assert table.column_names == [
        "user_id",
        "timestamp",
        "timestamp_us",
        "history_length",
        "num_relevant",
        "relevant",
        "ndcg@10",
    ]
    relevant = [[rated.item_ids[row]] for row in queries.relevant.values]
    assert table["relevant"].to_pylist() == relevant
    assert table["history_length"].to_pylist() == queries.histories.lengths.tolist()
    assert table["num_relevant"].to_pylist() == [1] * len(queries)
    assert table["ndcg@10"].to_pylist() == values.tolist()
