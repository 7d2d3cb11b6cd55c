"""Embedding tables of fewer bits: what is stored of them, what is read back, and what that costs.

The file is built from a copy of the model whose tables hold what will be read back, so that the gate compares
like with like; what the rounding itself changes is measured on the test split.

"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from recsys.exporting.options import TableType
from recsys.exporting.program.inputs import restored, stored
from recsys.exporting.stage import Stage
from recsys.exporting.tasks.register import task_of
from recsys.nn.embeddings import FeatureTables


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
        metrics_on_test = task_of(trained).metrics_on_test
        described["test_metrics"] = {"float32": metrics_on_test(trained), kind: metrics_on_test(rounded)}
    return described


def _tables(model: nn.Module) -> list[FeatureTables]:
    return [child for child in model.children() if isinstance(child, FeatureTables)]
