"""Measures how long one request takes in the eager model.

What a server adds (reading the request, looking up its features, the network) is not in it; what it saves by
compiling the model is not either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.data.events import Events
from recsys.data.queries import Queries
from recsys.evaluation.options import EvaluationOptions
from recsys.models.encoding import catalogue_scorer
from recsys.models.protocols import RetrievalModel, popularity_windows
from recsys.schema.batch import Batch

# The first calls allocate, and choose kernels.
_UNMEASURED = 10
# However slow the model, the evaluation does not wait longer.
_MOST_SECONDS = 2.0


@torch.no_grad()
def retrieval_latency(
    model: nn.Module, dataset: PreparedDataset, queries: Queries, options: EvaluationOptions
) -> dict[str, Any]:
    """Time to encode one query and to search the whole catalogue, whose vectors are there already.

    Args:
        model: a `RetrievalModel`, in evaluation mode.
        dataset: holds the catalogue.
        queries: of the test split; those asked are drawn from them.
        options: `latency_requests`, `k` and `seed`.

    Returns:
        For `metrics.json`: `{"latency": {"requests", "p50_ms", "p99_ms", "threads"}}`, empty where no request
        is asked for.
    """
    if not options.latency_requests:
        return {}
    model.eval()
    assert isinstance(model, RetrievalModel)
    popularity = dataset.popularity("test", popularity_windows(model))
    scorer = catalogue_scorer(model, dataset.items, popularity)

    def answer(batch: Batch) -> None:
        scorer.best(model.encode_queries(batch), options.main_k, batch=batch)

    return _latency(queries.batch, answer, num_rows=len(queries), model=model, options=options)


@torch.no_grad()
def ranking_latency(
    model: nn.Module,
    dataset: PreparedDataset,
    events: Events,
    options: EvaluationOptions,
    *,
    history_length: int,
) -> dict[str, Any]:
    """Time to score one row; arguments and result are those of `retrieval_latency`."""
    if not options.latency_requests:
        return {}
    collator = dataset.collator(history_length)
    histories = dataset.histories("test") if collator.needs_history else None

    def request(positions: torch.Tensor) -> Batch:
        rows = events.select(positions)
        return collator.rows(rows, histories.before(rows) if histories else None)

    return _latency(request, model.eval(), num_rows=len(events), model=model, options=options)


def _latency(
    request: Callable[[torch.Tensor], Batch],
    answer: Callable[[Batch], Any],
    *,
    num_rows: int,
    model: nn.Module,
    options: EvaluationOptions,
) -> dict[str, Any]:
    """Answers random requests one after the other, until there are enough or two seconds are over."""
    device = next(model.parameters()).device
    drawn = np.random.default_rng(options.seed).integers(0, num_rows, options.latency_requests + _UNMEASURED)
    seconds: list[float] = []
    for position in drawn.tolist():
        batch = request(torch.tensor([position])).to(device)
        started = time.perf_counter()
        answer(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
        if sum(seconds) > _MOST_SECONDS and len(seconds) > _UNMEASURED:
            break
    measured_ms = 1000 * np.array(seconds[_UNMEASURED:])
    p50, p99 = np.percentile(measured_ms, [50, 99])
    return {
        "latency": {
            "requests": len(measured_ms),
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "threads": torch.get_num_threads(),
        }
    }
