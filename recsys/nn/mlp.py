"""MLP: a stack of linear layers.

Legend: B examples.
"""

from collections.abc import Sequence

import torch
from torch import nn


class MLP(nn.Module):
    """Linear layers with ReLU and dropout between; the last layer is followed by neither.

    Args:
        in_features: width of the input.
        widths: output width of each layer, the last one the width of the result; empty is the identity.
        dropout: probability in [0, 1) of zeroing a hidden unit in training.
        layer_norm: normalise each hidden layer before its ReLU.
    """

    def __init__(
        self, in_features: int, widths: Sequence[int], *, dropout: float = 0.0, layer_norm: bool = False
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for position, width in enumerate(widths):
            layers.append(nn.Linear(in_features, width))
            if position < len(widths) - 1:
                layers += [nn.LayerNorm(width)] if layer_norm else []
                layers += [nn.ReLU(), nn.Dropout(dropout)]
            in_features = width
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps [B, in_features] to [B, widths[-1]]."""
        result: torch.Tensor = self.layers(inputs)
        return result
