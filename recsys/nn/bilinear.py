"""Bilinear fusion of two streams, head by head.

Legend: B examples, X and Y widths of the streams, H heads.
"""

import torch
from torch import nn

from recsys.schema.errors import InputError


class BilinearFusion(nn.Module):
    """b + w_x x + w_y y + sum over heads h of x_h W_h y_h, where x_h is the h-th part of x.

    Heads cut the X x Y numbers of the matrix by H.

    Args:
        first_width: X, divisible by H.
        second_width: Y, divisible by H.
        num_heads: H.

    Raises:
        ValueError: a width that H does not divide.

    Reference:
        Mao et al. 2023, arXiv 2304.00902, equations 6 to 8.
    """

    def __init__(self, first_width: int, second_width: int, *, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or first_width % num_heads or second_width % num_heads:
            raise InputError(
                "`model.num_heads` must divide the last widths of both streams, got "
                f"{num_heads} heads for {first_width} and {second_width}"
            )
        self.first = nn.Linear(first_width, 1)
        self.second = nn.Linear(second_width, 1, bias=False)
        shape = (num_heads, first_width // num_heads, second_width // num_heads)
        self.matrices = nn.Parameter(torch.empty(shape))
        for matrix in self.matrices:
            nn.init.xavier_normal_(matrix)

    def forward(self, first_BX: torch.Tensor, second_BY: torch.Tensor) -> torch.Tensor:
        """Logits [B, 1]."""
        heads, first_part, second_part = self.matrices.shape
        first_BHx = first_BX.view(first_BX.size(0), heads, first_part)
        second_BHy = second_BY.view(second_BY.size(0), heads, second_part)
        bilinear_B = torch.einsum("bhx,hxy,bhy->b", first_BHx, self.matrices, second_BHy)
        fused_B1: torch.Tensor = self.first(first_BX) + self.second(second_BY) + bilinear_B[:, None]
        return fused_B1
