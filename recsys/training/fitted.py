"""FittedTask: trains a model that is computed from all train positives at once, an epoch a fit.

An epoch fits once and validates, so that the checkpoint keeps the best of several settings, or of several
rounds; resuming, sweeps, evaluation and export are those of every other training.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.models.protocols import FittedModel
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.schema.features import ITEM_ID, USER_ID
from recsys.schema.positives import TrainPositives
from recsys.training.checkpoint import Checkpoints
from recsys.training.optimizers import Optimizers
from recsys.training.task import data_module
from recsys.training.validation import CatalogueTask

logger = logging.getLogger(__name__)


class FittedTask(CatalogueTask):
    """Fits a model as often as it says, validating each time.

    Args:
        model: a `FittedModel`.
        optimizers: of other tasks; nothing is moved by gradients here.
        ks: cut-offs of the validation metrics.

    Raises:
        ValueError: the model is trained by gradients.
    """

    def __init__(self, model: nn.Module, optimizers: Optimizers, *, ks: tuple[int, ...] = (10,)) -> None:
        super().__init__()
        if not isinstance(model, FittedModel):
            raise InputError(
                f"`task._target_` FittedTask needs a model with a method `fit`, got {type(model).__name__}; "
                "recsys.training.retrieval.RetrievalTask trains it"
            )
        self.model: nn.Module = model
        self.optimizers_of = optimizers
        self.automatic_optimization = False
        self.ks = tuple(ks)
        self._positives: TrainPositives | None = None
        self._qualities: list[float] = []

    def setup(self, stage: str) -> None:
        """Takes the positives and the catalogue from the data module."""
        dataset = data_module(self).dataset
        if stage == "fit" and dataset.has_weights:
            logger.warning(
                "`data.label.weights` do not act on %s, which counts each positive once",
                type(self.model).__name__,
            )
        self._positives = positives_of(dataset)
        self.show_validation(dataset)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Returns None: there is nothing to move."""
        return None

    def on_train_epoch_start(self) -> None:
        """Fits."""
        assert self._positives is not None
        model = cast(FittedModel, self.model)
        if self.current_epoch < model.num_fits:
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                model.fit(self._positives, self.current_epoch, self._qualities)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Does nothing: the epoch has fitted all positives."""

    def on_validation_end(self) -> None:
        """Remembers how good the fit is."""
        kept = self.trainer.checkpoint_callback
        if isinstance(kept, Checkpoints):
            self._qualities.append(kept.sign * float(self.trainer.callback_metrics[kept.monitor]))

    def on_train_epoch_end(self) -> None:
        """Ends the training after the last fit."""
        if self.current_epoch + 1 >= cast(FittedModel, self.model).num_fits:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Says that no optimizer is fused, as every checkpoint does, and how good the fits were."""
        checkpoint["fused_optimizers"] = {}
        checkpoint["qualities"] = self._qualities

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes how good the fits were; checkpoints of earlier releases do not say."""
        self._qualities = checkpoint.get("qualities", [])


def positives_of(dataset: PreparedDataset) -> TrainPositives:
    """The train positives of a dataset, by the rows of its id tables."""
    user_rows, item_rows, _ = dataset.train_positives()
    users, items = dataset.users.ids[USER_ID].values(), dataset.items.ids[ITEM_ID].values()
    return TrainPositives(users[torch.from_numpy(user_rows)], items[torch.from_numpy(item_rows)])
