"""Normalisation of hidden layers.

Legend: B examples, W width of the layer.
"""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

Normalisation = Literal["none", "layer", "batch"]


def normalisation_layer(kind: Normalisation, width: int) -> list[nn.Module]:
    """The layer of this kind, in a list that is empty for `none`."""
    if kind == "layer":
        return [nn.LayerNorm(width)]
    return [BatchNorm(width)] if kind == "batch" else []


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes a batch of one example as well, by the running statistics.

    NOTE: torch's own raises where the last batch of an epoch happens to hold one example. Several processes
    each normalise by their own part of a batch; the main one's running statistics are those that are saved.

    Args:
        width: W.

    Reference:
        Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises [B, W] and scales."""
        whole = self.training and input.size(0) > 1
        return functional.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            weight=self.weight,
            bias=self.bias,
            training=whole,
            momentum=0.1,
            eps=self.eps,
        )
