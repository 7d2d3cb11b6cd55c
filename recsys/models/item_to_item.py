"""ItemToItem: retrieval by a matrix of items by items, kept as vectors, that is computed from all positives.

A query is the mean over its history of what is read of an item, a candidate what is scored of it; a user
without a history gets what is most popular. The models `ease` and `item_knn` say which matrix.

Legend: B examples, T rows of the item table, D embedding dimension.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch

from recsys.models import sizes
from recsys.models.protocols import TowerModel
from recsys.nn.factors import (
    ComputedItemVector,
    HistoryVector,
    computed_tables,
    history_feature,
    popularity_table,
    put_popularity,
    put_rows,
)
from recsys.schema.features import ITEM_ID, FeatureSchema
from recsys.schema.positives import TrainPositives

# Small enough to decide only where the history says nothing.
_POPULARITY_SCALE = 1e-6

C = TypeVar("C")


class ItemToItem(TowerModel, abc.ABC, Generic[C]):
    """Scores an item by its relations to the items of the history.

    Args:
        schema: features of the prepared dataset; the history and `item_id` are used.
        embedding_dim: D, a multiple of 4.
        num_fits: settings, each of which is fitted in an epoch of its own.

    Raises:
        ValueError: the dataset has no history.
    """

    auto_sizes = sizes.LINEAR

    def __init__(self, schema: FeatureSchema, *, embedding_dim: int, num_fits: int) -> None:
        super().__init__()
        history = history_feature(schema, type(self).__name__)
        self.num_fits = num_fits
        self.embedding_dim = embedding_dim
        self.read = computed_tables(history, embedding_dim=embedding_dim, prefix="read_")
        self.scored = computed_tables(schema[ITEM_ID], embedding_dim=embedding_dim, prefix="scored_")
        self.popularity = popularity_table(schema)
        self.query_tower = HistoryVector()
        self.candidate_tower = ComputedItemVector(_POPULARITY_SCALE)
        self._counted: tuple[TrainPositives, C] | None = None

    def fit(self, positives: TrainPositives, number: int, qualities: Sequence[float] = ()) -> None:
        """Fits with the `number`-th setting."""
        num_rows = self.scored.features[0].num_rows
        if self._counted is None or self._counted[0] is not positives:
            self._counted = positives, self.count(positives, num_rows)
        read_TD, scored_TD = self.factors(self._counted[1], number)
        put_rows(self.read, read_TD)
        put_rows(self.scored, scored_TD)
        put_popularity(self.popularity, positives.item_rows)

    @abc.abstractmethod
    def count(self, positives: TrainPositives, num_rows: int) -> C:
        """Computes what is the same for every setting."""

    @abc.abstractmethod
    def factors(self, counted: C, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what is read and what is scored of each item, [T, D], with the `number`-th setting."""
