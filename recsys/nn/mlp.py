"""MLP: a stack of linear layers.

Legend: B examples.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from recsys.nn.normalisation import Normalisation, normalisation_layer


class MLP(nn.Module):
    """Linear layers with ReLU and dropout between; the last layer is followed by neither.

    Args:
        in_features: width of the input.
        widths: output width of each layer, the last one the width of the result; empty is the identity.
        dropout: probability in [0, 1) of zeroing a hidden unit in training.
        normalisation: of each hidden layer before its ReLU: `layer`, `batch` or `none`.
        last: `linear`, or `hidden` where the last layer is one more hidden one.
    """

    def __init__(
        self,
        in_features: int,
        widths: Sequence[int],
        *,
        dropout: float = 0.0,
        normalisation: Normalisation = "none",
        last: Literal["linear", "hidden"] = "linear",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for position, width in enumerate(widths):
            layers.append(nn.Linear(in_features, width))
            if position < len(widths) - 1 or last == "hidden":
                layers += normalisation_layer(normalisation, width)
                layers += [nn.ReLU(), nn.Dropout(dropout)]
            in_features = width
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps [B, in_features] to [B, widths[-1]]."""
        result: torch.Tensor = self.layers(inputs)
        return result
