"""DLRM ranking (Naumov et al., 2019, "Deep Learning Recommendation Model", arXiv 1906.00091).

A bottom MLP turns the numbers into one more vector of the embeddings' width; the dot products of every two
vectors, beside that vector itself, enter a top MLP. What we changed: the bottom MLP also reads a constant 1,
so that there is a vector without numbers too, whose dot products are then a weight for every id.

MovieLens-100K, experiment ml100k_dlrm_global_time, mean of seeds 0 to 2 on test:
AUC .6986, GAUC .7158, log loss .6229.

Legend: B examples, D embedding dimension, N dense features.
"""

from collections.abc import Sequence
from typing import Any, Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import HeadModel
from recsys.nn.fields import Fields, RankingInputs
from recsys.nn.mlp import MLP
from recsys.nn.pairwise import PairwiseDots
from recsys.schema.arguments import with_arguments_of
from recsys.schema.features import FeatureSchema


@with_arguments_of(RankingInputs)
class DLRM(HeadModel):
    """Ranking by an MLP over the dot products of embeddings.

    Args:
        schema: features of the prepared dataset; all are used but those left out.
        bottom_hidden: widths of the hidden layers over the numbers.
        hidden: widths of the hidden layers over the dot products.
        init_std: standard deviation of the initial embeddings; products of ones much below 0.1 vanish.
        inputs: see `RankingInputs`.
    """

    auto_sizes = sizes.RANKING

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        bottom_hidden: Sequence[int] = (64,),
        hidden: Sequence[int] = (128, 64),
        init_std: float = 0.1,
        **inputs: Any,
    ) -> None:
        super().__init__()
        shared = RankingInputs(init_std=init_std, **inputs)
        self.tables = shared.tables(schema)
        fields = shared.fields(schema)
        dots = PairwiseDots(fields.num_sparse + 1)
        self.head = _DLRMHead(
            fields,
            bottom=MLP(1 + fields.num_dense, [*bottom_hidden, shared.embedding_dim], dropout=shared.dropout),
            dots=dots,
            top=shared.mlp(shared.embedding_dim + dots.num_pairs, [*hidden, 1]),
        )


class _DLRMHead(nn.Module):
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
