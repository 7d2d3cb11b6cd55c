"""Lists that training keeps and evaluation reads."""

import dataclasses

import pytest

from recsys.evaluation import questions
from recsys.evaluation.evaluate import evaluate, quick_metrics
from recsys.evaluation.kept_lists import FILE, WEIGHTS
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.questions import EvaluatedModel
from recsys.evaluation.station import EvaluatedRun
from recsys.schema.manifest import file_sha256, write_manifest
from tests.evaluation.conftest import Oracle

OPTIONS = EvaluationOptions(
    k=(3, 5), resamples=20, num_examples=0, latency_requests=0, ease_l2=(100.0,), knn_neighbours=(5,)
)


@pytest.fixture
def trained(rated, tmp_path):
    """A run whose last step of training kept its lists."""
    model = Oracle(rated.num_items)
    for name in ("config.yaml", "metrics.json", "checkpoints/best"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    quick_metrics(EvaluatedModel(model, rated, "retrieval", 50), OPTIONS, keep_in=tmp_path)
    extra = {"prepared": str(rated.path), "task": "retrieval"}
    write_manifest(
        tmp_path, "run", config={"data": {}, "model": {}}, source=rated.manifest["fingerprint"], extra=extra
    )
    return EvaluatedRun(tmp_path, checkpoint={"name": "best", "sha256": file_sha256(tmp_path / WEIGHTS)})


def scored(monkeypatch):
    """Counts how often a model scores."""
    calls = []
    own = questions.recommend
    monkeypatch.setattr(questions, "recommend", lambda *args, **keys: calls.append(1) or own(*args, **keys))
    return calls


@pytest.mark.parametrize(
    ("changed", "history_length", "times"),
    [
        ({}, 50, 0),
        ({"k": (1, 2)}, 50, 0),
        ({"k": (3, 7)}, 50, 1),
        ({"max_queries": 9}, 50, 1),
        ({"candidates": "known"}, 50, 1),
        ({"queries": "user"}, 50, 1),
        ({}, 7, 1),
    ],
)
def test_lists_are_read_where_the_options_agree(
    rated, trained, monkeypatch, reading, changed, history_length, times
):
    calls = scored(monkeypatch)
    options = dataclasses.replace(OPTIONS, **changed)
    model = Oracle(rated.num_items)
    path = evaluate(EvaluatedModel(model, rated, "retrieval", history_length), options, run=trained)
    assert len(calls) == times
    results, lists = reading(path)
    (trained.folder / FILE).unlink()
    path = evaluate(EvaluatedModel(model, rated, "retrieval", history_length), options, run=trained)
    assert len(calls) == times + 1
    again, lists_again = reading(path)
    assert (results["metrics"], lists) == (again["metrics"], lists_again)


def test_lists_that_the_manifest_does_not_name_are_not_read(rated, trained, monkeypatch):
    (trained.folder / "manifest.json").unlink()
    calls = scored(monkeypatch)
    evaluate(EvaluatedModel(Oracle(rated.num_items), rated, "retrieval", 50), OPTIONS, run=trained)
    assert len(calls) == 1


def test_lists_of_other_weights_are_not_read(rated, trained, monkeypatch):
    calls = scored(monkeypatch)
    other = dataclasses.replace(trained, checkpoint={"name": "last", "sha256": "0" * 64})
    evaluate(EvaluatedModel(Oracle(rated.num_items), rated, "retrieval", 50), OPTIONS, run=other)
    assert len(calls) == 1
