"""Matrix factorization and EASE, their scores added: what unordered likes are answered best by here.

    score(u, i) = <v_u, v_i> + b_i + weight x EASE(history of u, i) / std

The factorization (Koren, Bell and Volinsky, 2009) is trained by gradients as if it were alone, and knows who
asks; EASE (`recsys.models.ease`) is computed from the train positives, and knows what was liked since. They
are wrong about different things. The standard deviation is that of EASE's scores for the users of train, so
that a weight means the same for every catalogue. Early stopping watches the sum.

MovieLens-100K, 70/10/20 of each user's likes at random, seed 0: test NDCG@10 .3175.

Legend: B examples, D embedding dimension, E singular values of EASE, T rows of the item table.
"""

from typing import Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.ease import ease_factors
from recsys.models.protocols import TowerModel, embed
from recsys.nn.embeddings import FeatureTables
from recsys.nn.factors import ItemVector, UserVector, computed_tables, history_feature, put_rows
from recsys.nn.linear_terms import LINEAR_DIM
from recsys.nn.spectral import interaction_matrix, spectrum_of
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.schema.features import ITEM_ID, USER_ID, FeatureSchema
from recsys.schema.positives import TrainPositives


class EaseFactorization(TowerModel):
    """Retrieval by the sum of a matrix factorization and EASE.

    Args:
        schema: features of the prepared dataset; `user_id`, `item_id` and the history are used.
        embedding_dim: D, of the factorization, a multiple of 4.
        ease_dim: E, singular values of EASE that are kept, a multiple of 4.
        ease_weight: standard deviations of EASE's scores count so many times; 0.2 to 1 works.
        l2: regularisation of EASE; 50 to 1000 works.
        dropout: of the embeddings' coordinates, in training.
        id_dropout: see `FeatureTables`.
        init_std: standard deviation of the initial embeddings.

    Raises:
        ValueError: `l2` is not positive, or the dataset has no history.
    """

    auto_sizes = sizes.EASE_FACTORIZATION

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int = 64,
        ease_dim: int = 512,
        ease_weight: float = 0.5,
        l2: float = 200.0,
        dropout: float = 0.3,
        id_dropout: float = 0.02,
        init_std: float = 0.1,
    ) -> None:
        super().__init__()
        if l2 <= 0:
            raise InputError(f"`model.l2` must be positive, got {l2}")
        user, item = schema[USER_ID], schema[ITEM_ID]
        self.l2 = l2
        self.ease_weight = ease_weight
        self.tables = FeatureTables(
            [user, item], embedding_dim=embedding_dim, init_std=init_std, id_dropout=id_dropout
        )
        self.biases = FeatureTables([item], embedding_dim=LINEAR_DIM, prefix="bias_", init_std=0.0)
        history = history_feature(schema, "EASE")
        self.read = computed_tables(history, embedding_dim=ease_dim, prefix="read_")
        self.scored = computed_tables(item, embedding_dim=ease_dim, prefix="scored_")
        self.query_tower = _WithEase(UserVector(dropout), "read_history")
        self.candidate_tower = _WithEase(ItemVector(dropout), "scored_item_id")

    def show_positives(self, positives: TrainPositives) -> None:
        """Computes EASE, whose part of the scores is scaled as the file says."""
        matrix_UT = interaction_matrix(positives, num_rows=self.scored.features[0].num_rows)
        read_TE, scored_TE = ease_factors(spectrum_of(matrix_UT, rank=self.scored.embedding_dim), l2=self.l2)
        liked_U1 = torch.from_numpy(matrix_UT.sum(axis=1)).clamp(min=1)
        queries_UE = torch.from_numpy(matrix_UT @ read_TE.numpy()) / liked_U1
        # Variance of a dot product with all items, without the product.
        centred_TE = scored_TE[1:] - scored_TE[1:].mean(dim=0)
        covariance_EE = centred_TE.T @ centred_TE / len(centred_TE)
        deviations_U = ((queries_UE @ covariance_EE) * queries_UE).sum(dim=1).clamp(min=0).sqrt()
        scale = self.ease_weight / deviations_U[deviations_U > 0].mean()
        put_rows(self.read, read_TE)
        put_rows(self.scored, scale * scored_TE)

    def encode_queries(self, batch: Batch) -> torch.Tensor:
        """Vectors [B, D + 1 + E]; [B, D + 1] in training."""
        embedded = self.tables(batch.ids) if self.training else embed(self, batch)
        vectors: torch.Tensor = self.query_tower(embedded, batch.dense)
        return vectors


class _WithEase(nn.Module):
    """[the trained vector, EASE's]; without the last in training."""

    def __init__(self, trained: nn.Module, computed: str) -> None:
        super().__init__()
        self.trained = trained
        self.computed = computed

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D + 1 + E]."""
        known: torch.Tensor = self.trained(embedded, dense)
        if self.training:
            return known
        return torch.cat([known, embedded[self.computed]], dim=1)
