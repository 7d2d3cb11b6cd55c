"""A recurrent encoder of sequences: what each state knows is carried from one event to the next.

Legend: B sequences, S states, P positions of all groups of sequences, D width.
"""

from typing import List  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.nn.packing import Shapes, groups_of


class RecurrentEncoder(nn.Module):
    """Gated recurrent units (GRU4Rec, Hidasi et al., 2016, arXiv 1511.06939), layers on one another.

    Args:
        width: D.
        layers: 1 works.
        dropout: in training, of what a layer hands to the next and of the states.
    """

    def __init__(self, width: int, *, layers: int, dropout: float) -> None:
        super().__init__()
        # NOTE: torch warns of dropout where there is no next layer.
        self.units = nn.GRU(width, width, layers, dropout=dropout if layers > 1 else 0.0, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_PD: torch.Tensor, instants_P: torch.Tensor, shapes: Shapes) -> torch.Tensor:
        """States [P, D]; the instants are not read."""
        states: List[torch.Tensor] = []  # noqa: UP006
        for x_BSD in groups_of(x_PD, shapes):
            states.append(self.units(x_BSD)[0].flatten(0, 1))  # noqa: PERF401 (scripted)
        states_PD: torch.Tensor = self.norm(self.dropout(torch.cat(states)))
        return states_PD
