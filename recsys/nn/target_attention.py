"""TargetAttention: what of a history speaks about one candidate.

Legend: B examples, L longest history, D embedding dimension.
"""

from collections.abc import Sequence

import torch
from torch import nn

from recsys.nn.mlp import MLP


class TargetAttention(nn.Module):
    """Sum of a history's vectors, each weighted by how it activates the candidate.

    The weight of h for a candidate t is an MLP of [h, t, h - t, h * t], plus one: at the beginning all count
    alike. Weights are not normalised, so that a long history that agrees says more than a short one.

    Args:
        embedding_dim: D.
        hidden: widths of the MLP's hidden layers; 36 in the paper.
        dropout: in it, in training.

    Reference:
        Zhou et al. 2018, arXiv 1706.06978, equation 3 and figure 2.
    """

    def __init__(self, embedding_dim: int, *, hidden: Sequence[int] = (36,), dropout: float = 0.0) -> None:
        super().__init__()
        self.mlp = MLP(4 * embedding_dim, [*hidden, 1], dropout=dropout)

    def forward(self, history_BLD: torch.Tensor, target_BD: torch.Tensor) -> torch.Tensor:
        """Maps histories, zeros behind their ends, and a candidate for each to [B, D]."""
        target_BLD = target_BD[:, None].expand_as(history_BLD)
        pairs = [history_BLD, target_BLD, history_BLD - target_BLD, history_BLD * target_BLD]
        weights_BL1 = 1 + self.mlp(torch.cat(pairs, dim=2))
        # What stands behind the end of a history is zero, whatever its weight.
        interest_BD: torch.Tensor = (weights_BL1 * history_BLD).sum(dim=1)
        return interest_BD
