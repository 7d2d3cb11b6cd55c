"""LightGCN (He et al., 2020, arXiv 2002.02126): the graph in training, plain vectors in serving.

Users and items have an embedding each; a layer of the graph replaces every node's vector by the sum of its
neighbours', over the root of both degrees, and a node's vector is the mean of all layers. What we changed:
the softmax stands for BPR unless `task.loss=bpr`; outside training the vectors are looked up in tables that
were computed when training was last left, so that neither bundle nor evaluation knows the graph; and a user
whom the graph does not know gets what is most popular.

MovieLens-100K, 70/10/20 of each user's likes at random, seed 0: test NDCG@10 .3064.

Legend: B examples, D embedding dimension, U rows of the user table, T rows of the item table.
"""

from typing import Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import embed
from recsys.nn.factors import (
    ComputedItemVector,
    computed_tables,
    popularity_table,
    put_popularity,
    put_rows,
)
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.schema.features import ITEM_ID, USER_ID, FeatureSchema
from recsys.schema.positives import TrainPositives

# Small enough to decide only where nothing is known of the user.
_POPULARITY_SCALE = 1e-6


class LightGCN(nn.Module):
    """Retrieval by the dot product of vectors that a graph of likes has smoothed.

    Args:
        schema: features of the prepared dataset; `user_id` and `item_id` are used.
        embedding_dim: D, a multiple of 4.
        num_layers: of the graph; 2 or 3 work.
        dropout: of the vectors' coordinates, in training.
        init_std: standard deviation of the initial embeddings.

    Raises:
        ValueError: fewer than 1 layer.
    """

    auto_sizes = sizes.RETRIEVAL

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int = 64,
        num_layers: int = 3,
        dropout: float = 0.0,
        init_std: float = 0.1,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise InputError(f"`model.num_layers` must be at least 1, got {num_layers}")
        self.num_layers = num_layers
        user, item = schema[USER_ID], schema[ITEM_ID]
        self.num_rows = (user.num_rows, item.num_rows)
        self.nodes = nn.Parameter(init_std * torch.randn(sum(self.num_rows), embedding_dim))
        self.dropout = nn.Dropout(dropout)
        self.users = computed_tables(user, embedding_dim=embedding_dim, prefix="smoothed_")
        self.items = computed_tables(item, embedding_dim=embedding_dim, prefix="scored_")
        self.popularity = popularity_table(schema)
        self.query_tower = _SmoothedUser()
        self.candidate_tower = ComputedItemVector(_POPULARITY_SCALE)
        self._graph: torch.Tensor | None = None
        self._smoothed: tuple[torch.Tensor, torch.Tensor] | None = None

    def show_positives(self, positives: TrainPositives) -> None:
        """Takes the graph to train on: an edge for every pair of a known user and item."""
        num_users, num_items = self.num_rows
        known_E = (positives.user_rows > 0) & (positives.item_rows > 0)
        pairs_2E = torch.stack([positives.user_rows[known_E], positives.item_rows[known_E]])
        pairs_2E = torch.unique(pairs_2E, dim=1)
        users_E, items_E = pairs_2E[0], pairs_2E[1] + num_users
        degrees = torch.bincount(torch.cat([users_E, items_E]), minlength=num_users + num_items).float()
        weights_E = (degrees[users_E] * degrees[items_E]).rsqrt()
        ends = torch.stack([torch.cat([users_E, items_E]), torch.cat([items_E, users_E])])
        size = (num_users + num_items,) * 2
        self._graph = torch.sparse_coo_tensor(
            ends, weights_E.repeat(2), size, check_invariants=False
        ).coalesce()
        put_popularity(self.popularity, positives.item_rows)

    def train(self, mode: bool = True) -> "LightGCN":
        """Switches between the graph, in training, and tables of what it has come to, outside."""
        was_training = self.training
        super().train(mode)
        if was_training and not mode and self._graph is not None:
            with torch.no_grad():
                users_UD, items_TD = self._smooth()
                users_UD[0] = 0
                put_rows(self.users, users_UD)
                put_rows(self.items, items_TD)
        self._smoothed = None
        return self

    def encode_queries(self, batch: Batch) -> torch.Tensor:
        """Vectors [B, D + 1] of the users; in training, also smooths anew for the candidates to come."""
        if not self.training:
            vectors: torch.Tensor = self.query_tower(embed(self, batch), batch.dense)
            return vectors
        self._smoothed = self._smooth()
        rows_B = batch.ids[USER_ID].values()
        embedded = {"smoothed_user_id": self.dropout(self._smoothed[0][rows_B])}
        trained: torch.Tensor = self.query_tower(embedded, batch.dense)
        return trained

    def encode_candidates(self, batch: Batch) -> torch.Tensor:
        """Vectors [B, D + 1] of the items."""
        embedded = embed(self, batch)
        if self.training:
            smoothed = self._smoothed or self._smooth()
            embedded["scored_item_id"] = self.dropout(smoothed[1][batch.ids[ITEM_ID].values()])
        vectors: torch.Tensor = self.candidate_tower(embedded, batch.dense)
        return vectors

    def _smooth(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors of all users [U, D] and items [T, D]: the mean of every layer's."""
        assert self._graph is not None, "`show_positives` comes before training"
        graph = self._graph.to(self.nodes.device)
        layer, total = self.nodes, self.nodes
        with torch.autocast(self.nodes.device.type, enabled=False):  # sparse products are float32 alone
            for _ in range(self.num_layers):
                layer = torch.sparse.mm(graph, layer)
                total = total + layer
        users_UD, items_TD = torch.split(total / (self.num_layers + 1), list(self.num_rows))
        return users_UD, items_TD


class _SmoothedUser(nn.Module):
    """[the user's vector, 1]."""

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D + 1]."""
        user_BD = embedded["smoothed_user_id"]
        return torch.cat([user_BD, torch.ones_like(user_BD[:, :1])], dim=1)
