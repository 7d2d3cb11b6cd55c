"""RankingTask: trains a ranking model on labelled rows with binary cross-entropy.

Legend: B examples, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from recsys.losses.pointwise import binary_cross_entropy
from recsys.metrics.classification import auc, gauc, log_loss, user_auc
from recsys.models.protocols import MultiTaskModel, embed, weight_names
from recsys.nn.linear_terms import LINEAR_DIM
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.schema.labels import MAIN
from recsys.training.heads import auxiliary_loss, auxiliary_metrics, check_weights
from recsys.training.optimizers import Optimizers
from recsys.training.processes import gather_objects
from recsys.training.task import GradientTask


class RankingTask(GradientTask):
    """Learns the probability that a row is a positive.

    Args:
        model: a `RankingModel`.
        optimizers: who moves which parameter.
        embedding_penalty: added to the loss, times the mean over examples of the squared length of everything
            that was looked up for an example; a weight of linear terms is one number. Unlike the optimizer's
            weight decay it reaches fused tables, and rows that occur often more than rare ones. 1e-5 to 1e-1
            works; 0 adds nothing.
        head_weights: weight of each head's loss, for a model of several tasks: `main` for the label, the
            others by the names of the auxiliary labels; 1 where not named.

    Raises:
        ValueError: `embedding_penalty` is negative, or `head_weights` do not fit the model.
    """

    kind = "ranking"
    # Not AUC: it goes on rising for epochs after the probabilities have begun to overfit.
    monitor = "val/log_loss"

    def __init__(
        self,
        model: nn.Module,
        optimizers: Optimizers,
        *,
        embedding_penalty: float = 0.0,
        head_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(model, optimizers)
        if embedding_penalty < 0:
            raise InputError(f"`task.embedding_penalty` must not be negative, got {embedding_penalty}")
        self.embedding_penalty = embedding_penalty
        self.labels = model.labels if isinstance(model, MultiTaskModel) else ()
        self.head_weights = dict(head_weights or {})
        check_weights(self.head_weights, self.labels)
        self._weights = weight_names(model)
        self._rows: list[tuple[np.ndarray[Any, Any], ...]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Loss of a batch of labelled rows."""
        if not self.embedding_penalty:
            return self._share_of_loss(self._loss(self._outputs(batch), batch), batch)
        embedded = embed(self.model, batch)
        loss = self._loss(cast(Any, self.model).head(embedded, batch.dense), batch)
        lengths = torch.stack(
            [
                vectors_BD.float().square().sum() / (LINEAR_DIM if name in self._weights else 1)
                for name, vectors_BD in embedded.items()
            ]
        )
        return self._share_of_loss(loss + self.embedding_penalty * lengths.sum() / len(batch), batch)

    def _outputs(self, batch: Batch) -> torch.Tensor:
        """Logits [B], or outputs of every head [B, H]."""
        model = cast(Any, self.model)
        outputs: torch.Tensor = model.every_head(batch) if self.labels else model(batch)
        return outputs

    def _loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The label's loss and, of a model of several tasks, those of the auxiliary labels, weighted."""
        assert batch.labels is not None
        if outputs.ndim == 1:
            return binary_cross_entropy(outputs, batch.labels, weights_B=batch.weights)
        loss = binary_cross_entropy(outputs[:, 0], batch.labels, weights_B=batch.weights)
        loss = self.head_weights.get(MAIN, 1.0) * loss
        if not self.labels:
            return loss
        assert batch.auxiliary_labels is not None
        return loss + auxiliary_loss(
            outputs[:, 1:],
            batch.auxiliary_labels,
            labels=self.labels,
            head_weights=self.head_weights,
            weights_B=batch.weights,
        )

    def on_validation_epoch_start(self) -> None:
        """Forgets the rows of the validation before."""
        self._rows = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keeps probability, label and user of each row, and what the other heads gave and should have."""
        assert batch.labels is not None
        assert batch.user_keys is not None
        outputs = self._outputs(batch).float()
        probabilities = torch.sigmoid(outputs if outputs.ndim == 1 else outputs[:, 0])
        if batch.share > 0:
            kept = [probabilities, batch.labels, batch.user_keys]
            if self.labels:
                assert batch.auxiliary_labels is not None
                kept += [outputs[:, 1:], batch.auxiliary_labels]
            self._rows.append(tuple(value.cpu().numpy() for value in kept))

    def on_validation_epoch_end(self) -> None:
        """Logs AUC, GAUC and log loss over all rows, and the metrics of the other heads."""
        rows = [part for parts in gather_objects(self._rows) for part in parts]
        if not rows:
            return
        probabilities, labels, users, *others = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        values = {"log_loss": log_loss(labels, probabilities)}
        if labels.min() < labels.max():  # a debug run on a few rows may have no AUC
            values["auc"] = auc(labels, probabilities)
        if len(user_auc(labels, probabilities, users)[0]):  # users of one row each have none
            values["gauc"] = gauc(labels, probabilities, users)
        if others:
            outputs_NL, labels_NL = others
            values |= auxiliary_metrics(outputs_NL, labels_NL, self.labels)
        for name, value in values.items():
            # Every process has all rows, so that the mean over processes is the value.
            self.log(f"val/{name}", value, prog_bar=f"val/{name}" == self.monitor, sync_dist=True)
