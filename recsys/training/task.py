"""Shares between both tasks their optimizers, the check of the loss, and what checkpoints hold."""

from __future__ import annotations

from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn

from recsys.data.datamodule import RecDataModule
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.training.finite import not_finite
from recsys.training.optimizers import Optimizers
from recsys.training.tables import load_whole_fused_state, whole_fused_state


class Task(Protocol):
    """Declares what training asks of a task, beside that it is a LightningModule."""

    model: nn.Module
    optimizers_of: Optimizers
    monitor: str
    trainer: pl.Trainer


def share_of_loss(task: Task, loss: torch.Tensor, batch: Batch) -> torch.Tensor:
    """This process's share of the global batch's mean loss, from the mean over its own part.

    Raises:
        ValueError: the loss is not a number; nothing has moved because of it.
    """
    if not torch.isfinite(loss):
        found = f"the loss is {loss.item()}"
        raise InputError(not_finite(task.model, batch, step=num_batches_done(task), what=found))
    return loss if batch.share == 1.0 else loss * batch.share


def num_batches_done(task: Task) -> int:
    """Training batches before this one, over all epochs."""
    return int(task.trainer.fit_loop.epoch_loop.total_batch_idx)


def configure_optimizers(task: Task) -> OptimizerLRScheduler:
    """The dense optimizer with its schedule; fused ones step by themselves."""
    dense = task.optimizers_of.dense(task.model)
    if dense is None:
        return None
    schedule = torch.optim.lr_scheduler.LambdaLR(dense, lambda step: _factor(task, step))
    return {"optimizer": dense, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def schedule_tables(task: Task) -> None:
    """Gives the fused tables the learning rate of the step that begins."""
    if task.optimizers_of.is_scheduled:
        task.optimizers_of.set_table_rate(task.model, _factor(task, num_batches_done(task)))


def _factor(task: Task, step: int) -> float:
    return task.optimizers_of.factor(step, int(task.trainer.estimated_stepping_batches))


def save_fused_state(task: Task, checkpoint: dict[str, Any]) -> None:
    """Adds the state of the fused optimizers, which Lightning does not see, to a checkpoint."""
    checkpoint["fused_optimizers"] = whole_fused_state(task.model)


def load_fused_state(task: Task, checkpoint: dict[str, Any]) -> None:
    """Restores what `save_fused_state` saved, in place."""
    load_whole_fused_state(task.model, checkpoint["fused_optimizers"])


def data_module(task: Task) -> RecDataModule:
    """The data module of the run."""
    return cast(RecDataModule, task.trainer.datamodule)  # type: ignore[attr-defined]
