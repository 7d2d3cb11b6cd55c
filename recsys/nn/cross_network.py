"""The cross network of DCN-v2: polynomials of the input whose degree grows by one a layer.

Legend: B examples, W width of the input, E experts, R rank.
"""

import torch
from torch import nn

from recsys.schema.errors import InputError


class CrossLayer(nn.Module):
    """x_0 * (W x + b) + x, with a full matrix.

    Args:
        width: W.

    Reference:
        Wang et al. 2021, arXiv 2008.13535, equation 1.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, first_BW: torch.Tensor, inputs_BW: torch.Tensor) -> torch.Tensor:
        """[B, W] from the network's input and this layer's."""
        result_BW: torch.Tensor = first_BW * self.linear(inputs_BW) + inputs_BW
        return result_BW


class LowRankCrossLayer(nn.Module):
    """sum over experts i of G_i(x) * (x_0 * (U_i tanh(C_i tanh(V_i x)) + b)) + x, where G is a softmax.

    One expert makes it the plain low-rank layer, but for the tanh.

    Args:
        width: W.
        rank: R, of every expert; W / 4 works.
        num_experts: E.

    Reference:
        Wang et al. 2021, arXiv 2008.13535, equations 2 to 5.
    """

    def __init__(self, width: int, *, rank: int, num_experts: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(num_experts, width, rank))
        self.middle = nn.Parameter(torch.empty(num_experts, rank, rank))
        self.up = nn.Parameter(torch.empty(num_experts, rank, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.gate = nn.Linear(width, num_experts, bias=False)
        for experts in (self.down, self.middle, self.up):
            for matrix in experts:
                nn.init.xavier_normal_(matrix)

    def forward(self, first_BW: torch.Tensor, inputs_BW: torch.Tensor) -> torch.Tensor:
        """[B, W] from the network's input and this layer's."""
        low_BER = torch.tanh(torch.einsum("bw,ewr->ber", inputs_BW, self.down))
        low_BER = torch.tanh(torch.einsum("ber,erq->beq", low_BER, self.middle))
        gates_BE = torch.softmax(self.gate(inputs_BW), dim=1)
        # Gates sum to 1, so that the bias may be added once, behind them.
        crossed_BW = torch.einsum("ber,erw->bw", low_BER * gates_BE[:, :, None], self.up) + self.bias
        result_BW: torch.Tensor = first_BW * crossed_BW + inputs_BW
        return result_BW


class CrossNetwork(nn.Module):
    """`num_layers` cross layers, each of which sees the input beside its predecessor's output.

    Args:
        width: W.
        num_layers: 1 to 4 works; 0 is the identity.
        rank: R of low-rank layers; 0 for full matrices.
        num_experts: E of low-rank layers.

    Raises:
        ValueError: several experts of full rank, which do not exist, or a number out of range.
    """

    def __init__(self, width: int, *, num_layers: int, rank: int = 0, num_experts: int = 1) -> None:
        super().__init__()
        if num_layers < 0 or rank < 0 or num_experts < 1:
            raise InputError(
                "expected `model.num_cross_layers` and `model.rank` of at least 0 and `model.num_experts` of "
                f"at least 1, got {num_layers}, {rank} and {num_experts}"
            )
        if num_experts > 1 and rank == 0:
            raise InputError(
                f"`model.num_experts={num_experts}` needs low-rank layers: set `model.rank`, for example "
                f"{max(width // 4, 1)}"
            )
        self.layers = nn.ModuleList(
            LowRankCrossLayer(width, rank=rank, num_experts=num_experts) if rank else CrossLayer(width)
            for _ in range(num_layers)
        )

    def forward(self, inputs_BW: torch.Tensor) -> torch.Tensor:
        """Maps [B, W] to [B, W]."""
        crossed_BW = inputs_BW
        for layer in self.layers:
            crossed_BW = layer(inputs_BW, crossed_BW)
        return crossed_BW
