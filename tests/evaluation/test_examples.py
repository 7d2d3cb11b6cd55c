"""Examples for the report, against the raw ratings."""

import dataclasses

import numpy as np
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.prepare import prepare
from recsys.evaluation.examples import ranking_examples, retrieval_examples
from recsys.evaluation.misses import favourite_misses, head_misses, missed_pairs
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.recommendations import Lists, recommend
from tests.data.preparing import options_for, prepared

OPTIONS = EvaluationOptions(num_examples=12)


def title(item_id):
    return f"Film <{int(item_id[1:])}> & co"


def of_kind(kind, examples):
    return [one for one in examples if one["kind"] == kind]


def test_retrieval_examples_tell_history_answer_and_outcome(rated, ratings, oracle):
    queries = rated.queries("test")
    lists = recommend(oracle, rated, queries, k=5, batch_size=32)
    found = of_kind("random", retrieval_examples(rated, queries, lists, OPTIONS))
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
    for one in of_kind("random", ranking_examples(rated, rows, probabilities, OPTIONS)):
        own = [(p, row) for p, row in zip(probabilities, plain, strict=True) if row["user_id"] == one["user"]]
        own.sort(key=lambda pair: -pair[0])
        assert one["num_rows"] == len(own)
        assert one["rows"] == [
            {"title": title(row["item_id"]), "probability": p, "positive": row["positive"]}
            for p, row in own[:10]
        ]


def test_surest_wrong_rows_come_first_one_of_each_user(rated):
    rows = rated.split_table("test")
    probabilities = np.random.default_rng(1).random(len(rows))
    plain = rows.to_pylist()
    found = of_kind("wrong", ranking_examples(rated, rows, probabilities, OPTIONS))
    errors = {}
    for p, row in zip(probabilities, plain, strict=True):
        errors[row["user_id"]] = max(errors.get(row["user_id"], 0.0), abs(p - row["positive"]))
    worst = sorted(errors.values(), reverse=True)[:12]
    assert [abs(one["probability"] - one["positive"]) for one in found] == worst
    assert len({one["user"] for one in found}) == 12
    first = next(
        row
        for p, row in zip(probabilities, plain, strict=True)
        if row["user_id"] == found[0]["user"] and p == found[0]["probability"]
    )
    assert found[0]["title"] == title(first["item_id"])


def test_rows_that_are_right_are_no_misses(rated):
    rows = rated.split_table("test")
    probabilities = rows["positive"].to_numpy(zero_copy_only=False) * 0.9
    assert of_kind("wrong", ranking_examples(rated, rows, probabilities, OPTIONS)) == []


def readers(tmp_path, *, title_column=None):
    """Three readers with a taste, each of whom wants a book last; what is wanted is popular for one of them.

    ada reads crime and wants c6 (crime); ben reads crime and wants p0 (poetry), which everybody has read;
    eve reads poetry and wants p5 (poetry and crime).
    """
    past = {
        "ada": ["c0", "c1", "c2", "c3", "p0"],
        "ben": ["c0", "c1", "c2", "c3", "c4"],
        "eve": ["p1", "p2", "p3", "p4", "p0"],
        **{f"reader{number}": ["p0"] for number in range(5)},
    }
    wanted = {"ada": "c6", "ben": "p0", "eve": "p5"}
    rows = [(user, item, "train") for user, items in past.items() for item in items]
    rows += [(user, item, "test") for user, item in wanted.items()]
    rows += [("reader0", "c1", "validation")]
    users, items, parts = zip(*rows, strict=True)
    events = {"user_id": users, "item_id": items, "timestamp": list(range(len(rows))), "part": parts}
    books = sorted({*items})
    genres = [["crime" if book[0] == "c" else "poetry"] for book in books]
    genres[books.index("p5")].append("crime")
    shelf = {
        "item_id": books,
        title_column or "genres": [one[0] for one in genres] if title_column else genres,
    }
    options = options_for(tmp_path, events, items=shelf, split="predefined", columns={"split": "part"})
    options = dataclasses.replace(
        options, items=dataclasses.replace(options.items, title_column=title_column)
    )
    return PreparedDataset.open(prepare(options))


def test_worst_misses_are_popular_or_what_the_history_is_of(tmp_path):
    dataset = readers(tmp_path)
    queries = dataset.queries("test")
    pairs = missed_pairs(queries, Lists.empty(len(queries), 3))
    assert len(pairs.items) == 3
    (head,) = head_misses(dataset, queries, pairs, num_misses=5)
    assert queries.user_ids[head.query] == "ben"
    assert head.reason == "p0 had 7 positives in train, place 1 of 12"
    found = favourite_misses(dataset, queries, pairs, num_misses=5, seed=0)
    assert [(queries.user_ids[one.query], one.reason) for one in found] == [
        ("eve", "5 of the 5 liked before are poetry, and so is p5"),
        ("ada", "4 of the 5 liked before are crime, and so is c6"),
    ]
    assert [one.query for one in favourite_misses(dataset, queries, pairs, num_misses=1, seed=0)] == [
        found[0].query
    ]


def test_what_is_in_the_list_or_unknown_is_no_miss(tmp_path):
    dataset = readers(tmp_path)
    queries = dataset.queries("test")
    lists = Lists.empty(len(queries), 2)
    lists.item_rows[0, 1] = queries.relevant.values[0]
    queries.relevant.values[1] = 0
    pairs = missed_pairs(queries, lists)
    assert pairs.queries.tolist() == [2]
    assert pairs.items.tolist() == [int(queries.relevant.values[2])]


def test_misses_are_shown_with_their_reason(tmp_path):
    dataset = readers(tmp_path)
    queries = dataset.queries("test")
    lists = Lists.empty(len(queries), 3)
    found = retrieval_examples(dataset, queries, lists, EvaluationOptions(num_examples=4))
    (head,) = of_kind("head_missed", found)
    assert head["user"] == "ben"
    assert head["happened"] == [{"title": "p0", "rank": None}]
    assert head["reason"].endswith("; it is not among the 3 recommended.")
    assert len(of_kind("favourite_missed", found)) == 2


def test_title_is_no_kind_of_item(tmp_path):
    dataset = readers(tmp_path, title_column="title")
    assert "title" in [feature.name for feature in dataset.schema.features if feature.kind == "id"]
    queries = dataset.queries("test")
    pairs = missed_pairs(queries, Lists.empty(len(queries), 3))
    assert favourite_misses(dataset, queries, pairs, num_misses=5, seed=0) == []


def test_without_kinds_of_items_there_are_no_favourites(rated):
    queries = rated.queries("test")
    pairs = missed_pairs(queries, Lists.empty(len(queries), 3))
    assert favourite_misses(rated, queries, pairs, num_misses=5, seed=0) == []


def test_head_misses_are_the_most_popular_of_different_users_and_items_that_could_be_listed(tmp_path):
    fans = [(f"fan{fan}", f"hit{hit}", "train") for hit in range(4) for fan in range(12 - hit)]
    rare = [("collector", f"rare{number}", "train") for number in range(60)]
    asked = [
        ("fan0", "hit0"),
        ("ann", "hit3"),
        ("ann", "hit0"),
        ("bob", "hit0"),
        ("cy", "rare7"),
        ("cy", "hit2"),
    ]
    asked += [("dee", "hit1"), ("eli", "hit1")]
    rows = [*fans, *rare, ("fan1", "rare0", "validation"), *((user, item, "test") for user, item in asked)]
    users, items, parts = zip(*rows, strict=True)
    events = {"user_id": users, "item_id": items, "timestamp": list(range(len(rows))), "part": parts}
    station = prepared(tmp_path, events, split="predefined", columns={"split": "part"})
    dataset = PreparedDataset.open(station)
    queries = dataset.queries("test")
    pairs = missed_pairs(queries, Lists.empty(len(queries), 3))
    assert len(pairs.items) == len(asked)
    # fan0 has had hit0; ann's other one and eli's come too late; rare7 is no hit.
    expected = [("ann", "hit0"), ("dee", "hit1"), ("cy", "hit2")]
    for num_misses in (3, 2, 100):
        found = head_misses(dataset, queries, pairs, num_misses=num_misses)
        shown = [(queries.user_ids[one.query], one.reason.partition(" ")[0]) for one in found]
        assert shown == expected[:num_misses]
    assert found[1].reason == "hit1 had 11 positives in train, place 2 of 64"
