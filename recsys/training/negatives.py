"""NegativeSampler: draws items that a batch's positives compete with, and says how often each is expected.

Legend: I catalogue rows, N negatives.
"""

from __future__ import annotations

from typing import Literal

import torch

Negatives = Literal["uniform", "popularity", "mixed"]


class NegativeSampler:
    """Draws the same negatives in every process, decided by a seed alone.

    Args:
        item_counts_I: [I] float, positives of each item in the train split; of row 0, which is no item, any.
            Items without any are never drawn.
        kind: `uniform` over the catalogue, by `popularity`, or `mixed`, half of each.
        number: N, drawn for a batch.
    """

    def __init__(self, item_counts_I: torch.Tensor, *, kind: Negatives, number: int) -> None:
        self._item_counts_I = item_counts_I
        self._drawn_from = 1 + item_counts_I[1:].nonzero().flatten()
        self._number = number
        self._num_popular = {"uniform": 0, "popularity": number, "mixed": number // 2}[kind]

    def to(self, device: torch.device) -> None:
        """Moves the counts to where the losses are computed."""
        self._item_counts_I = self._item_counts_I.to(device)

    def draw(self, seed: int) -> torch.Tensor:
        """Returns N rows of the catalogue, the uniform ones first; never row 0."""
        generator = torch.Generator().manual_seed(seed % 2**63)
        places = torch.randint(
            len(self._drawn_from), (self._number - self._num_popular,), generator=generator
        )
        uniform = self._drawn_from[places]
        if not self._num_popular:
            return uniform
        # Inverse of the cumulated shares: `multinomial` stops at 16 million items.
        shares = self._item_counts_I[1:].double().cumsum(0).cpu()
        drawn = torch.rand(self._num_popular, generator=generator, dtype=torch.float64) * shares[-1]
        popular = 1 + torch.searchsorted(shares, drawn, right=True).clamp(max=len(shares) - 1)
        return torch.cat([uniform, popular])

    def log_expected_counts(self, *, batch_size: int, num_drawn: int) -> torch.Tensor:
        """[I] log of how often each item is expected among the candidates, in-batch and drawn.

        Where none are drawn, log of each item's share, which differs from that by a constant. Of an item
        that can be neither, -inf.
        """
        counts_I = self._item_counts_I
        if not num_drawn:
            return (counts_I / counts_I.sum()).log()
        expected_I = batch_size * counts_I / counts_I.sum()
        if self._num_popular:
            expected_I = expected_I + self._num_popular * counts_I / counts_I[1:].sum()
        uniform = (self._number - self._num_popular) / len(self._drawn_from)
        return torch.where(counts_I > 0, expected_I + uniform, 0.0).log()
