"""xDeepFM ranking (Lian et al., 2018, arXiv 1803.05170).

A linear part over every id, a compressed interaction network (CIN), whose layers make crosses of whole
vectors, one degree more a layer, and an MLP; their logits add up. A numeric field is its standardised value
times a learned vector. What we changed: a multi-valued field is the mean of its embeddings, and CIN's maps
are not split between the next layer and the output: all of them go to both.

MovieLens-100K, the settings of experiment ml100k_dcn_v2_global_time, seed 0 on test:
AUC .6994, GAUC .7168, log loss .6245.

Legend: B examples, F fields, D embedding dimension, M maps of a layer.
"""

from collections.abc import Sequence
from typing import Any, Dict, List  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import HeadModel
from recsys.nn.fields import Fields, RankingInputs
from recsys.nn.linear_terms import linear_terms
from recsys.nn.mlp import MLP
from recsys.schema.arguments import with_arguments_of
from recsys.schema.features import FeatureSchema


@with_arguments_of(RankingInputs)
class XDeepFM(HeadModel):
    """Ranking by crosses of whole vectors, an MLP and a linear part.

    Args:
        schema: features of the prepared dataset; all are used but those left out.
        hidden: widths of the hidden layers of the MLP.
        maps: M of every layer of the CIN; one to three layers of 16 to 200 work.
        inputs: see `RankingInputs`.
    """

    auto_sizes = sizes.RANKING

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        hidden: Sequence[int] = (128, 64),
        maps: Sequence[int] = (32, 32),
        **inputs: Any,
    ) -> None:
        super().__init__()
        shared = RankingInputs(**inputs)
        self.tables = shared.tables(schema)
        self.linear = shared.weights(self.tables)
        fields = shared.fields(schema)
        num_fields = fields.num_sparse + fields.num_dense
        self.head = _XDeepFMHead(
            fields,
            crosses=CompressedInteractions(num_fields, maps),
            deep=shared.mlp(num_fields * shared.embedding_dim, [*hidden, 1]),
            embedding_dim=shared.embedding_dim,
        )


class _XDeepFMHead(nn.Module):
    """bias + linear terms + linear(CIN(fields)) + MLP(fields)."""

    linear_names: List[str]  # noqa: UP006

    def __init__(
        self, fields: Fields, *, crosses: "CompressedInteractions", deep: MLP, embedding_dim: int
    ) -> None:
        super().__init__()
        self.fields = fields
        self.crosses = crosses
        self.deep = deep
        self.linear_names = [f"linear_{name}" for name in fields.names]
        self.dense_weights = nn.Parameter(torch.zeros(fields.num_dense))
        self.dense_vectors = nn.Parameter(0.01 * torch.randn(fields.num_dense, embedding_dim))
        self.crossed_logit = nn.Linear(crosses.num_outputs, 1)

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Logits [B]."""
        features_BFD, dense_BN = self.fields(embedded, dense)
        linear_B1 = linear_terms(embedded, self.linear_names, dense_BN, self.dense_weights)
        fields_BFD = torch.cat([features_BFD, dense_BN[:, :, None] * self.dense_vectors], dim=1)
        crossed_B1 = self.crossed_logit(self.crosses(fields_BFD))
        logits_B: torch.Tensor = (linear_B1 + crossed_B1 + self.deep(fields_BFD.flatten(1))).squeeze(1)
        return logits_B


class CompressedInteractions(nn.Module):
    """CIN: map m of layer k is sum over i, j of W_mij (x_i * y_j), y the maps before, * by coordinate.

    Every map is summed over its coordinates (equations 6 to 8).

    Args:
        num_fields: F.
        maps: M of every layer.
    """

    def __init__(self, num_fields: int, maps: Sequence[int]) -> None:
        super().__init__()
        before = [num_fields, *maps[:-1]]
        self.layers = nn.ModuleList(
            nn.Conv1d(num_fields * width, size, kernel_size=1)
            for width, size in zip(before, maps, strict=True)
        )
        self.num_outputs = sum(maps)

    def forward(self, fields_BFD: torch.Tensor) -> torch.Tensor:
        """[B, sum of the maps]."""
        maps_BMD = fields_BFD
        pooled = []
        for layer in self.layers:
            pairs_BFMD = fields_BFD[:, :, None, :] * maps_BMD[:, None, :, :]
            maps_BMD = torch.relu(layer(pairs_BFMD.flatten(1, 2)))
            pooled.append(maps_BMD.sum(dim=2))
        return torch.cat(pooled, dim=1)
