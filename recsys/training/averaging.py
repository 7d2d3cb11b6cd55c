"""AveragedWeights: an exponential moving average of the weights, which is validated and saved as `best`."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import nn


class AveragedWeights(pl.Callback):
    """Keeps average <- d average + (1 - d) weights after every step, with d = min(decay, (1 + t) / (10 + t)).

    Training itself is left alone: a run with and without this has the same weights at every step. Validation
    sees the average, and so early stopping and `best` do; `last` holds the weights that training goes on from
    and, in this callback's state, the average.

    Tables with a fused optimizer are left out: they are moved where they lie, and a second copy is what they
    are too large for; the averaged weights are validated beside the tables as they are. So are buffers.

    NOTE: Lightning's own `EMAWeightAveraging` copies the whole module, fused and sharded tables with it.

    Args:
        decay: d at length; the average looks back some 1 / (1 - d) steps.

    Reference:
        Polyak and Juditsky 1992, Acceleration of Stochastic Approximation by Averaging; the warm-up of d is
        TensorFlow's (`tf.train.ExponentialMovingAverage`, `num_updates`).
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.num_updates = 0
        self.is_swapped_in = False
        self._averages: dict[str, torch.Tensor] = {}
        self._weights: dict[str, nn.Parameter] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins with the weights as they are, or with the average of the run that is resumed."""
        self._weights = _averaged_weights(cast(Any, pl_module))
        self._averages = {
            name: self._averages.get(name, weight).detach().to(weight.device, copy=True)
            for name, weight in self._weights.items()
        }

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Puts the weights back where `best` is what is resumed."""
        self._swap(is_in=False)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the average."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        torch._foreach_lerp_(list(self._averages.values()), list(self._weights.values()), 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the average in the weights' place, until `best` has been saved."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._swap(is_in=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the weights back, before `last` is saved."""
        self._swap(is_in=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Puts the average in the weights' place, for the `best` of a run that never validated."""
        self._swap(is_in=True)

    def state_dict(self) -> dict[str, Any]:
        """The average; while it stands in the weights' place, the weights."""
        return {
            "num_updates": self.num_updates,
            "is_swapped_in": self.is_swapped_in,
            "averages": dict(self._averages),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self.num_updates = state_dict["num_updates"]
        self.is_swapped_in = state_dict["is_swapped_in"]
        self._averages = {name: value.clone() for name, value in state_dict["averages"].items()}

    @torch.no_grad()
    def _swap(self, *, is_in: bool) -> None:
        """Brings the average into the weights' place or out of it, where it is not there already."""
        if is_in == self.is_swapped_in:
            return
        for name, weight in self._weights.items():
            former = weight.clone()
            weight.copy_(self._averages[name])
            self._averages[name].copy_(former)
        self.is_swapped_in = is_in


def _averaged_weights(task: Any) -> dict[str, nn.Parameter]:
    """Parameters that no fused optimizer owns, by name."""
    fused = {id(parameter) for parameter in task.optimizers_of.groups(task.model)["fused"]}
    return {name: value for name, value in task.model.named_parameters() if id(value) not in fused}
