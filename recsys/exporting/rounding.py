"""Embedding tables of fewer bits: what is stored of them, what is read back, and what that costs.

The file is built from a copy of the model whose tables hold what will be read back, so that the gate compares
like with like; what the rounding itself changes is measured on the test split.

"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from recsys.data.events import Events
from recsys.exporting.build import catalogue_vectors
from recsys.exporting.options import TableType
from recsys.exporting.program.inputs import restored, stored
from recsys.exporting.stage import Stage
from recsys.metrics.classification import auc, log_loss
from recsys.metrics.ranking import find_hits, ndcg
from recsys.models.protocols import RankingModel, RetrievalModel, events_read
from recsys.nn.embeddings import FeatureTables
from recsys.retrieval.exact import top_k

_K = 10
_ASKED_AT_ONCE = 1024


def with_rounded_tables(model: nn.Module, kind: TableType) -> nn.Module:
    """A copy of the model whose tables hold what is read back of them; the model itself for `float32`."""
    if kind == "float32":
        return model
    rounded = copy.deepcopy(model)
    for tables in _tables(rounded):
        state = tables.state_dict()
        for name in map(tables.weight_name, tables.tables()):
            values, scales = stored(state[name].detach().float(), kind)
            state[name] = restored(values, scales, state[name].size(1), torch.arange(len(values)))
        tables.load_state_dict(state)
    return rounded.eval()


def describe_rounding(trained: Stage, rounded: Stage, kind: TableType) -> dict[str, Any]:
    """Returns the manifest's entry on tables: bytes, and test metrics before and after rounding."""
    sizes = {"float32": 0, kind: 0}
    for tables in _tables(trained.model):
        state = tables.state_dict()
        for name in map(tables.weight_name, tables.tables()):
            sizes["float32"] += state[name].numel() * 4
            if kind != "float32":
                parts = stored(state[name].detach().float(), kind)
                sizes[kind] += sum(part.numel() * part.element_size() for part in parts)
    described: dict[str, Any] = {"tables": kind, "table_bytes": sizes}
    if kind != "float32":
        described["test_metrics"] = {"float32": metrics_on_test(trained), kind: metrics_on_test(rounded)}
    return described


@torch.no_grad()
def metrics_on_test(stage: Stage) -> dict[str, float]:
    """NDCG of a retrieval model, with the vectors of the bundle; log loss and AUC of a ranking model.

    Empty where the test split is.
    """
    model, dataset = stage.model, stage.dataset
    if isinstance(model, RetrievalModel):
        return _retrieval_metrics(model, stage)
    assert isinstance(model, RankingModel)
    events = Events.from_arrow(dataset.split_table("test"), dataset.schema)
    if not len(events):
        return {}
    collator, histories = dataset.collator(stage.history_length), dataset.histories("test")
    parts = []
    for positions in torch.split(torch.arange(len(events)), _ASKED_AT_ONCE):
        rows = events.select(positions)
        batch = collator.rows(rows, histories.before(rows))
        parts.append(torch.sigmoid(model.forward(batch).double()))
    labels, probabilities = events.positives.numpy(), torch.cat(parts).numpy()
    metrics = {"log_loss": log_loss(labels, probabilities)}
    return metrics | ({"auc": auc(labels, probabilities)} if 0 < labels.mean() < 1 else {})


def _retrieval_metrics(model: RetrievalModel, stage: Stage) -> dict[str, float]:
    queries = stage.dataset.queries(
        "test", history_length=stage.history_length, events_read=events_read(model), seen=stage.seen
    )
    if not len(queries):
        return {}
    catalogue = catalogue_vectors(model, stage.dataset)
    lists = []
    for positions in torch.split(torch.arange(len(queries)), _ASKED_AT_ONCE):
        batch = queries.batch(positions)
        _, rows = top_k(model.encode_queries(batch), catalogue, _K, seen=batch.seen)
        lists.append(rows.numpy())
    hits, num_relevant = find_hits(
        np.concatenate(lists),
        relevant_rows_V=queries.relevant.values.numpy(),
        relevant_offsets=queries.relevant.offsets.numpy(),
    )
    return {f"ndcg@{_K}": float(ndcg(hits, num_relevant, k=_K).mean())}


def _tables(model: nn.Module) -> list[FeatureTables]:
    return [child for child in model.children() if isinstance(child, FeatureTables)]
