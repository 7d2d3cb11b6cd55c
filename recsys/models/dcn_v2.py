"""DCN-v2 ranking (Wang et al., 2021, "DCN V2: Improved Deep & Cross Network", arXiv 2008.13535).

A cross network makes products of the inputs, one degree more a layer; a deep network stands behind it
(stacked) or beside it (parallel). Cross layers have full matrices or, with a rank, a mixture of low-rank
experts. What we changed: nothing in the network; the parallel form adds the logits of its two halves, which
is the paper's linear layer over both written as two. Numeric values enter as they are, standardised.

MovieLens-100K, experiment ml100k_dcn_v2_global_time, mean of seeds 0 to 2 on test:
AUC .6984, GAUC .7141, log loss .6240.

Legend: B examples, D embedding dimension.
"""

from collections.abc import Sequence
from typing import Any, Dict, Literal  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import HeadModel
from recsys.nn.cross_network import CrossNetwork
from recsys.nn.fields import Fields, RankingInputs, flat
from recsys.nn.mlp import MLP
from recsys.schema.arguments import with_arguments_of
from recsys.schema.features import FeatureSchema


@with_arguments_of(RankingInputs)
class DCNv2(HeadModel):
    """Ranking by explicit feature crosses and an MLP over embeddings and dense values.

    Args:
        schema: features of the prepared dataset; all are used but those left out.
        hidden: widths of the hidden layers.
        structure: `parallel` or `stacked`.
        num_cross_layers: 1 to 4 works.
        rank: of low-rank cross layers; 0 for full matrices.
        num_experts: of low-rank cross layers.
        inputs: see `RankingInputs`.
    """

    auto_sizes = sizes.RANKING

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        hidden: Sequence[int] = (128, 64),
        structure: Literal["parallel", "stacked"] = "parallel",
        num_cross_layers: int = 2,
        rank: int = 0,
        num_experts: int = 1,
        **inputs: Any,
    ) -> None:
        super().__init__()
        shared = RankingInputs(**inputs)
        self.tables = shared.tables(schema)
        fields = shared.fields(schema)
        self.head = _DCNv2Head(
            fields,
            cross=CrossNetwork(fields.width, num_layers=num_cross_layers, rank=rank, num_experts=num_experts),
            deep=shared.mlp(fields.width, [*hidden, 1]),
            is_stacked=structure == "stacked",
        )


class _DCNv2Head(nn.Module):
    """deep(cross(x)) when stacked, else linear(cross(x)) + deep(x)."""

    def __init__(self, fields: Fields, *, cross: CrossNetwork, deep: MLP, is_stacked: bool) -> None:
        super().__init__()
        self.fields = fields
        self.cross = cross
        self.deep = deep
        self.crossed_logit = nn.Linear(fields.width, 1, bias=False)
        self.is_stacked = is_stacked

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Logits [B]."""
        features_BFD, dense_BN = self.fields(embedded, dense)
        inputs_BW = flat(features_BFD, dense_BN)
        crossed_BW = self.cross(inputs_BW)
        if self.is_stacked:
            logits_B1 = self.deep(crossed_BW)
        else:
            logits_B1 = self.deep(inputs_BW) + self.crossed_logit(crossed_BW)
        logits_B: torch.Tensor = logits_B1.squeeze(1)
        return logits_B
