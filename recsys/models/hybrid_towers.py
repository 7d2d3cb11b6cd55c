"""Towers of `two_tower` that mix content with behaviour (`model.cold_start`).

An item's behaviour is the embedding of its id, its content everything else. A user's content is profile and
context; the behaviour is the mean of the vectors of the history's items, which hold the content of these
items too, and the embedding of the user's id. What is new has no behaviour and is placed by its content
alone: training drops ids and events at random (DropoutNet: Volkovs et al., 2017), so that content learns to
do without.

Legend: B examples, D embedding dimension, F features, V events, U distinct items of histories.
"""

import math
from collections.abc import Sequence
from typing import Dict, List, Tuple  # noqa: UP035 (scripted)

import torch
from torch import nn
from torch.nn import functional

from recsys.nn.cold_start import ColdStartMix
from recsys.nn.mlp import MLP
from recsys.retrieval.parts import without_popularity
from recsys.schema.batch import HistoryItems
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Role
from recsys.schema.features import CANDIDATE_ROLES, HISTORY, ITEM_ID, FeatureSchema

# Under which the query tower finds the history among the embedded features; scripted code spells them out.
HISTORY_ITEMS, HISTORY_COUNT = "history_items", "history_count"

# Vectors shorter than this stay so: where nothing is known, a length of 1 would make noise of rounding.
_SHORT = 0.1
# A single value weighs less at first than words or tags, which tell items apart.
_SINGLE_VALUE = 0.25


class Content(nn.Module):
    """unit(start + sum of weighted unit embeddings + MLP(embeddings, dense)): [B, D].

    Args:
        names: features, each with whether it may hold several values or is a vector.
        num_dense: numbers beside them.
        embedding_dim: D.
        widths: of the MLP; its last layer begins at 0, so that what is alike in the tables is alike here. Of
            one layer there is none but for numbers.
        dropout: of embeddings and hidden units, in training.
    """

    names: List[str]  # noqa: UP006

    def __init__(
        self,
        names: Sequence[Tuple[str, bool]],  # noqa: UP006
        *,
        num_dense: int,
        embedding_dim: int,
        widths: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.names = [name for name, _ in names]
        self.start = nn.Parameter(torch.zeros(embedding_dim))
        self.short = _SHORT
        self.scales = nn.Parameter(torch.tensor([1.0 if several else _SINGLE_VALUE for _, several in names]))
        self.dropout = nn.Dropout(dropout)
        num_inputs = len(names) * embedding_dim + num_dense
        has_mlp = num_dense > 0 or (len(widths) > 1 and num_inputs > 0)
        self.mlp = MLP(num_inputs, widths, dropout=dropout) if has_mlp else None
        if self.mlp is not None:
            last = [layer for layer in self.mlp.modules() if isinstance(layer, nn.Linear)][-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D] of length 1, shorter where nothing is known."""
        sum_BD = self.start.expand(dense.size(0), -1)
        inputs = [dense]
        for position, name in enumerate(self.names):
            unit_BD = self.dropout(functional.normalize(embedded[name], dim=1, eps=1e-6))
            sum_BD = sum_BD + self.scales[position] * unit_BD
            inputs.append(unit_BD)
        if self.mlp is not None:
            sum_BD = sum_BD + self.mlp(torch.cat(inputs, dim=1))
        return functional.normalize(sum_BD, dim=1, eps=self.short)


class HybridItemTower(nn.Module):
    """unit(content and the id's embedding, mixed by the item's train positives).

    Args:
        content: see `Content`.
        mix: gate or rule.
        behaviour_dropout: share of items that are taken for new in a training step.
        num_windows: of a model that weighs popularity: so many zeros stand behind the vectors, in its place,
            after the bias of the item; None for neither.
    """

    def __init__(
        self, content: Content, mix: ColdStartMix, *, behaviour_dropout: float, num_windows: int | None = None
    ) -> None:
        super().__init__()
        self.content = content
        self.mix = mix
        self.behaviour_dropout = behaviour_dropout
        self.num_windows = num_windows

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D] of length 1, or [B, D + 1 + W] with bias and zeros behind them."""
        counts_B1 = embedded["count_item_id"]
        if self.training:
            counts_B1 = counts_B1 * (torch.rand_like(counts_B1) >= self.behaviour_dropout)
        content_BD = self.content(embedded, dense)
        mixed_BD = self.mix(content_BD, embedded["item_id"], counts_B1)
        unit_BD = functional.normalize(mixed_BD, dim=1, eps=1e-6)
        if self.num_windows is None:
            return unit_BD
        bias_B1 = embedded["bias_item_id"].mean(dim=1, keepdim=True) * (counts_B1 > 0)
        return without_popularity(torch.cat([unit_BD, bias_B1], dim=1), self.num_windows)

    def behaviour_weights(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """[B] weight of behaviour in each vector."""
        weights_B1 = self.mix.weights(self.content(embedded, dense), embedded["count_item_id"])
        return weights_B1.squeeze(1)


class HybridQueryTower(nn.Module):
    """scale * unit(mix of profile and history) by the number of events of the history.

    Args:
        content: of profile and context, see `Content`.
        mix: gate or rule.
        reads_user_id: whether the user's id has an embedding.
        scale: length of the vectors, 1 / temperature.
        learn_scale: whether training moves it.
    """

    def __init__(
        self, content: Content, mix: ColdStartMix, *, reads_user_id: bool, scale: float, learn_scale: bool
    ) -> None:
        super().__init__()
        self.content = content
        self.mix = mix
        self.reads_user_id = reads_user_id
        self.short = _SHORT
        self.scale = scale
        # As a logarithm, so that it stays positive and its steps are in proportion.
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale))) if learn_scale else None

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D] of length `scale`."""
        behaviour_BD = functional.normalize(embedded["history_items"], dim=1, eps=self.short)
        if self.reads_user_id:
            behaviour_BD = behaviour_BD + embedded["user_id"]
        mixed_BD = self.mix(self.content(embedded, dense), behaviour_BD, embedded["history_count"])
        unit_BD = functional.normalize(mixed_BD, dim=1, eps=1e-6)
        return self.scale * unit_BD if self.log_scale is None else self.log_scale.exp() * unit_BD

    def behaviour_weights(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """[B] weight of behaviour in each vector."""
        weights_B1 = self.mix.weights(self.content(embedded, dense), embedded["history_count"])
        return weights_B1.squeeze(1)


def content_of(
    schema: FeatureSchema,
    names: Sequence[str],
    roles: Sequence[Role],
    *,
    embedding_dim: int,
    widths: Sequence[int],
    dropout: float,
) -> Content:
    """The content of users and contexts, or of items.

    Args:
        schema: the features.
        names: of those with embeddings.
        roles: whose numbers are read.
        embedding_dim: D.
        widths: of the MLP.
        dropout: see `Content`.
    """
    return Content(
        [(name, schema[name].is_multivalued or not schema[name].is_sparse) for name in names],
        num_dense=len(schema.dense(roles)),
        embedding_dim=embedding_dim,
        widths=widths,
        dropout=dropout,
    )


def check_hybrid(schema: FeatureSchema, candidate: Sequence[str]) -> None:
    """Raises ValueError where there is nothing to mix: no content of the items, no ids, or no histories."""
    if ITEM_ID not in candidate or HISTORY not in schema:
        raise InputError(
            "`model.cold_start` mixes content with behaviour, which is read from `item_id` and `history`; "
            "keep both out of `model.leave_out`, or set `model.cold_start=none`"
        )
    if len(candidate) == 1 and not schema.dense(CANDIDATE_ROLES):
        raise InputError(
            "`model.cold_start` mixes content with behaviour, and the items have no content: expected "
            "features in `data.items.features` beside the id, found none; add some, or set "
            "`model.cold_start=none`"
        )


def pooled_history(
    history: HistoryItems, vectors_UD: torch.Tensor, *, dropout: float
) -> Dict[str, torch.Tensor]:  # noqa: UP006
    """Means [B, D] of the vectors of the items of each history, and how many they are [B, 1].

    Args:
        history: of B users.
        vectors_UD: of its distinct items.
        dropout: share of the histories of which only some events are kept, a random share of them.
    """
    lengths_B = history.lengths
    event_V = torch.repeat_interleave(torch.arange(len(lengths_B), device=lengths_B.device), lengths_B)
    kept_V = torch.ones(len(event_V), device=vectors_UD.device)
    if dropout > 0:
        draw_B2 = torch.rand(len(lengths_B), 2, device=vectors_UD.device)
        share_B = torch.where(draw_B2[:, 0] < dropout, draw_B2[:, 1], 1.0)
        kept_V = (torch.rand_like(kept_V) < share_B[event_V]).float()
    sums_BD = vectors_UD.new_zeros(len(lengths_B), vectors_UD.size(1))
    sums_BD = sums_BD.index_add(0, event_V, vectors_UD[history.positions] * kept_V[:, None])
    counts_B1 = kept_V.new_zeros(len(lengths_B)).index_add(0, event_V, kept_V)[:, None]
    return {HISTORY_ITEMS: sums_BD / counts_B1.clamp(min=1), HISTORY_COUNT: counts_B1}
