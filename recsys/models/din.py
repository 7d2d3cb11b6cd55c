"""Deep Interest Network ranking (Zhou et al., 2018, arXiv 1706.06978).

The user's interest depends on what is asked about: the items liked before are summed with weights that come
from each of them and the candidate; that sum and the other features enter an MLP. What we changed: the sum
also enters multiplied by the candidate; ReLU stands for Dice; and weights begin at one.

MovieLens-100K, experiment ml100k_din_global_time, mean of seeds 0 to 2 on test:
AUC .7003, GAUC .7065, log loss .6214.

Legend: B examples, F embedded features, L longest history, D embedding dimension, N dense features.
"""

from collections.abc import Sequence
from typing import Any, Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import HeadModel
from recsys.nn.fields import Fields, RankingInputs, flat, kept_features
from recsys.nn.mlp import MLP
from recsys.nn.target_attention import TargetAttention
from recsys.schema.arguments import with_arguments_of
from recsys.schema.errors import InputError
from recsys.schema.features import HISTORY, ITEM_ID, FeatureSchema


@with_arguments_of(RankingInputs)
class DIN(HeadModel):
    """Ranking by an MLP over the features and the part of the history that the candidate activates.

    Args:
        schema: features of the prepared dataset; all are used but those left out.
        hidden: widths of the hidden layers.
        attention_hidden: widths of the hidden layers behind the weights of the history.
        inputs: see `RankingInputs`; neither the history nor `item_id` may be left out.

    Raises:
        ValueError: the dataset has no history, or it or the item's id is left out.
    """

    auto_sizes = sizes.RANKING

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        hidden: Sequence[int] = (128, 64),
        attention_hidden: Sequence[int] = (36,),
        **inputs: Any,
    ) -> None:
        super().__init__()
        shared = RankingInputs(**inputs)
        kept = kept_features(schema, shared.leave_out)
        missing = [name for name in (HISTORY, ITEM_ID) if name not in [f.name for f in kept]]
        if missing:
            raise InputError(
                f"DIN weighs the items of the history by the candidate's id, and {missing} is left out or "
                "not in the data; keep it out of `model.leave_out`, or choose a model that needs no history"
            )
        self.tables = shared.tables(schema, one_by_one=[HISTORY])
        fields = shared.fields(schema, without=[HISTORY])
        self.head = _DINHead(
            fields,
            attention=TargetAttention(shared.embedding_dim, hidden=attention_hidden, dropout=shared.dropout),
            mlp=shared.mlp(fields.width + 2 * shared.embedding_dim, [*hidden, 1]),
        )


class _DINHead(nn.Module):
    """mlp([features, interest, interest * candidate])."""

    def __init__(self, fields: Fields, *, attention: TargetAttention, mlp: MLP) -> None:
        super().__init__()
        self.fields = fields
        self.attention = attention
        self.mlp = mlp

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Logits [B]; `history` is [B, L, D], everything else [B, D]."""
        features_BFD, dense_BN = self.fields(embedded, dense)
        target_BD = embedded["item_id"]
        interest_BD = self.attention(embedded["history"], target_BD)
        inputs_BW = torch.cat([flat(features_BFD, dense_BN), interest_BD, interest_BD * target_BD], dim=1)
        logits_B: torch.Tensor = self.mlp(inputs_BW).squeeze(1)
        return logits_B
