"""DLRM ranking (Naumov et al., 2019, "Deep Learning Recommendation Model", arXiv 1906.00091).

A bottom MLP turns the numbers into one more vector of the embeddings' width; the dot products of every two
vectors, beside that vector itself, enter a top MLP. What we changed: the bottom MLP also reads a constant 1,
so that there is a vector without numbers too, whose dot products are then a weight for every id.

MovieLens-100K, experiment ml100k_dlrm_global_time, mean of seeds 0 to 2 on test:
AUC .6986, GAUC .7158, log loss .6229.

Legend: B examples, D embedding dimension, N dense features.
"""

from collections.abc import Sequence
from typing import Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import embed
from recsys.nn.fields import Fields, ranking_tables
from recsys.nn.mlp import MLP
from recsys.nn.normalisation import Normalisation
from recsys.nn.pairwise import PairwiseDots
from recsys.schema.batch import Batch
from recsys.schema.features import FeatureSchema


class DLRM(nn.Module):
    """Ranking by an MLP over the dot products of embeddings.

    Args:
        schema: features of the prepared dataset; all are used but those left out.
        embedding_dim: D, a multiple of 4.
        bottom_hidden: widths of the hidden layers over the numbers.
        hidden: widths of the hidden layers over the dot products.
        leave_out: names of features the model shall not see.
        dropout: in both MLPs, in training.
        normalisation: of hidden layers of the top MLP; see `MLP`.
        field_dropout: see `Fields`.
        id_dropout: see `FeatureTables`.
        init_std: standard deviation of the initial embeddings; products of ones much below 0.1 vanish.
    """

    auto_sizes = sizes.RANKING

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int = 16,
        bottom_hidden: Sequence[int] = (64,),
        hidden: Sequence[int] = (128, 64),
        leave_out: Sequence[str] = (),
        dropout: float = 0.1,
        normalisation: Normalisation = "none",
        field_dropout: float = 0.0,
        id_dropout: float = 0.02,
        init_std: float = 0.1,
    ) -> None:
        super().__init__()
        self.tables = ranking_tables(
            schema, leave_out, embedding_dim=embedding_dim, init_std=init_std, id_dropout=id_dropout
        )
        fields = Fields(schema, embedding_dim=embedding_dim, leave_out=leave_out, dropout=field_dropout)
        dots = PairwiseDots(fields.num_sparse + 1)
        self.head = DLRMHead(
            fields,
            bottom=MLP(1 + fields.num_dense, [*bottom_hidden, embedding_dim], dropout=dropout),
            dots=dots,
            top=MLP(
                embedding_dim + dots.num_pairs, [*hidden, 1], dropout=dropout, normalisation=normalisation
            ),
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [B]."""
        logits: torch.Tensor = self.head(embed(self, batch), batch.dense)
        return logits


class DLRMHead(nn.Module):
    """top([bottom(dense), dots of all pairs])."""

    def __init__(self, fields: Fields, *, bottom: MLP, dots: PairwiseDots, top: MLP) -> None:
        super().__init__()
        self.fields = fields
        self.bottom = bottom
        self.dots = dots
        self.top = top

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Logits [B]."""
        features_BFD, dense_BN = self.fields(embedded, dense)
        ones_B1 = torch.ones_like(features_BFD[:, 0, :1])
        bottom_BD = self.bottom(torch.cat([ones_B1, dense_BN], dim=1))
        dots_BP = self.dots(torch.cat([bottom_BD[:, None], features_BFD], dim=1))
        logits_B: torch.Tensor = self.top(torch.cat([bottom_BD, dots_BP], dim=1)).squeeze(1)
        return logits_B
