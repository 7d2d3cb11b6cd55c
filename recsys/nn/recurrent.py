"""A recurrent encoder of sequences: what each state knows is carried from one event to the next.

Legend: B sequences, S states, D width.
"""

import torch
from torch import nn


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

    def forward(self, x_BSD: torch.Tensor, instants_BS: torch.Tensor) -> torch.Tensor:
        """States [B, S, D]; the instants are not read."""
        states_BSD: torch.Tensor = self.norm(self.dropout(self.units(x_BSD)[0]))
        return states_BSD
