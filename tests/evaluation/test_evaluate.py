"""Evaluation stations, recomputed from the files they are made of."""

import dataclasses
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from recsys.data.dataset import PreparedDataset
from recsys.evaluation.evaluate import evaluate, quick_metrics
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.questions import EvaluatedModel
from recsys.evaluation.station import EvaluatedRun
from recsys.models.two_tower import TwoTower
from recsys.models.wide_deep import WideDeep
from recsys.schema.manifest import read_station
from tests.data.preparing import STARS, prepared
from tests.evaluation.conftest import Oracle

OPTIONS = EvaluationOptions(k=(3, 5), resamples=50, num_examples=4, latency_requests=0)
OF_EVERY_TASK = {
    "metrics.json",
    "metrics.parquet",
    "slices.parquet",
    "curves.parquet",
    "examples.json",
    "report.html",
}


@pytest.fixture
def two_tower(rated):
    torch.manual_seed(0)
    return TwoTower(rated.schema, embedding_dim=8, hidden=[8])


@pytest.fixture
def wide_deep(rated):
    torch.manual_seed(0)
    return WideDeep(rated.schema, embedding_dim=4, hidden=[8], init_std=0.3)


@pytest.fixture
def run(tmp_path):
    return EvaluatedRun(tmp_path, fingerprint="abc", config={"seed": 7})


def read(path):
    return json.loads((path / "metrics.json").read_text())


def test_retrieval_station_agrees_with_its_own_files_and_the_raw_ratings(two_tower, rated, ratings, run):
    path = evaluate(EvaluatedModel(two_tower, rated, "retrieval", 10), OPTIONS, run=run)
    assert path == run.folder / "evaluation"
    results = read(path)
    lists = {}
    for row in pq.read_table(path / "recommendations.parquet").to_pylist():
        lists.setdefault((row["user_id"], row["timestamp"]), []).append(row)
    test_begins = results["protocol"]["split"]["boundaries"][1]["raw"]
    events = list(zip(*(ratings[name] for name in ("user_id", "item_id", "stars", "timestamp")), strict=True))
    asked = [event for event in events if event[2] >= 4 and event[3] >= test_begins]
    assert len({(user, when) for user, _, _, when in asked}) == len(asked)
    gains, hits = [], []
    for user, item, _, when in asked:
        ranked = lists[user, when]
        assert [row["rank"] for row in ranked] == [1, 2, 3, 4, 5]
        assert all(a["score"] >= b["score"] for a, b in itertools.pairwise(ranked))
        before = {
            other for owner, other, stars, then in events if owner == user and stars >= 4 and then < when
        }
        assert not before & {row["item_id"] for row in ranked}
        ranks = [row["rank"] for row in ranked if row["item_id"] == item]
        hits.append(float(bool(ranks)))
        gains.append(1 / math.log2(ranks[0] + 1) if ranks else 0.0)
    assert 0 < sum(hits) < len(hits)
    assert results["counts"]["queries"] == len(asked) == len(lists)
    assert results["metrics"]["hit_rate@5"] == pytest.approx(np.mean(hits), abs=1e-6)
    assert results["metrics"]["ndcg@5"] == pytest.approx(np.mean(gains), abs=1e-6)
    queries = pq.read_table(path / "queries.parquet")
    assert queries["ndcg@5"].to_numpy().mean() == pytest.approx(results["metrics"]["ndcg@5"])


def test_retrieval_station_is_whole_and_says_where_it_comes_from(two_tower, rated, run):
    path = evaluate(EvaluatedModel(two_tower, rated, "retrieval", 10), OPTIONS, run=run)
    manifest = read_station(path, "evaluation", verify_all=True)
    results = read(path)
    assert manifest["source"] == "abc"
    assert manifest["config"] == {"seed": 7}
    assert manifest["protocol_hash"] == results["protocol_hash"]
    assert set(manifest["files"]) == {
        *OF_EVERY_TASK,
        "baselines.parquet",
        "queries.parquet",
        "recommendations.parquet",
        "slice_members.parquet",
    }
    assert set(results["baselines"]) == {"popularity", "popularity_recent", "item_knn", "ease"}
    assert results["baselines"]["ease"]["chosen"]["ease_l2"] in OPTIONS.ease_l2
    assert results["leaks"] is False
    assert results["warnings"] == []


def test_run_is_named_from_wherever_it_is_evaluated(two_tower, rated, run, monkeypatch):
    monkeypatch.chdir(run.folder)
    here = dataclasses.replace(run, folder=Path("."))
    results = read(evaluate(EvaluatedModel(two_tower, rated, "retrieval", 10), OPTIONS, run=here))
    assert results["run"] == str(run.folder)
    assert f"Evaluation of {run.folder.name}" in Path("evaluation/report.html").read_text()


def test_evaluating_again_replaces_the_station_and_changes_no_figure(two_tower, rated, run):
    first = read(evaluate(EvaluatedModel(two_tower, rated, "retrieval", 10), OPTIONS, run=run))
    second = read(evaluate(EvaluatedModel(two_tower, rated, "retrieval", 10), OPTIONS, run=run))
    assert first == second


def test_one_query_a_user_where_there_are_no_timestamps(clicked, run):
    torch.manual_seed(0)
    model = TwoTower(clicked.schema, embedding_dim=8, hidden=[8])
    results = read(evaluate(EvaluatedModel(model, clicked, "retrieval", 10), OPTIONS, run=run))
    assert results["protocol"]["queries"] == "user"
    assert results["counts"]["queries"] == results["counts"]["users"]
    assert results["baselines"]["popularity_recent"] == {"left_out": "the interactions have no timestamps"}
    assert results["leaks"] is True
    assert "leaks the future" in results["warnings"][0]
    assert "leaks the future" in (run.folder / "evaluation" / "report.html").read_text()


def test_ranking_station_agrees_with_its_own_files(wide_deep, rated, run):
    path = evaluate(EvaluatedModel(wide_deep, rated, "ranking", 10), OPTIONS, run=run)
    assert set(read_station(path, "evaluation")["files"]) == {
        *OF_EVERY_TASK,
        "probabilities.parquet",
        "predictions.parquet",
        "slice_members.parquet",
        "users.parquet",
    }
    results = read(path)
    table = pq.read_table(path / "predictions.parquet")
    test = rated.split_table("test")
    assert table["item_id"].to_pylist() == test["item_id"].to_pylist()
    labels, probabilities = table["label"].to_numpy(), table["probability"].to_numpy()
    users = np.array(table["user_id"].to_pylist())
    assert results["metrics"]["auc"] == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-6)
    assert results["metrics"]["log_loss"] == pytest.approx(log_loss(labels, probabilities), abs=1e-6)
    own = [users == user for user in set(users)]
    own = [mask for mask in own if 0 < labels[mask].sum() < mask.sum()]
    aucs = [roc_auc_score(labels[mask], probabilities[mask]) for mask in own]
    expected = np.average(aucs, weights=[mask.sum() for mask in own])
    assert results["metrics"]["gauc"] == pytest.approx(expected, abs=1e-6)
    assert set(results["baselines"]) == {"rate", "item_rate", "user_and_item_rate"}
    assert results["baselines"]["rate"]["metrics"]["auc"] == 0.5
    assert sum(one["rows"] for one in results["reliability"]) == len(table)


def test_ranking_where_only_positives_are_logged_takes_in_negatives_but_writes_only_test_rows(clicked, run):
    torch.manual_seed(0)
    model = WideDeep(clicked.schema, embedding_dim=4, hidden=[8])
    path = evaluate(EvaluatedModel(model, clicked, "ranking", 10, 2), OPTIONS, run=run)
    results = read(path)
    num_rows = len(clicked.split_table("test"))
    assert results["counts"]["rows"] == 3 * num_rows
    assert results["counts"]["positives"] == num_rows
    assert "beside each 2 items" in results["protocol"]["rows"]
    table = pq.read_table(path / "predictions.parquet")
    assert len(table) == num_rows
    assert set(table["label"].to_pylist()) == {1}


@pytest.mark.parametrize("task", ["retrieval", "ranking"])
def test_quick_metrics_are_those_of_the_whole_evaluation(two_tower, wide_deep, rated, run, task):
    trained = EvaluatedModel({"retrieval": two_tower, "ranking": wide_deep}[task], rated, task, 10)
    quick = quick_metrics(trained, OPTIONS)
    results = read(evaluate(trained, OPTIONS, run=run))
    baseline = {"retrieval": "popularity", "ranking": "item_rate"}[task]
    whole = {"model": results["metrics"], baseline: results["baselines"][baseline]["metrics"]}
    for judged, metrics in whole.items():
        assert quick[judged] == {key: value for key, value in metrics.items() if value is not None}


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_whatever_mode_the_model_came_in(wide_deep, rated, training):
    wide_deep.train(training)
    found = quick_metrics(EvaluatedModel(wide_deep, rated, "ranking", 10), OPTIONS)
    again = quick_metrics(EvaluatedModel(wide_deep, rated, "ranking", 10), OPTIONS)
    assert found == again


def test_test_split_without_positives_is_refused(two_tower, rated, ratings, tmp_path):
    late = [when > np.quantile(ratings["timestamp"], 0.9) for when in ratings["timestamp"]]
    stars = [1 if is_late else value for value, is_late in zip(ratings["stars"], late, strict=True)]
    dataset = PreparedDataset.open(prepared(tmp_path, {**ratings, "stars": stars}, label=STARS))
    with pytest.raises(ValueError, match=r"expected positives in the test split of .*positive_at_least"):
        quick_metrics(EvaluatedModel(two_tower, dataset, "retrieval", 10), OPTIONS)


def test_test_split_without_rows_is_refused(wide_deep, rated, ratings, tmp_path):
    part = ["train"] * (len(ratings["stars"]) - 20) + ["validation"] * 20
    split = {"columns": {"split": "part"}, "split": "predefined"}
    dataset = PreparedDataset.open(prepared(tmp_path, {**ratings, "part": part}, label=STARS, **split))
    with pytest.raises(ValueError, match=r"expected rows in the test split of .*split_fractions"):
        quick_metrics(EvaluatedModel(wide_deep, dataset, "ranking", 10), OPTIONS)


def test_failed_evaluation_leaves_the_former_one(two_tower, rated, run):
    path = evaluate(EvaluatedModel(two_tower, rated, "retrieval", 10), OPTIONS, run=run)
    before = (path / "metrics.json").read_bytes()
    with torch.no_grad():
        next(two_tower.parameters()).fill_(math.nan)
    with pytest.raises(ValueError, match="not a number"):
        evaluate(EvaluatedModel(two_tower, rated, "retrieval", 10), OPTIONS, run=run)
    assert (path / "metrics.json").read_bytes() == before
    assert sorted(one.name for one in run.folder.iterdir()) == ["evaluation"]


def test_baselines_can_be_left_out(two_tower, rated, run):
    options = dataclasses.replace(OPTIONS, baselines=())
    results = read(evaluate(EvaluatedModel(two_tower, rated, "retrieval", 10), options, run=run))
    assert results["baselines"] == {}
    assert results["verdict"]["outcome"] == "alone"
    assert re.search("no baseline", (run.folder / "evaluation" / "report.html").read_text())


def test_evaluation_of_other_options_is_replaced_with_a_word(rated, tmp_path, caplog):
    options = EvaluationOptions(k=(3, 5), resamples=10, latency_requests=0, baselines=("popularity",))
    run = EvaluatedRun(tmp_path)
    model = Oracle(rated.num_items)
    evaluate(EvaluatedModel(model, rated, "retrieval", 50), options, run=run)
    assert "replacing" not in caplog.text
    evaluate(EvaluatedModel(model, rated, "retrieval", 50), dataclasses.replace(options, k=(2,)), run=run)
    assert "which had other options: k [3, 5] -> [2]" in caplog.text


def test_cut_off_above_the_catalogue_leaves_the_evaluation_alone(rated, tmp_path):
    options = EvaluationOptions(k=(5000,), resamples=10)
    with pytest.raises(ValueError, match=r"at most 30, the items.*`evaluation.k`, got \[5000\]"):
        evaluate(
            EvaluatedModel(Oracle(rated.num_items), rated, "retrieval", 50),
            options,
            run=EvaluatedRun(tmp_path),
        )
    assert list(tmp_path.iterdir()) == []
