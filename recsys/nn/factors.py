"""Vectors of users and items by their ids: tables for those that are computed, and the towers that read them.

Legend: B examples, D embedding dimension, T rows of the item table.
"""

from typing import Dict  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.nn.embeddings import FeatureTables
from recsys.nn.linear_terms import LINEAR_DIM
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature
from recsys.schema.features import HISTORY, ITEM_ID, FeatureSchema


def history_feature(schema: FeatureSchema, model: str) -> Feature:
    """The history of the schema.

    Raises:
        ValueError: the dataset has none.
    """
    if HISTORY not in schema:
        raise InputError(
            f"{model} scores items by the user's history, which the data do not have; give "
            "`data.history_length` at least 1"
        )
    return schema[HISTORY]


def computed_tables(
    feature: Feature, *, embedding_dim: int, prefix: str, each: bool = False
) -> FeatureTables:
    """A table of zeros for what will be computed, which no optimizer moves.

    Args:
        feature: whose rows it has.
        embedding_dim: D, a multiple of 4.
        prefix: of its names; see `FeatureTables`.
        each: whether the rows of a bag are looked up one by one.
    """
    tables = FeatureTables(
        [feature],
        embedding_dim=embedding_dim,
        prefix=prefix,
        init_std=0.0,
        one_by_one=[feature.name] if each else [],
    )
    return tables.requires_grad_(False)


def popularity_table(schema: FeatureSchema) -> FeatureTables:
    """A single computed number for each item: its popularity."""
    return computed_tables(schema[ITEM_ID], embedding_dim=LINEAR_DIM, prefix="popularity_")


@torch.no_grad()
def put_rows(tables: FeatureTables, values_TD: torch.Tensor) -> None:
    """Fills the one table of `tables`; columns beyond those of the values become 0."""
    (table,) = tables.tables()
    weight_TD = tables.state_dict()[tables.weight_name(table)]
    weight_TD.zero_()
    weight_TD[:, : values_TD.shape[1]] = values_TD.to(weight_TD)


def put_popularity(popularity: FeatureTables, item_rows: torch.Tensor) -> None:
    """Fills a `popularity_table` with the share of all positives that each item has, 0 for row 0."""
    counts_T = torch.bincount(item_rows, minlength=popularity.features[0].num_rows).float()
    counts_T[0] = 0
    put_rows(popularity, (counts_T / counts_T.sum().clamp(min=1))[:, None].expand(-1, LINEAR_DIM))


class HistoryVector(nn.Module):
    """[mean of the history's vectors, 1]; zeros and 1 for a user without a history."""

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D + 1]."""
        history_BD = embedded["read_history"]
        return torch.cat([history_BD, torch.ones_like(history_BD[:, :1])], dim=1)


class ComputedItemVector(nn.Module):
    """[the item's vector, what its popularity adds for everybody]."""

    def __init__(self, popularity_scale: float) -> None:
        super().__init__()
        self.popularity_scale = popularity_scale

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D + 1]."""
        popularity_B1 = embedded["popularity_item_id"].mean(dim=1, keepdim=True)
        return torch.cat([embedded["scored_item_id"], self.popularity_scale * popularity_B1], dim=1)


class UserVector(nn.Module):
    """[the trained vector of the user, 1]."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D + 1]."""
        user_BD = embedded["user_id"]
        return torch.cat([self.dropout(user_BD), torch.ones_like(user_BD[:, :1])], dim=1)


class ItemVector(nn.Module):
    """[the trained vector of the item, its bias]."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D + 1]."""
        bias_B1 = embedded["bias_item_id"].mean(dim=1, keepdim=True)
        return torch.cat([self.dropout(embedded["item_id"]), bias_B1], dim=1)
