"""Matrix factorization (Koren, Bell and Volinsky, 2009).

score(u, i) = <v_u, v_i> + b_i, from ids alone. The paper's user bias and global mean are left out: they add
the same number to every item of a user, so neither the ranking nor a softmax or BPR loss can see them.

Legend: B examples, D embedding dimension.
"""

import torch

from recsys.models import sizes
from recsys.models.protocols import TowerModel
from recsys.nn.embeddings import FeatureTables
from recsys.nn.factors import ItemVector, UserVector
from recsys.nn.linear_terms import LINEAR_DIM
from recsys.schema.batch import Batch
from recsys.schema.features import ITEM_ID, USER_ID, FeatureSchema


class MatrixFactorization(TowerModel):
    """Retrieval by the dot product of a user's and an item's embedding, with item biases.

    Args:
        schema: features of the prepared dataset; `user_id` and `item_id` are used.
        embedding_dim: D, a multiple of 4.
        dropout: of the embeddings' coordinates, in training.
        id_dropout: see `FeatureTables`.
        init_std: standard deviation of the initial embeddings.
    """

    auto_sizes = sizes.RETRIEVAL

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int = 64,
        dropout: float = 0.0,
        id_dropout: float = 0.02,
        init_std: float = 0.1,
    ) -> None:
        super().__init__()
        user, item = schema[USER_ID], schema[ITEM_ID]
        self.tables = FeatureTables(
            [user, item], embedding_dim=embedding_dim, init_std=init_std, id_dropout=id_dropout
        )
        self.biases = FeatureTables([item], embedding_dim=LINEAR_DIM, prefix="bias_", init_std=0.0)
        self.query_tower = UserVector(dropout)
        self.candidate_tower = ItemVector(dropout)

    def encode_queries(self, batch: Batch) -> torch.Tensor:
        """Vectors [B, D + 1] of the users."""
        vectors: torch.Tensor = self.query_tower(self.tables(batch.ids), batch.dense)
        return vectors
