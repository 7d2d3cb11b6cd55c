"""DeepFM ranking (Guo et al., 2017, arXiv 1703.04247).

A factorization machine (a weight for every id, and the dot product of every two fields' embeddings) and an
MLP over the same embeddings; their logits add up. What we changed: a multi-valued field is the mean of its
embeddings in both parts. A numeric field is its standardised value times a learned vector, as in the paper.

MovieLens-100K, experiment ml100k_deep_fm_global_time, mean of seeds 0 to 2 on test:
AUC .6970, GAUC .7150, log loss .6260.

Legend: B examples, D embedding dimension, N dense features.
"""

from collections.abc import Sequence
from typing import Any, Dict, List, Literal  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import HeadModel
from recsys.nn.fields import Fields, RankingInputs
from recsys.nn.linear_terms import linear_terms
from recsys.nn.mlp import MLP
from recsys.nn.pairwise import factorization_machine
from recsys.schema.arguments import with_arguments_of
from recsys.schema.features import FeatureSchema

DeepReads = Literal["all", "numbers"]


@with_arguments_of(RankingInputs)
class DeepFM(HeadModel):
    """Ranking by a factorization machine plus an MLP that share their embeddings.

    Args:
        schema: features of the prepared dataset; all are used but those left out.
        hidden: widths of the hidden layers.
        deep_reads: `all`, or `numbers` alone, so that ids meet in the factorization machine only: with
            `task.embedding_penalty`, on some ten thousand rows, layers over ids make it worse
            (docs/explanation/results.md).
        inputs: see `RankingInputs`.
    """

    auto_sizes = sizes.RANKING

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        hidden: Sequence[int] = (128, 64),
        deep_reads: DeepReads = "all",
        **inputs: Any,
    ) -> None:
        super().__init__()
        shared = RankingInputs(**inputs)
        self.tables = shared.tables(schema)
        self.linear = shared.weights(self.tables)
        fields = shared.fields(schema)
        width = fields.num_dense
        if deep_reads == "all":
            width = (fields.num_sparse + fields.num_dense) * shared.embedding_dim
        self.head = _DeepFMHead(
            fields,
            deep=shared.mlp(width, [*hidden, 1]) if width else None,
            reads_ids=deep_reads == "all",
            embedding_dim=shared.embedding_dim,
        )


class _DeepFMHead(nn.Module):
    """bias + linear terms + sum of pairwise dots + MLP(fields)."""

    linear_names: List[str]  # noqa: UP006

    def __init__(self, fields: Fields, *, deep: MLP | None, reads_ids: bool, embedding_dim: int) -> None:
        super().__init__()
        self.fields = fields
        self.deep = deep
        self.reads_ids = reads_ids
        self.linear_names = [f"linear_{name}" for name in fields.names]
        self.dense_weights = nn.Parameter(torch.zeros(fields.num_dense))
        self.dense_vectors = nn.Parameter(0.01 * torch.randn(fields.num_dense, embedding_dim))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Logits [B]."""
        features_BFD, dense_BN = self.fields(embedded, dense)
        linear_B1 = linear_terms(embedded, self.linear_names, dense_BN, self.dense_weights)
        fields_BFD = torch.cat([features_BFD, dense_BN[:, :, None] * self.dense_vectors], dim=1)
        logits_B1 = self.bias + linear_B1 + factorization_machine(fields_BFD)
        if self.deep is not None:
            logits_B1 = logits_B1 + self.deep(fields_BFD.flatten(1) if self.reads_ids else dense_BN)
        logits_B: torch.Tensor = logits_B1.squeeze(1)
        return logits_B
