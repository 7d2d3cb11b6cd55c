"""Exploration: some places of a list go to items that have been shown little, whoever would have them.

    k 10, share .2        best     a b c d e f g h i j
                          explored a b c d X e f g h Y     X, Y: the best of those shown little

Legend: I catalogue rows, K places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

Best = tuple[torch.Tensor, torch.Tensor]


@dataclasses.dataclass
class Impressions:
    """Counts how often each item of a bundle's catalogue was shown.

    Args:
        model: the retrieval part of a program. An event of train stands for an impression at first; items
            that were added begin at 0.
    """

    model: Any

    def __post_init__(self) -> None:
        known = getattr(self.model, "num_events", torch.zeros(0))  # bundles of earlier releases have none
        self._counts_I = torch.zeros(self._size())
        self._counts_I[: len(known)] = known.float()

    def _size(self) -> int:
        return int(self.model.candidates.size(0))

    def counts(self) -> torch.Tensor:
        """[I] impressions, of items that were added since, too."""
        more = self._size() - len(self._counts_I)
        if more > 0:
            self._counts_I = torch.cat([self._counts_I, torch.zeros(more)])
        return self._counts_I

    def add(self, item_ids: list[Any]) -> int:
        """Counts an impression of each item; how many of them the catalogue knows."""
        rows = self.model.known.rows_of_items(item_ids)
        rows = rows[rows > 0]
        self.counts().index_add_(0, rows, torch.ones(len(rows)))
        return len(rows)

    def few(self, below: int) -> torch.Tensor:
        """Ascending rows of the items that were shown less often; without row 0."""
        rows = (self.counts() < below).nonzero().flatten()
        return rows[rows > 0]


def explored(best: Best, share: float, is_few_I: torch.Tensor, more: Callable[[int], Best]) -> Best:
    """The list with a share of its places for items that were shown little, at even distances.

    Those that the list has already count; the others take the places of its last items.

    Args:
        best: catalogue rows and scores [K], best first.
        share: of the places, rounded to the nearest number of them.
        is_few_I: [I] bool, items that were shown little.
        more: the best so many of these.
    """
    rows_K, scores_K = best
    wanted = min(int(share * len(rows_K) + 0.5), len(rows_K))
    there = set(rows_K[is_few_I[rows_K]].tolist())
    missing = wanted - len(there)
    if missing <= 0:
        return best
    new = [
        (row, score)
        for row, score in zip(*(part.tolist() for part in more(wanted)), strict=True)
        if row not in there
    ][:missing]
    listed = list(zip(rows_K.tolist(), scores_K.tolist(), strict=True))
    # The last of the known ones give way, whatever stands between them.
    known = [pair for pair in listed if pair[0] not in there]
    gone = {row for row, _ in known[len(known) - len(new) :]} if new else set()
    kept = [pair for pair in listed if pair[0] not in gone]
    for number, pair in enumerate(new, start=1):
        kept.insert(number * len(rows_K) // len(new) - 1, pair)
    rows, scores = zip(*kept, strict=True)
    return torch.tensor(rows), torch.tensor(scores)
