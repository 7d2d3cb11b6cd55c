"""Projection: an embedding made elsewhere as a model reads it; and the difference that is learnt to it.

Runs the same in Python and as TorchScript.

Legend: B examples, S size of the vectors, D embedding dimension.
"""

import torch
from torch import nn
from torch.nn import functional


class Projection(nn.Module):
    """Maps vectors of any length to embeddings as long, in the beginning, as those of tables are.

    What is known of a vector is its direction: it is scaled to length 1 before. Zeros stay zeros.

    Args:
        size: S.
        embedding_dim: D.
        init_std: of the tables' embeddings.
    """

    def __init__(self, size: int, *, embedding_dim: int, init_std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(embedding_dim, size))
        # A sum of S numbers of a vector of length 1, each times a weight, has the standard deviation of one.
        nn.init.normal_(self.weight, std=init_std)

    def forward(self, vectors_BS: torch.Tensor) -> torch.Tensor:
        """[B, D]."""
        return projected(self.weight, vectors_BS)


def projected(weight_DS: torch.Tensor, vectors_BS: torch.Tensor) -> torch.Tensor:
    """[B, D] of vectors of any type of float."""
    return functional.linear(functional.normalize(vectors_BS.to(weight_DS.dtype), dim=1), weight_DS)


def with_difference(embedded_BD: torch.Tensor, difference_BD: torch.Tensor, limit: float) -> torch.Tensor:
    """Adds a difference of at most `limit` times the length of what it is added to.

    Reference:
        Pembek et al., 2025, "Let It Go? Not Quite: Addressing Item Cold Start in Sequential Recommendations
        with Content-Based Initialization", arXiv 2507.19473: content embeddings stay frozen, and a
        difference of bounded length is learnt to them, so that known items and new ones stay comparable.
    """
    share_B1 = limit * _length(embedded_BD) / _length(difference_BD)
    return embedded_BD + difference_BD * share_B1.clamp(max=1.0)


def _length(vectors_BD: torch.Tensor) -> torch.Tensor:
    """[B, 1]; of zeros not quite 0, where a root has no gradient."""
    return (vectors_BD.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
