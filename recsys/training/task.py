"""GradientTask: what the tasks share whose models are moved by gradients."""

from __future__ import annotations

from typing import Any, cast

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


class GradientTask(pl.LightningModule):
    """A task whose model is moved by gradients: its optimizers, the check of the loss, its checkpoints.

    Args:
        model: what is trained.
        optimizers: who moves which parameter.
    """

    model: nn.Module

    def __init__(self, model: nn.Module, optimizers: Optimizers) -> None:
        super().__init__()
        self.model = model
        self.optimizers_of = optimizers

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The dense optimizer with its schedule; fused ones step by themselves."""
        dense = self.optimizers_of.dense(self.model)
        if dense is None:
            return None
        schedule = torch.optim.lr_scheduler.LambdaLR(dense, self._rate_factor)
        return {"optimizer": dense, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Gives the fused tables the learning rate of the step that begins."""
        if self.optimizers_of.is_scheduled:
            self.optimizers_of.set_table_rate(self.model, self._rate_factor(self._num_batches_done))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the state of the fused optimizers, which Lightning does not see."""
        checkpoint["fused_optimizers"] = whole_fused_state(self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores what `on_save_checkpoint` added, in place."""
        load_whole_fused_state(self.model, checkpoint["fused_optimizers"])

    def _share_of_loss(self, loss: torch.Tensor, batch: Batch) -> torch.Tensor:
        """This process's share of the global batch's mean loss, from the mean over its own part.

        Raises:
            ValueError: the loss is not a number; nothing has moved because of it.
        """
        if not torch.isfinite(loss):
            what = f"the loss is {loss.item()}"
            raise InputError(not_finite(self.model, batch, step=self._num_batches_done, what=what))
        return loss if batch.share == 1.0 else loss * batch.share

    @property
    def _num_batches_done(self) -> int:
        """Training batches before this one, over all epochs."""
        return int(self.trainer.fit_loop.epoch_loop.total_batch_idx)

    def _rate_factor(self, step: int) -> float:
        return self.optimizers_of.factor(step, int(self.trainer.estimated_stepping_batches))


def data_module(task: pl.LightningModule) -> RecDataModule:
    """The data module of the run."""
    return cast(RecDataModule, task.trainer.datamodule)  # type: ignore[attr-defined]
