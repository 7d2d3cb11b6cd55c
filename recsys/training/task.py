"""What both tasks share: who is optimized how, and what a checkpoint holds beside the weights."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn

from recsys.data.datamodule import RecDataModule
from recsys.training.optimizers import Optimizers, fused_collections


def configure_optimizers(
    task: pl.LightningModule, model: nn.Module, optimizers: Optimizers
) -> OptimizerLRScheduler:
    """The dense optimizer with its schedule; fused ones step by themselves."""
    dense = optimizers.dense(model)
    if dense is None:
        return None
    num_steps = int(task.trainer.estimated_stepping_batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(dense, lambda step: optimizers.factor(step, num_steps))
    return {"optimizer": dense, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def save_fused_state(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Adds the state of the fused optimizers, which Lightning does not see, to a checkpoint."""
    checkpoint["fused_optimizers"] = {
        name: {key: dict(state) for key, state in collection.fused_optimizer().state_dict()["state"].items()}
        for name, collection in fused_collections(model).items()
    }


def load_fused_state(model: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Restores what `save_fused_state` saved, in place."""
    for name, collection in fused_collections(model).items():
        current = collection.fused_optimizer().state_dict()["state"]
        for key, state in checkpoint["fused_optimizers"][name].items():
            for field, value in state.items():
                current[key][field].copy_(value)


def data_module(task: pl.LightningModule) -> RecDataModule:
    """The data module of the run."""
    return cast(RecDataModule, task.trainer.datamodule)  # type: ignore[attr-defined]
