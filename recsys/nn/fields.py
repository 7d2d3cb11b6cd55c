"""Fields: the features a ranking model reads, as one tensor, whole features dropped in training.

Legend: B examples, F embedded features, D embedding dimension, N dense features.
"""

import dataclasses
from collections.abc import Sequence
from typing import Dict, List, Literal, Tuple  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.nn.embeddings import FeatureTables
from recsys.nn.linear_terms import LINEAR_DIM
from recsys.nn.mlp import MLP
from recsys.nn.normalisation import Normalisation
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature
from recsys.schema.features import FeatureSchema


def kept_features(schema: FeatureSchema, leave_out: Sequence[str] = ()) -> list[Feature]:
    """Features of `schema` but for those named: the embedded ones first, each kind in the order of a batch.

    Raises:
        ValueError: `leave_out` names a feature that does not exist.
    """
    unknown = [name for name in leave_out if name not in schema]
    if unknown:
        raise InputError(f"`model.leave_out` names features that the dataset does not have: {unknown}")
    return [f for f in (*schema.embedded(), *schema.dense()) if f.name not in leave_out]


class Fields(nn.Module):
    """Chooses the embedded features and dense values of a model.

    In training each feature of each example is zeroed with probability `dropout`, embedding and all, and what
    stays is scaled by 1 / (1 - dropout): no score can then rest on one feature alone.

    Args:
        schema: features of the prepared dataset.
        embedding_dim: D.
        leave_out: names of features the model shall not see.
        dropout: in [0, 1); 0.05 to 0.2 works, 0 draws nothing.
    """

    names: List[str]  # noqa: UP006
    columns: torch.Tensor

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int,
        leave_out: Sequence[str] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kept = kept_features(schema, leave_out)
        self.names = [f.name for f in kept if f.is_embedded]
        dense = [f.name for f in schema.dense()]
        columns = [dense.index(f.name) for f in kept if not f.is_embedded]
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.num_sparse = len(self.names)
        self.num_dense = len(columns)
        self.width = self.num_sparse * embedding_dim + self.num_dense
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        embedded: Dict[str, torch.Tensor],  # noqa: UP006
        dense: torch.Tensor,
    ) -> Tuple[torch.Tensor, torch.Tensor]:  # noqa: UP006
        """Embedded features [B, F, D] and dense values [B, N]."""
        features_BFD = torch.stack([embedded[name] for name in self.names], dim=1)
        dense_BN = dense.index_select(1, self.columns)
        if self.training and self.dropout.p > 0:
            features_BFD = features_BFD * self.dropout(torch.ones_like(features_BFD[:, :, :1]))
            dense_BN = self.dropout(dense_BN)
        return features_BFD, dense_BN


@dataclasses.dataclass(frozen=True)
class RankingInputs:
    """Chooses what a ranking model reads, and builds the parts that read it.

    Args:
        embedding_dim: D, a multiple of 4.
        leave_out: names of features the model shall not see.
        dropout: in its MLPs, in training.
        normalisation: of hidden layers; see `MLP`.
        field_dropout: see `Fields`.
        id_dropout: see `FeatureTables`.
        init_std: standard deviation of the initial embeddings.
    """

    embedding_dim: int = 16
    leave_out: Sequence[str] = ()
    dropout: float = 0.1
    normalisation: Normalisation = "none"
    field_dropout: float = 0.0
    id_dropout: float = 0.02
    init_std: float = 0.01

    def tables(self, schema: FeatureSchema, *, one_by_one: Sequence[str] = ()) -> FeatureTables:
        """Tables of the embedded features; see `FeatureTables`."""
        return FeatureTables(
            [f for f in kept_features(schema, self.leave_out) if f.is_embedded],
            embedding_dim=self.embedding_dim,
            init_std=self.init_std,
            id_dropout=self.id_dropout,
            one_by_one=one_by_one,
        )

    def weights(self, tables: FeatureTables) -> FeatureTables:
        """A weight for every id of these tables, from 0; see `linear_terms`."""
        return FeatureTables(
            [*tables.features, *tables.vectors],
            embedding_dim=LINEAR_DIM,
            prefix="linear_",
            init_std=0.0,
            id_dropout=self.id_dropout,
        )

    def fields(self, schema: FeatureSchema, *, without: Sequence[str] = ()) -> Fields:
        """The features as one tensor."""
        left_out = [*self.leave_out, *without]
        return Fields(
            schema, embedding_dim=self.embedding_dim, leave_out=left_out, dropout=self.field_dropout
        )

    def mlp(self, width: int, widths: Sequence[int], *, last: Literal["linear", "hidden"] = "linear") -> MLP:
        """An MLP over `width` inputs."""
        return MLP(width, widths, dropout=self.dropout, normalisation=self.normalisation, last=last)


def flat(features_BFD: torch.Tensor, dense_BN: torch.Tensor) -> torch.Tensor:
    """[B, F x D + N]: what a plain network reads."""
    return torch.cat([features_BFD.flatten(1), dense_BN], dim=1)
