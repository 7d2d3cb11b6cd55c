"""Which optimizer owns which parameter: fused ones own embedding tables, a dense one everything else."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # torch is imported where it is used: a mistyped key need not wait for it
    import torch
    from torch import nn

TableOptimizer = Literal["adamw", "adagrad", "rowwise_adagrad", "sgd"]
Schedule = Literal["constant", "linear", "cosine"]

logger = logging.getLogger(__name__)

# Of so many numbers on, AdamW moves them in one pass, four times as quick as one operation after the other.
# Its rounding differs; below it the time does not count, and figures come again to the last digit.
_IN_ONE_PASS = 5_000_000


@dataclasses.dataclass(frozen=True)
class Optimizers:
    """AdamW for the dense parameters; for the tables the same, or an optimizer fused into the look-up.

    A fused optimizer updates only the rows a batch has touched, within the backward pass: a step's time does
    not depend on the size of the tables. AdamW on tables moves every row every step: best for small data, too
    slow beyond some 100,000 rows.

    The schedule drives both. What acts on gradients that are kept does not reach fused tables: weight decay
    and `trainer.gradient_clip_norm`. All tables of a model share one learning rate.

    Args:
        learning_rate: of AdamW, at its peak; 1e-4 to 1e-2 works.
        weight_decay: of AdamW; not applied to fused tables, biases and normalisation layers.
        table_weight_decay: of AdamW on tables, when `tables` is adamw.
        tables: what moves the tables: adamw, or fused adagrad, rowwise_adagrad or sgd.
        table_learning_rate: of the fused optimizer, at its peak; 0.01 to 0.1 works.
        schedule: of both rates after the warm-up: constant, or falling to zero at the last step.
        warmup_steps: steps of linear rise.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    table_weight_decay: float = 0.0
    tables: TableOptimizer = "adamw"
    table_learning_rate: float = 0.05
    schedule: Schedule = "constant"
    warmup_steps: int = 0

    @property
    def is_fused(self) -> bool:
        """True when the tables are moved within the backward pass."""
        return self.tables != "adamw"

    @property
    def is_scheduled(self) -> bool:
        """True when learning rates change from step to step."""
        return self.schedule != "constant" or self.warmup_steps > 0

    def fuse(self, model: nn.Module, device: torch.device | str = "cpu") -> None:
        """Puts fused tables on `device` in place of the model's, when `tables` asks; keeps weights."""
        import torch

        from recsys.training.tables import fuse

        if self.is_fused:
            if self.table_weight_decay:
                logger.warning(
                    "`optimizer.table_weight_decay` is not applied: tables moved by %s have none", self.tables
                )
            where = torch.device(device)
            fuse(model, optimizer=self.tables, learning_rate=self.table_learning_rate, device=where)

    def dense(self, model: nn.Module) -> torch.optim.AdamW | None:
        """AdamW over every parameter that no fused optimizer owns; None when there is none left."""
        from torch.optim import AdamW

        groups = self.groups(model)
        rates = {"tables": self.table_weight_decay, "weights": self.weight_decay, "vectors": 0.0}
        chosen: list[dict[str, Any]] = [
            {"params": groups[name], "weight_decay": rates[name]} for name in rates if groups[name]
        ]
        if not chosen:
            return None
        size = sum(parameter.numel() for group in chosen for parameter in group["params"])
        return AdamW(chosen, lr=self.learning_rate, fused=True if size >= _IN_ONE_PASS else None)

    def groups(self, model: nn.Module) -> dict[str, list[nn.Parameter]]:
        """Every parameter in exactly one group: `fused`, `tables`, `weights` (matrices) or `vectors`."""
        groups = parameter_groups(model)
        owned = [id(parameter) for members in groups.values() for parameter in members]
        assert len(owned) == len(set(owned)), "a parameter has two optimizers"
        assert not (self.is_fused and groups["tables"]), "a table that should be fused is not"
        assert self.is_fused or not groups["fused"], "a table that should not be fused is"
        return groups

    def set_table_rate(self, model: nn.Module, factor: float) -> None:
        """Gives the fused optimizers `factor` of their peak learning rate."""
        from recsys.training.tables import fused_collections, optimizer_of

        for collection in fused_collections(model).values():
            optimizer = optimizer_of(collection)
            for group in optimizer.param_groups:
                group["lr"] = self.table_learning_rate * factor
            optimizer.step()  # hands the rate to the kernel; moves nothing

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


def parameter_groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Every parameter in exactly one group: `fused`, `tables`, `weights` (matrices) or `vectors`."""
    from recsys.training.tables import fused_collections

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
