"""Neighbours: what is added to the scores of items because the same users liked items of the history.

A vector of a few hundred numbers cannot hold which few items go together, a list of each item's nearest ones
can. What they add grows with every event, as what is known of the user does; of a user of whom nothing is
known, what everybody likes says most, and with every event less.

    added(H, i) = weight x sum over h in H of cosine(h, i) + log(share of i x number of items) / (1 + |H|)

Legend: B queries, V items of their histories, T rows of the item table, K neighbours of an item.
"""

import torch
from torch import nn

# Of an item, those with the highest cosines; on ONCE's books 200 give no better lists, 20 worse ones.
NUM_NEIGHBOURS = 100


class Neighbours(nn.Module):
    """Adds to the scores of the items that the users of the history's items like, by rows of the item table.

    Args:
        num_rows: T.
        weight: of the cosines.
    """

    rows: torch.Tensor
    cosines: torch.Tensor
    popularity: torch.Tensor

    def __init__(self, num_rows: int, *, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.num_rows = num_rows
        self.register_buffer("rows", torch.zeros(num_rows, NUM_NEIGHBOURS, dtype=torch.int32))
        self.register_buffer("cosines", torch.zeros(num_rows, NUM_NEIGHBOURS))
        self.register_buffer("popularity", torch.zeros(num_rows))

    def put(
        self, items: torch.Tensor, neighbours: torch.Tensor, cosines: torch.Tensor, counts_T: torch.Tensor
    ) -> None:
        """Takes pairs of rows, those of an item side by side with the highest cosine first.

        Args:
            items: [N] ascending.
            neighbours: [N] of each at most `NUM_NEIGHBOURS`.
            cosines: [N].
            counts_T: [T] how often each was liked.
        """
        counted = torch.bincount(items, minlength=self.num_rows)
        places = torch.arange(len(items)) - (counted.cumsum(0) - counted)[items]
        self.rows.zero_()[items, places] = neighbours.to(self.rows)
        self.cosines.zero_()[items, places] = cosines.to(self.cosines)
        shares_T = (counts_T + 1) / (counts_T.sum() + self.num_rows)
        self.popularity.copy_((shares_T * self.num_rows).log())

    def forward(self, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[B, T] what is added.

        Args:
            rows: [V] of the histories' items; what a history holds twice counts once.
            lengths: [B] items of each history.
        """
        queries = torch.repeat_interleave(torch.arange(lengths.numel(), device=rows.device), lengths)
        pairs = torch.unique(queries * self.num_rows + rows)
        queries = torch.div(pairs, self.num_rows, rounding_mode="floor")
        rows = pairs - queries * self.num_rows
        added = torch.zeros(lengths.numel() * self.num_rows, device=rows.device)
        places = (queries * self.num_rows).unsqueeze(1) + self.rows.index_select(0, rows)
        added.index_add_(0, places.flatten(), self.cosines.index_select(0, rows).flatten())
        added = added.view(lengths.numel(), self.num_rows).mul_(self.weight)
        return added.addcdiv_(self.popularity.unsqueeze(0), (1.0 + lengths.float()).unsqueeze(1))
