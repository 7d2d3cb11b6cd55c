"""Deep Interest Network ranking (Zhou et al., 2018, arXiv 1706.06978).

The user's interest depends on what is asked about: the items liked before are summed with weights that come
from each of them and the candidate; that sum and the other features enter an MLP. What we changed: the sum
also enters multiplied by the candidate; ReLU stands for Dice; and weights begin at one.

MovieLens-100K, experiment ml100k_din_global_time, mean of seeds 0 to 2 on test:
AUC .7003, GAUC .7065, log loss .6214.

Legend: B examples, F embedded features, L longest history, D embedding dimension, N dense features.
"""

from collections.abc import Sequence
from typing import Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.models import sizes
from recsys.models.protocols import embed
from recsys.nn.embeddings import FeatureTables
from recsys.nn.fields import Fields, flat, kept_features
from recsys.nn.mlp import MLP
from recsys.nn.normalisation import Normalisation
from recsys.nn.target_attention import TargetAttention
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.schema.features import HISTORY, ITEM_ID, FeatureSchema


class DIN(nn.Module):
    """Ranking by an MLP over the features and the part of the history that the candidate activates.

    Args:
        schema: features of the prepared dataset; all are used but those left out.
        embedding_dim: D, a multiple of 4.
        hidden: widths of the hidden layers.
        attention_hidden: widths of the hidden layers behind the weights of the history.
        leave_out: names of features the model shall not see; neither the history nor `item_id`.
        dropout: in both MLPs, in training.
        normalisation: of hidden layers; see `MLP`.
        field_dropout: see `Fields`.
        id_dropout: see `FeatureTables`.
        init_std: standard deviation of the initial embeddings.

    Raises:
        ValueError: the dataset has no history, or it or the item's id is left out.
    """

    auto_sizes = sizes.RANKING

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int = 16,
        hidden: Sequence[int] = (128, 64),
        attention_hidden: Sequence[int] = (36,),
        leave_out: Sequence[str] = (),
        dropout: float = 0.1,
        normalisation: Normalisation = "none",
        field_dropout: float = 0.0,
        id_dropout: float = 0.02,
        init_std: float = 0.01,
    ) -> None:
        super().__init__()
        kept = kept_features(schema, leave_out)
        missing = [name for name in (HISTORY, ITEM_ID) if name not in [f.name for f in kept]]
        if missing:
            raise InputError(
                f"DIN weighs the items of the history by the candidate's id, and {missing} is left out or "
                "not in the data; keep it out of `model.leave_out`, or choose a model that needs no history"
            )
        self.tables = FeatureTables(
            [f for f in kept if f.is_embedded],
            embedding_dim=embedding_dim,
            init_std=init_std,
            id_dropout=id_dropout,
            one_by_one=[HISTORY],
        )
        fields = Fields(
            schema, embedding_dim=embedding_dim, leave_out=[*leave_out, HISTORY], dropout=field_dropout
        )
        self.head = DINHead(
            fields,
            attention=TargetAttention(embedding_dim, hidden=attention_hidden, dropout=dropout),
            mlp=MLP(
                fields.width + 2 * embedding_dim, [*hidden, 1], dropout=dropout, normalisation=normalisation
            ),
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [B]."""
        logits: torch.Tensor = self.head(embed(self, batch), batch.dense)
        return logits


class DINHead(nn.Module):
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
