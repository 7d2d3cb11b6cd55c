"""Wide & Deep ranking (Cheng et al., 2016, arXiv 1606.07792).

The wide part is linear over every id and over declared crosses of ids; the deep part an MLP over embeddings
and dense values; their logits add up and are trained jointly. What we changed: both parts share one optimizer
(the paper's FTRL for the wide part does not exist in torch), and multi-valued ids enter the wide part as the
mean of their weights.

MovieLens-100K, experiment ml100k_wide_deep_global_time, mean of seeds 0 to 2 on test:
AUC .7027, GAUC .7160, log loss .6241.

Legend: B examples, D embedding dimension.
"""

from collections.abc import Sequence
from typing import Dict, List  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import HeadModel
from recsys.nn.cross import Cross
from recsys.nn.embeddings import FeatureTables
from recsys.nn.linear_terms import LINEAR_DIM, linear_terms
from recsys.nn.mlp import MLP
from recsys.nn.normalisation import Normalisation
from recsys.schema.features import FeatureSchema


class WideDeep(HeadModel):
    """Ranking by a linear model over ids and crosses plus an MLP over embeddings.

    Args:
        schema: features of the prepared dataset; all are used but those left out.
        embedding_dim: D, a multiple of 4.
        hidden: widths of the hidden layers.
        crosses: lists of feature names; each list is a crossed feature of the wide part.
        cross_buckets: hashed rows of each cross.
        leave_out: names of features the model shall not see.
        dropout: in the MLP, in training.
        normalisation: of hidden layers; see `MLP`.
        id_dropout: see `FeatureTables`.
        init_std: standard deviation of the initial embeddings.
    """

    auto_sizes = sizes.RANKING

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int = 16,
        hidden: Sequence[int] = (128, 64),
        crosses: Sequence[Sequence[str]] = (),
        cross_buckets: int = 10_000,
        leave_out: Sequence[str] = (),
        dropout: float = 0.1,
        normalisation: Normalisation = "none",
        id_dropout: float = 0.02,
        init_std: float = 0.01,
    ) -> None:
        super().__init__()
        features = [f for f in schema.embedded() if f.name not in leave_out]
        parts = [Cross(tuple(schema[name].name for name in cross), cross_buckets) for cross in crosses]
        self.tables = FeatureTables(
            features, embedding_dim=embedding_dim, init_std=init_std, id_dropout=id_dropout
        )
        self.wide = FeatureTables(
            features,
            embedding_dim=LINEAR_DIM,
            crosses=parts,
            prefix="wide_",
            init_std=0.0,
            id_dropout=id_dropout,
        )
        self.head = _WideDeepHead(
            [f.name for f in features],
            wide_names=[f"wide_{name}" for name in [f.name for f in features] + [c.name for c in parts]],
            num_dense=len(schema.dense()),
            embedding_dim=embedding_dim,
            hidden=hidden,
            dropout=dropout,
            normalisation=normalisation,
        )


class _WideDeepHead(nn.Module):
    """sum of wide weights + linear(dense) + MLP(embeddings, dense)."""

    names: List[str]  # noqa: UP006
    wide_names: List[str]  # noqa: UP006

    def __init__(
        self,
        names: Sequence[str],
        *,
        wide_names: Sequence[str],
        num_dense: int,
        embedding_dim: int,
        hidden: Sequence[int],
        dropout: float,
        normalisation: Normalisation,
    ) -> None:
        super().__init__()
        self.names = list(names)
        self.wide_names = list(wide_names)
        self.deep = MLP(
            len(names) * embedding_dim + num_dense,
            [*hidden, 1],
            dropout=dropout,
            normalisation=normalisation,
        )
        self.wide_dense = nn.Parameter(torch.zeros(num_dense))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Logits [B]."""
        deep_B1 = self.deep.of_parts([embedded[name] for name in self.names] + [dense])
        wide_B1 = linear_terms(embedded, self.wide_names, dense, self.wide_dense) + self.bias
        logits_B: torch.Tensor = (deep_B1 + wide_B1).squeeze(1)
        return logits_B
