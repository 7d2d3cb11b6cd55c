"""Latency of one request: what is asked, how often, and that the numbers are those of the clock."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recsys.evaluation import latency
from recsys.evaluation.latency import ranking_latency, retrieval_latency
from recsys.evaluation.options import EvaluationOptions
from recsys.models.two_tower import TwoTower
from recsys.models.wide_deep import WideDeep

OPTIONS = EvaluationOptions(k=(5,), latency_requests=12)


@pytest.fixture
def sizes(monkeypatch):
    """Sizes of the batches that models are given, and a clock that moves by one, two, ... milliseconds."""
    seen = []
    for model, method in ((TwoTower, "encode_queries"), (WideDeep, "forward")):
        original = getattr(model, method)

        def counted(self, batch, original=original):
            seen.append(len(batch))
            return original(self, batch)

        monkeypatch.setattr(model, method, counted)
    ticks = iter(np.cumsum([0.001 * (tick // 2 if tick % 2 else 0) for tick in range(2, 2000)]))
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    return seen


def measured(task, rated, options):
    if task == "retrieval":
        model = TwoTower(rated.schema, embedding_dim=4, hidden=[4])
        return retrieval_latency(model, rated, rated.queries("test"), options)
    model = WideDeep(rated.schema, embedding_dim=4, hidden=[4])
    return ranking_latency(model, rated, rated.events("test"), options, history_length=5)


@pytest.mark.parametrize("task", ["retrieval", "ranking"])
def test_requests_are_asked_one_at_a_time_and_the_first_are_not_counted(task, rated, sizes):
    found = measured(task, rated, OPTIONS)["latency"]
    assert sizes == [1] * 22
    # requests take 1, 2, ... ms by the clock; the first ten are not counted: 11 to 22 remain
    assert found["requests"] == 12
    assert found["p50_ms"] == pytest.approx(16.5)
    assert found["p99_ms"] == pytest.approx(np.percentile(np.arange(11, 23), 99))
    assert found["threads"] == torch.get_num_threads()


@pytest.mark.parametrize("task", ["retrieval", "ranking"])
def test_nothing_is_measured_where_nothing_is_asked(task, rated, sizes):
    assert measured(task, rated, dataclasses.replace(OPTIONS, latency_requests=0)) == {}
    assert sizes == []


def test_slow_model_is_not_waited_for(rated, sizes):
    # 1 + 2 + ... + 63 ms are 2.016 s
    found = measured("retrieval", rated, dataclasses.replace(OPTIONS, latency_requests=500))["latency"]
    assert len(sizes) == 63
    assert found["requests"] == 53
