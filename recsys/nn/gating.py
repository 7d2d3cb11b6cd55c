"""Gating: how much each input matters in a given context.

Legend: B examples, C width of the context, W width of what is gated.
"""

import torch
from torch import nn

from recsys.nn.mlp import MLP


class FeatureGate(nn.Module):
    """x * 2 sigmoid(MLP(context)): x itself at first, more or less of each coordinate later.

    Args:
        context_width: C.
        width: W.
        hidden: width of the hidden layer.

    Reference:
        Mao et al. 2023, arXiv 2304.00902, equations 4 and 5.
    """

    def __init__(self, context_width: int, width: int, *, hidden: int) -> None:
        super().__init__()
        self.mlp = MLP(context_width, [hidden, width])

    def forward(self, inputs_BW: torch.Tensor, context_BC: torch.Tensor) -> torch.Tensor:
        """Gated inputs [B, W]."""
        gated_BW: torch.Tensor = inputs_BW * (2.0 * torch.sigmoid(self.mlp(context_BC)))
        return gated_BW


class LearnedGate(nn.Module):
    """x * 2 sigmoid(g), where g is learned and the same for all examples; the context is not read.

    Args:
        width: W.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gates = nn.Parameter(torch.zeros(width))

    def forward(self, inputs_BW: torch.Tensor, context_BC: torch.Tensor) -> torch.Tensor:
        """Gated inputs [B, W]."""
        gated_BW: torch.Tensor = inputs_BW * (2.0 * torch.sigmoid(self.gates))
        return gated_BW
