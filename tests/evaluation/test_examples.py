"""Examples for the report, against the raw ratings."""

import numpy as np
import torch

from recsys.evaluation.examples import ranking_examples, retrieval_examples
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.recommendations import Lists, recommend

OPTIONS = EvaluationOptions(num_examples=12)


def title(item_id):
    return f"Film <{int(item_id[1:])}> & co"


def test_retrieval_examples_tell_history_answer_and_outcome(rated, ratings, oracle):
    queries = rated.queries("test")
    lists = recommend(oracle, rated, queries, k=5, batch_size=32)
    found = retrieval_examples(rated, queries, lists, OPTIONS)
    assert len({one["user"] for one in found}) == 12
    events = list(zip(*(ratings[name] for name in ("user_id", "item_id", "stars", "timestamp")), strict=True))
    for one in found:
        when = int(np.datetime64(one["when"], "s").astype(int))
        own = [event for event in events if event[0] == one["user"] and event[2] >= 4]
        before = sorted((event for event in own if event[3] < when), key=lambda event: event[3])
        assert one["history"] == [title(event[1]) for event in before[::-1]][:10]
        assert one["history_length"] == len(before)
        (liked,) = [event[1] for event in own if event[3] == when]
        again = title(liked) in [title(event[1]) for event in before]
        assert one["happened"] == [{"title": title(liked), "rank": None if again else 1}]
        assert [item["hit"] for item in one["recommended"]] == [not again, False, False, False, False]
    assert any(one["happened"][0]["rank"] for one in found)


def test_examples_are_the_same_for_the_same_seed_and_none_where_none_are_wanted(rated):
    queries = rated.queries("test")
    lists = Lists.empty(len(queries), 3)
    found = [
        retrieval_examples(rated, queries, lists, EvaluationOptions(num_examples=3, seed=s))
        for s in (1, 1, 2)
    ]
    assert found[0] == found[1] != found[2]
    assert found[0][0]["recommended"] == []
    assert not retrieval_examples(rated, queries, lists, EvaluationOptions(num_examples=0))


def test_relevant_item_outside_the_catalogue_has_no_rank(rated):
    queries = rated.queries("test")
    queries.relevant.values = torch.zeros_like(queries.relevant.values)
    (found,) = retrieval_examples(
        rated, queries, Lists.empty(len(queries), 3), EvaluationOptions(num_examples=1)
    )
    assert found["happened"] == [{"title": "(unknown item)", "rank": None}]


def test_ranking_examples_put_the_most_probable_rows_first(rated):
    rows = rated.split_table("test")
    probabilities = np.random.default_rng(0).random(len(rows))
    plain = rows.to_pylist()
    for one in ranking_examples(rated, rows, probabilities, OPTIONS):
        own = [(p, row) for p, row in zip(probabilities, plain, strict=True) if row["user_id"] == one["user"]]
        own.sort(key=lambda pair: -pair[0])
        assert one["num_rows"] == len(own)
        assert one["rows"] == [
            {"title": title(row["item_id"]), "probability": p, "positive": row["positive"]}
            for p, row in own[:10]
        ]
