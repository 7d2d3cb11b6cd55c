"""Which optimizer owns which parameter: fused ones own embedding tables, a dense one everything else."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import torch
import torchrec
from torch import nn
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection, fuse_embedding_optimizer

TableOptimizer = Literal["adamw", "adagrad", "rowwise_adagrad", "sgd"]
Schedule = Literal["constant", "linear", "cosine"]

# What FBGEMM fuses on a CPU; fused Adam asserts there.
_FUSED: dict[str, type[torch.optim.Optimizer]] = {
    "adagrad": torch.optim.Adagrad,
    "rowwise_adagrad": torchrec.optim.RowWiseAdagrad,
    "sgd": torch.optim.SGD,
}


@dataclasses.dataclass(frozen=True)
class Optimizers:
    """AdamW for the dense parameters; for the tables the same, or an optimizer fused into the look-up.

    A fused optimizer updates only the rows a batch has touched, within the backward pass: a step's time does
        not
    depend on the size of the tables. AdamW on tables moves every row every step: best for small data, too
    slow beyond some 100,000 rows.

    Args:
        learning_rate: of AdamW, at its peak; 1e-4 to 1e-2 works.
        weight_decay: of AdamW; not applied to fused tables, biases and normalisation layers.
        table_weight_decay: of AdamW on tables, when `tables` is adamw.
        tables: what moves the tables: adamw, or fused adagrad, rowwise_adagrad or sgd.
        table_learning_rate: of the fused optimizer; 0.01 to 0.1 works. Not scheduled.
        schedule: of `learning_rate` after the warm-up: constant, or falling to zero at the last step.
        warmup_steps: steps of linear rise.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    table_weight_decay: float = 0.0
    tables: TableOptimizer = "adamw"
    table_learning_rate: float = 0.05
    schedule: Schedule = "constant"
    warmup_steps: int = 0

    def fuse(self, model: nn.Module) -> None:
        """Replaces the model's tables by fused ones, when `tables` asks for that; weights are kept."""
        if self.tables == "adamw" or fused_collections(model):
            return
        weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        device = next(model.parameters()).device
        fuse_embedding_optimizer(model, _FUSED[self.tables], {"lr": self.table_learning_rate}, device)
        model.load_state_dict(weights)

    def dense(self, model: nn.Module) -> torch.optim.AdamW | None:
        """AdamW over every parameter that no fused optimizer owns; None when there is none left."""
        groups = parameter_groups(model)
        rates = {"tables": self.table_weight_decay, "weights": self.weight_decay, "vectors": 0.0}
        chosen: list[dict[str, Any]] = [
            {"params": groups[name], "weight_decay": rates[name]} for name in rates if groups[name]
        ]
        if not chosen:
            return None
        return torch.optim.AdamW(chosen, lr=self.learning_rate)

    def factor(self, step: int, num_steps: int) -> float:
        """Learning rate at `step` of `num_steps`, as a share of its peak."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(num_steps - self.warmup_steps, 1)
        if self.schedule == "linear":
            return max(1.0 - done, 0.0)
        if self.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
        return 1.0


def fused_collections(model: nn.Module) -> dict[str, FusedEmbeddingBagCollection]:
    """Collections whose tables are updated in the backward pass, by module name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, FusedEmbeddingBagCollection)
    }


def parameter_groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Every parameter in exactly one group: `fused`, `tables`, `weights` (matrices) or `vectors`."""
    fused = {f"{name}." for name in fused_collections(model)}
    groups: dict[str, list[nn.Parameter]] = {"fused": [], "tables": [], "weights": [], "vectors": []}
    for name, parameter in model.named_parameters():
        if any(name.startswith(prefix) for prefix in fused):
            groups["fused"].append(parameter)
        elif ".embedding_bags." in name:
            groups["tables"].append(parameter)
        else:
            groups["weights" if parameter.ndim > 1 else "vectors"].append(parameter)
    return groups
