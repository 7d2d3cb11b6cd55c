"""AutoInt ranking (Song et al., 2019, arXiv 1810.11921).

Every field is a vector, and layers of multi-head self-attention over the fields make crosses of them, one
degree more a layer; an MLP over the same vectors stands beside them (the paper's AutoInt+). A numeric field
is its standardised value times a learned vector, as in the paper. What we changed: nothing.

MovieLens-100K, the settings of experiment ml100k_dcn_v2_global_time, seed 0 on test:
AUC .6986, GAUC .7133, log loss .6242.

Legend: B examples, F fields, D embedding dimension, W width of attention, H heads.
"""

from collections.abc import Sequence
from typing import Any, Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import HeadModel
from recsys.nn.fields import Fields, RankingInputs, flat
from recsys.nn.mlp import MLP
from recsys.schema.arguments import with_arguments_of
from recsys.schema.errors import InputError
from recsys.schema.features import FeatureSchema


@with_arguments_of(RankingInputs)
class AutoInt(HeadModel):
    """Ranking by self-attention over the fields, and an MLP beside it.

    Args:
        schema: features of the prepared dataset; all are used but those left out.
        hidden: widths of the hidden layers of the MLP; empty leaves a linear layer.
        num_layers: of attention; 1 to 3 works.
        num_heads: of attention; 2 works.
        attention_dim: W, a multiple of `num_heads`.
        inputs: see `RankingInputs`.

    Raises:
        ValueError: a layer can't be divided by its heads.
    """

    auto_sizes = sizes.RANKING

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        hidden: Sequence[int] = (128, 64),
        num_layers: int = 2,
        num_heads: int = 2,
        attention_dim: int = 32,
        **inputs: Any,
    ) -> None:
        super().__init__()
        shared = RankingInputs(**inputs)
        if num_heads < 1 or attention_dim % num_heads:
            raise InputError(
                "`model.attention_dim` must be a multiple of `model.num_heads`, got "
                f"{attention_dim} and {num_heads}"
            )
        self.tables = shared.tables(schema)
        fields = shared.fields(schema)
        widths = [shared.embedding_dim, *[attention_dim] * num_layers]
        layers = [FieldAttention(width, attention_dim, num_heads=num_heads) for width in widths[:-1]]
        self.head = _AutoIntHead(
            fields,
            layers=layers,
            deep=shared.mlp(fields.width, [*hidden, 1]),
            embedding_dim=shared.embedding_dim,
            width=widths[-1],
        )


class _AutoIntHead(nn.Module):
    """linear(attention layers(fields)) + MLP(features)."""

    def __init__(
        self,
        fields: Fields,
        *,
        layers: Sequence[nn.Module],
        deep: MLP,
        embedding_dim: int,
        width: int,
    ) -> None:
        super().__init__()
        self.fields = fields
        self.layers = nn.ModuleList(layers)
        self.deep = deep
        self.dense_vectors = nn.Parameter(0.01 * torch.randn(fields.num_dense, embedding_dim))
        self.crossed_logit = nn.Linear((fields.num_sparse + fields.num_dense) * width, 1)

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Logits [B]."""
        features_BFD, dense_BN = self.fields(embedded, dense)
        fields_BFW = torch.cat([features_BFD, dense_BN[:, :, None] * self.dense_vectors], dim=1)
        for layer in self.layers:
            fields_BFW = layer(fields_BFW)
        logits_B1 = self.crossed_logit(fields_BFW.flatten(1)) + self.deep(flat(features_BFD, dense_BN))
        logits_B: torch.Tensor = logits_B1.squeeze(1)
        return logits_B


class FieldAttention(nn.Module):
    """ReLU(multi-head self-attention over the fields + W_res fields), equations 5 to 8."""

    def __init__(self, width_in: int, width: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.projections = nn.Linear(width_in, 3 * width, bias=False)
        self.residual = nn.Linear(width_in, width, bias=False)

    def forward(self, fields_BFD: torch.Tensor) -> torch.Tensor:
        """[B, F, W]."""
        parts = self.projections(fields_BFD).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        # The paper does not divide by the root of the width.
        attended = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], scale=1.0)
        return torch.relu(attended.transpose(1, 2).flatten(2) + self.residual(fields_BFD))
