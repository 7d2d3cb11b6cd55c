"""Curves of readers and items by their events, and how often new items are shown."""

import json

import pytest
import torch

from recsys.evaluation import warm_up
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.questions import EvaluatedModel
from recsys.evaluation.recommendations import Lists
from recsys.evaluation.station import EvaluatedRun
from recsys.evaluation.warm_up import first_events, new_items_of, warm_up_of
from recsys.models.two_tower import TwoTower
from recsys.report.evaluation_page import render_report
from recsys.schema.jagged import JaggedColumn
from recsys.schema.rungs import rung_name
from recsys.training.fitted import positives_of

OPTIONS = EvaluationOptions(
    k=(3, 5), resamples=20, num_examples=1, small_slice=5, latency_requests=0, baselines=("popularity",)
)


@pytest.fixture(scope="module")
def judged(rated, tmp_path_factory):
    torch.manual_seed(0)
    model = TwoTower(rated.schema, embedding_dim=8, hidden=[8], cold_start="gate")
    model.counts.set(rated.items.ids["item_id"].values(), rated.item_counts)
    run = EvaluatedRun(tmp_path_factory.mktemp("hybrid") / "run")
    path = evaluate(EvaluatedModel(model, rated, "retrieval", 10), OPTIONS, run=run)
    return json.loads((path / "metrics.json").read_text()), (path / "report.html").read_text("utf-8"), model


def test_readers_weight_of_behaviour_begins_at_nothing(judged):
    results, _, _ = judged
    steps = results["warm_up"]["users"]
    assert [step["events"] for step in steps] == list(warm_up.STEPS[: len(steps)])
    assert len(steps) > 2
    assert steps[0]["weight"] == 0
    assert steps[1]["weight"] > 0
    assert steps[0]["queries"] >= steps[-1]["queries"]


def test_sides_and_baselines_stand_beside_the_model(judged):
    results, page, model = judged
    systems = results["warm_up"]["users"][0]["systems"]
    assert set(systems) >= {"model", "content_alone", "behaviour_alone", "popularity", "item_knn"}
    assert all(set(one["metrics"]) == {"ndcg@5", "hit_rate@5"} for one in systems.values())
    assert {"content_knn", "content_ridge", "content_sum"} <= set(results["baselines"])
    assert model.candidate_tower.mix.forced == -1.0
    assert "Weight of behaviour by the reader" in page


def test_a_model_with_neighbours_is_judged_without_them_too(rated):
    torch.manual_seed(0)
    model = TwoTower(rated.schema, embedding_dim=8, hidden=[8], cold_start="gate", neighbour_weight=50.0)
    model.counts.set(rated.items.ids["item_id"].values(), rated.item_counts)
    model.show_positives(positives_of(rated))
    neighbours, model = model.neighbours, model.eval()
    queries = rated.queries("test", history_length=10, events_read="content")
    curve = warm_up_of(model, rated, queries, OPTIONS)["users"]
    assert model.neighbours is neighbours
    model.neighbours = None
    plain = warm_up_of(model, rated, queries, OPTIONS)["users"]
    for step, other in zip(curve, plain, strict=True):
        mine, theirs = step["systems"], other["systems"]
        assert mine["without_neighbours"] == theirs["model"]
        assert mine["content_alone"] == theirs["content_alone"]
        assert "without_neighbours" not in theirs
    assert curve[-1]["systems"]["model"] != plain[-1]["systems"]["model"]


def test_rungs_say_how_often_they_answer_and_how_good_they_are(judged, rated):
    results, _, model = judged
    queries = rated.queries("test", history_length=10, events_read="content")
    weights = model.query_weights(queries.batch(torch.arange(len(queries)))).tolist()
    lengths = queries.histories.lengths.tolist()
    names = [rung_name(weight, length) for weight, length in zip(weights, lengths, strict=True)]
    rungs = results["warm_up"]["rungs"]
    assert {one["rung"]: one["queries"] for one in rungs} == {name: names.count(name) for name in set(names)}
    assert sum(one["share"] for one in rungs) == pytest.approx(1)
    # The whole is the mean of its parts.
    mean = sum(one["share"] * one["systems"]["model"]["metrics"]["ndcg@5"] for one in rungs)
    assert mean == pytest.approx(results["metrics"]["ndcg@5"])


def test_a_chart_shows_the_rungs_where_there_are_several(judged):
    results, page, _ = judged
    [rung] = results["warm_up"]["rungs"]
    assert "by who answers" not in page
    rungs = [{**rung, "share": 0.75}, {**rung, "rung": "profile", "share": 0.25}]
    page = render_report({**results, "warm_up": {**results["warm_up"], "rungs": rungs}}, [])
    assert "NDCG@5 by who answers" in page
    assert "Queries answered: 25% by profile alone, 75% by behaviour." in page


def test_figures_of_a_step_are_those_of_the_lists(judged, rated):
    results, _, model = judged
    queries = rated.queries("test", history_length=10, events_read="content")
    step = results["warm_up"]["users"][0]
    batch = queries.batch(torch.arange(len(queries)))
    batch.history.lengths.zero_()
    batch.history.positions = batch.history.positions[:0]
    scores = model.encode_queries(batch) @ model.encode_candidates(rated.items).T
    scores[:, 0] = -torch.inf
    best = scores.topk(5).indices
    hit = [
        set(rows) & set(right) != set()
        for rows, right in zip(best.tolist(), queries.relevant.lists(), strict=True)
    ]
    assert step["systems"]["model"]["metrics"]["hit_rate@5"] == pytest.approx(sum(hit) / len(hit))


def test_first_events_are_the_oldest():
    histories = JaggedColumn.of_lists([[8, 3, 9], [], [1]])
    assert first_events(histories, 2).lists() == [[8, 3], [], [1]]
    assert first_events(histories, 0).lists() == [[], [], []]


def test_shares_of_new_items(rated):
    queries = rated.queries("test", history_length=10)
    is_new = rated.item_counts == 0
    is_new[0] = False
    new, known = int(is_new.nonzero()[0]), int(rated.item_counts.argmax())
    lists = Lists.empty(len(queries), 2)
    lists.item_rows[:] = [[known, new]]
    shares = [new_items_of(lists, queries, rated, k=k) for k in (1, 2)]
    assert [one["shown"] for one in shares] == [0.0, 0.5]
    assert shares[0]["catalogue"] == pytest.approx(float(is_new[1:].float().mean()))
