"""Neighbours: what is added to the scores of items because the same users liked items of the history.

A vector of a few hundred numbers cannot hold which few items go together, a list of each item's nearest ones
can. What they add grows with every event, as what is known of the user does; of a user of whom nothing is
known, what everybody likes says most, and with every event less.

    added(H, i) = weight x sum over h in H of cosine(h, i) + log(share of i x number of items) / (1 + |H|)

A new item has no cosines and would stand behind all that has: it borrows from the known items whose vectors
are nearest, as content has placed it.

Legend: B queries, V items of their histories, T rows of the item table, K neighbours of an item, I catalogue,
N new items of it, M known items from which one borrows, D dimension of the vectors.
"""

import torch
from torch import nn
from torch.nn import functional

# Of an item, those with the highest cosines; on ONCE's books 200 give no better lists, 20 worse ones.
NUM_NEIGHBOURS = 100
# Known items from which a new one borrows, and which share: on the generated bookstore a half leaves new
# books behind known ones, the whole puts them before (docs/explanation/results.md).
_NUM_LENDERS = 10
_BORROWED = 0.75


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

    def are_liked(self, rows: torch.Tensor) -> torch.Tensor:
        """Bool, whether anybody has liked the item of each row of the table."""
        are_liked: torch.Tensor = self.popularity[rows] > self.popularity[0]
        return are_liked


class CatalogueNeighbours(nn.Module):
    """Adds to the scores of the items of a catalogue.

    Args:
        neighbours: by rows of the item table.
        rows_I: row of the table of each item of the catalogue, row 0 the unknown one.
        vectors_ID: of the catalogue.
    """

    rows: torch.Tensor
    borrowers: torch.Tensor
    lenders: torch.Tensor

    def __init__(self, neighbours: Neighbours, rows_I: torch.Tensor, vectors_ID: torch.Tensor) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.share = _BORROWED
        self.num_lenders = _NUM_LENDERS
        self.register_buffer("rows", rows_I)
        are_liked_I = neighbours.are_liked(rows_I)
        are_liked_I[0] = True  # nobody is answered with it
        borrowers_N = torch.logical_not(are_liked_I).nonzero().flatten()
        self.register_buffer("borrowers", borrowers_N)
        self.register_buffer("lenders", self.lenders_of(vectors_ID[borrowers_N], vectors_ID))

    def forward(self, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[B, I]; arguments as of `Neighbours`."""
        added_BT = self.neighbours(rows, lengths)
        added_BI: torch.Tensor = added_BT.index_select(1, self.rows)
        if self.lenders.numel() > 0:
            size = (added_BT.size(0), self.lenders.size(0), self.lenders.size(1))
            lent_BN = added_BT.index_select(1, self.lenders.flatten()).view(size).mean(dim=2)
            added_BI.index_copy_(1, self.borrowers, self.share * lent_BN)
        return added_BI

    def append(self, vectors_ND: torch.Tensor, vectors_ID: torch.Tensor) -> None:
        """Takes new items behind a catalogue, which has its vectors."""
        self.lenders = torch.cat([self.lenders, self.lenders_of(vectors_ND, vectors_ID)])
        first = self.rows.numel()
        self.borrowers = torch.cat([self.borrowers, torch.arange(first, first + vectors_ND.size(0))])
        self.rows = torch.cat([self.rows, torch.zeros(vectors_ND.size(0), dtype=self.rows.dtype)])

    def lenders_of(self, vectors_ND: torch.Tensor, vectors_ID: torch.Tensor) -> torch.Tensor:
        """[N, M] rows of the table of the items nearest to each that somebody has liked."""
        are_liked = self.neighbours.are_liked(self.rows)
        liked = are_liked.nonzero().flatten()
        known = functional.normalize(vectors_ID.index_select(0, liked), dim=1)
        nearest = torch.topk(vectors_ND @ known.T, min(self.num_lenders, liked.numel()), dim=1)[1]
        lenders: torch.Tensor = self.rows[liked[nearest]]
        return lenders
