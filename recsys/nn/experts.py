"""Experts that several heads share, each head through a gate of its own.

Legend: B examples, V width of the input, E experts, W width of their output, H heads.
"""

from collections.abc import Sequence

import torch
from torch import nn


class GatedExperts(nn.Module):
    """sum over experts e of softmax(G_h x)_e expert_e(x), for every head h.

    Args:
        experts: E modules, [B, V] -> [B, W].
        width: V.
        num_heads: H.

    Reference:
        Ma et al. 2018, Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts,
        equations 6 and 7.
    """

    def __init__(self, experts: Sequence[nn.Module], *, width: int, num_heads: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.gates = nn.Linear(width, num_heads * len(experts), bias=False)
        self.num_heads = num_heads

    def forward(self, inputs_BV: torch.Tensor) -> torch.Tensor:
        """Mixed outputs [B, H, W]."""
        outputs = [expert(inputs_BV) for expert in self.experts]
        outputs_BEW = torch.stack(outputs, dim=1)
        gates_BHE = self.gates(inputs_BV).view(inputs_BV.size(0), self.num_heads, outputs_BEW.size(1))
        return torch.bmm(torch.softmax(gates_BHE, dim=2), outputs_BEW)


class Experts(nn.Module):
    """Experts that read the same."""

    def __init__(self, experts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)

    def forward(self, inputs_BV: torch.Tensor) -> torch.Tensor:
        """[B, E, W]."""
        return torch.stack([expert(inputs_BV) for expert in self.experts], dim=1)


class Towers(nn.ModuleList):
    """A tower for every head, each of which ends in one number."""

    def forward(self, mixed_BHW: torch.Tensor) -> torch.Tensor:
        """[B, H] of what every head reads; further inputs behind those of the heads are left out."""
        return torch.cat([tower(mixed_BHW[:, head]) for head, tower in enumerate(self)], dim=1)
