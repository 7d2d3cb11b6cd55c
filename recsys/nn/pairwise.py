"""Dot products of every two fields, each apart or all added up.

Legend: B examples, F fields, D embedding dimension, P = F (F - 1) / 2 pairs.
"""

import torch
from torch import nn


class PairwiseDots(nn.Module):
    """<v_i, v_j> of every pair i > j, row by row of the lower triangle.

    Args:
        num_fields: F.

    Reference:
        Naumov et al. 2019, arXiv 1906.00091, section 2.1.2.
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, num_fields: int) -> None:
        super().__init__()
        rows, columns = torch.tril_indices(num_fields, num_fields, offset=-1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.num_pairs = len(rows)

    def forward(self, fields_BFD: torch.Tensor) -> torch.Tensor:
        """Maps [B, F, D] to [B, P]."""
        products_BFF = torch.bmm(fields_BFD, fields_BFD.transpose(1, 2))
        return products_BFF[:, self.rows, self.columns]


def factorization_machine(fields_BFD: torch.Tensor) -> torch.Tensor:
    """Sum over pairs i > j of <v_i, v_j>, in time linear in the fields [B, 1].

    Formula: (|sum_i v_i|^2 - sum_i |v_i|^2) / 2.

    Args:
        fields_BFD: [B, F, D].

    Example:
        >>> factorization_machine(torch.tensor([[[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]]])).item()  # 11 + 2 + 4
        17.0

    Reference:
        Rendle 2010, Factorization Machines, lemma 3.1.
    """
    square_of_sum_BD = fields_BFD.sum(dim=1).square()
    sum_of_squares_BD = fields_BFD.square().sum(dim=1)
    return 0.5 * (square_of_sum_BD - sum_of_squares_BD).sum(dim=1, keepdim=True)
