"""The table of all systems agrees with the figures of the station."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.questions import EvaluatedModel
from recsys.evaluation.station import EvaluatedRun
from recsys.evaluation.systems import read_systems
from recsys.models.two_tower import TwoTower
from recsys.models.wide_deep import WideDeep

OPTIONS = EvaluationOptions(
    k=(3, 10), resamples=20, num_examples=0, baselines=("popularity", "item_knn"), knn_max_items=1
)


def test_means_of_the_queries_are_the_figures(rated, tmp_path):
    model = TwoTower(rated.schema, embedding_dim=8, hidden=[8])
    path = evaluate(EvaluatedModel(model, rated, "retrieval", 10), OPTIONS, run=EvaluatedRun(tmp_path))
    results = json.loads((path / "metrics.json").read_text())
    table = read_systems(path, k=10)
    assert set(results["baselines"]["item_knn"]) == {"left_out"}
    assert {name.partition("/")[0] for name in table.column_names if "/" in name} == {"model", "popularity"}
    assert not [name for name in table.column_names if name.endswith("@3")]
    for name, block in {"model": results, "popularity": results["baselines"]["popularity"]}.items():
        for metric in ("ndcg@10", "recall@10", "novelty@10"):
            found = np.mean(table[f"{name}/{metric}"].to_numpy())
            assert found == pytest.approx(block["metrics"][metric]), (name, metric)


def test_rows_of_a_ranking_task_hold_the_drawn_negatives_with_their_user(clicked, tmp_path):
    model = WideDeep(clicked.schema, embedding_dim=4, hidden=[8])
    run = EvaluatedRun(tmp_path)
    path = evaluate(EvaluatedModel(model, clicked, "ranking", 10, 2), OPTIONS, run=run)
    results = json.loads((path / "metrics.json").read_text())
    table = read_systems(path, k=10)
    rows = clicked.split_table("test")
    assert table["user_id"].to_pylist() == 3 * [str(user) for user in rows["user_id"].to_pylist()]
    for name, block in {"model": results, **results["baselines"]}.items():
        found = roc_auc_score(table["label"].to_numpy(), table[f"{name}/probability"].to_numpy())
        assert found == pytest.approx(block["metrics"]["auc"]), name
