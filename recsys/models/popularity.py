"""Popularity: everybody gets what was liked most often in the train split.

The baseline that every recommender must beat (Cremonesi, Koren and Turrin, 2010, found that some do not).

MovieLens-100K, 70/10/20 of each user's likes at random, seed 0: test NDCG@10 .1545.

Legend: B examples, T rows of the item table.
"""

from collections.abc import Sequence
from typing import Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import TowerModel
from recsys.nn.factors import popularity_table, put_popularity
from recsys.schema.features import FeatureSchema
from recsys.schema.positives import TrainPositives


class MostPopular(TowerModel):
    """Retrieval by each item's share of the train positives.

    Args:
        schema: features of the prepared dataset; `item_id` is used.
    """

    auto_sizes = sizes.COMPUTED
    num_fits = 1

    def __init__(self, schema: FeatureSchema) -> None:
        super().__init__()
        self.popularity = popularity_table(schema)
        self.query_tower = _Everybody()
        self.candidate_tower = _Share()

    def fit(self, positives: TrainPositives, number: int, qualities: Sequence[float] = ()) -> None:
        """Counts."""
        put_popularity(self.popularity, positives.item_rows)


class _Everybody(nn.Module):
    """[1]."""

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, 1]."""
        return torch.ones(dense.size(0), 1, device=dense.device)


class _Share(nn.Module):
    """[share of all positives]."""

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, 1]."""
        return embedded["popularity_item_id"].mean(dim=1, keepdim=True)
