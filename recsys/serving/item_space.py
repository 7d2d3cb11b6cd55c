"""Items near an item, in the space of a model's item vectors.

Legend: I catalogue rows, row 0 the unknown item, D dimension, K items found.
"""

from __future__ import annotations

import dataclasses

import torch


@dataclasses.dataclass(frozen=True)
class ItemSpace:
    """Directions of the items of a catalogue.

    Args:
        directions_ID: [I, D] vectors of length 1.
    """

    directions_ID: torch.Tensor

    @staticmethod
    def of(vectors_ID: torch.Tensor) -> ItemSpace:
        """The space of items with these vectors, whatever their lengths."""
        return ItemSpace(torch.nn.functional.normalize(vectors_ID, dim=1))

    def nearest(
        self, item_row: int, k: int, excluded: torch.Tensor, allowed_I: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Catalogue rows [K] of the k items nearest to one and their cosines [K], best first.

        Args:
            item_row: of the item, which is not among them.
            k: at least 1; fewer are found where fewer are left.
            excluded: catalogue rows to leave out.
            allowed_I: [I] bool, which items there may be; None for all.

        Example:
            >>> space = ItemSpace.of(torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [1.0, 1.0]]))
            >>> rows, cosines = space.nearest(1, 5, torch.zeros(0, dtype=torch.int64), None)
            >>> rows.tolist(), [round(cosine, 4) for cosine in cosines.tolist()]
            ([2, 3], [1.0, 0.7071])
        """
        cosines_I = torch.mv(self.directions_ID, self.directions_ID[item_row])
        if allowed_I is not None:
            cosines_I[~allowed_I] = -torch.inf
        cosines_I[excluded] = -torch.inf
        cosines_I[[0, item_row]] = -torch.inf
        best = torch.topk(cosines_I, min(k, len(cosines_I)))
        is_left = best.values > -torch.inf
        return best.indices[is_left], best.values[is_left]
