"""Two-Tower retrieval (Covington et al., 2016; Yi et al., 2019, "Sampling-Bias-Corrected Neural Modeling").

The user tower reads the user's id, profile, context and the mean of the history's item embeddings; the item
tower the item's id and content. Vectors are L2-normalised and the dot product is divided by a temperature (Yi
et al., section 3). What we changed: the towers add their MLP's output to the sum of their embeddings, so that
with small data the model starts out as a factorization over features instead of having to learn one. With
`cold_start` the towers are those of `recsys.models.hybrid_towers`, which mix content and behaviour. Few
dimensions do not hold which items go together; with `neighbour_weight` what is computed adds what is learnt.

Legend: B examples, D embedding dimension.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Dict, List, Literal, cast  # noqa: UP035 (scripted)

import torch
from torch import nn
from torch.nn import functional

from recsys.models import sizes
from recsys.models.hybrid_towers import (
    HybridItemTower,
    HybridQueryTower,
    check_hybrid,
    content_of,
    pooled_history,
)
from recsys.models.item_knn import item_neighbours
from recsys.models.protocols import embed
from recsys.nn.cold_start import ColdStart, ColdStartMix, EventCounts
from recsys.nn.content_start import start_from_content
from recsys.nn.embeddings import FeatureTables
from recsys.nn.mlp import MLP
from recsys.nn.neighbours import NUM_NEIGHBOURS, Neighbours
from recsys.nn.spectral import interaction_matrix
from recsys.schema.batch import Batch, HistoryEvents
from recsys.schema.errors import InputError
from recsys.schema.features import CANDIDATE_ROLES, HISTORY, ITEM_ID, QUERY_ROLES, USER_ID, FeatureSchema
from recsys.schema.positives import TrainPositives

ContentStart = Literal["random", "lsa"]

_SMALL = 0.01
# Of the cosines of neighbours, as of `recsys.models.item_knn`.
_SHRINKAGE = 10.0
# Catalogues of which every item may be compared with every other.
_MOST_ITEMS = 50_000


class TwoTower(nn.Module):
    """Retrieval by the cosine of a user vector and an item vector.

    Args:
        schema: features of the prepared dataset; all are used but those left out.
        embedding_dim: D, of the tables and of the vectors; a multiple of 4.
        hidden: widths of the hidden layers of both towers; empty leaves the linear part and one layer.
        leave_out: names of features the model shall not see.
        temperature: divides the cosine; 0.05 to 0.2 works.
        learn_temperature: `temperature` is where it begins, and training moves it.
        dropout: in the towers, in training.
        id_dropout: see `FeatureTables`.
        init_std: standard deviation of the initial embeddings.
        cold_start: `none` adds up all features; `gate` mixes content and behaviour by how much behaviour
            there is, as learnt; `rule` switches from one to the other.
        cold_start_events: events from which on the rule follows behaviour.
        behaviour_dropout: share of items whose behaviour a training step forgets, so that content learns to
            do without; 0.3 to 0.5 works.
        history_dropout: share of histories of which a training step forgets some or all events; 0.1 works.
        word_dropout: see `FeatureTables`; with `cold_start` alone.
        content_start: with `cold_start`, whether the embeddings of the items' words, tags and other values
            begin at `random`, or as the singular vectors of the items' contents: `lsa`.
        neighbour_weight: of the cosines between an item and those of the history, by the users who liked
            both, which are added to the score (`recsys.nn.neighbours`); 5 to 20 works, 0 leaves them out. No
            training is changed by it.
    """

    auto_sizes = sizes.TOWERS
    history_events: HistoryEvents | None = None

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int = 64,
        hidden: Sequence[int] = (128,),
        leave_out: Sequence[str] = (),
        temperature: float = 0.1,
        learn_temperature: bool = False,
        dropout: float = 0.1,
        id_dropout: float = 0.02,
        init_std: float = 0.1,
        cold_start: ColdStart = "none",
        cold_start_events: int = 3,
        behaviour_dropout: float = 0.3,
        history_dropout: float = 0.1,
        word_dropout: float = 0.0,
        content_start: ContentStart = "random",
        neighbour_weight: float = 0.0,
    ) -> None:
        super().__init__()
        unknown = [name for name in leave_out if name not in schema]
        if unknown:
            raise InputError(f"`model.leave_out` names features that the dataset does not have: {unknown}")
        query = [f.name for f in schema.embedded(QUERY_ROLES) if f.name not in leave_out]
        candidate = [f.name for f in schema.embedded(CANDIDATE_ROLES) if f.name not in leave_out]
        self.history_dropout = history_dropout
        self.content_start = content_start if cold_start != "none" else "random"
        self.neighbours = _neighbours(schema, leave_out, weight=neighbour_weight)
        widths = [*hidden, embedding_dim]
        if cold_start != "none":
            check_hybrid(schema, candidate)
            self.history_events = "content"
            self.counts = EventCounts(ITEM_ID, schema[ITEM_ID].num_rows)
            ids = [name for name in (USER_ID, ITEM_ID) if name in query + candidate]
            query, candidate = (
                [n for n in names if n not in (*ids, HISTORY)] for names in (query, candidate)
            )
            # Small, so that content leads until behaviour has taught them something.
            self.ids = FeatureTables(
                [schema[name] for name in ids],
                embedding_dim=embedding_dim,
                init_std=_SMALL,
                id_dropout=id_dropout,
            )
        self.tables = FeatureTables(
            [schema[name] for name in query + candidate],
            embedding_dim=embedding_dim,
            init_std=init_std,
            id_dropout=id_dropout,
            word_dropout=word_dropout if cold_start != "none" else 0.0,
        )
        if cold_start != "none":
            content = partial(content_of, schema, embedding_dim=embedding_dim, widths=widths, dropout=dropout)
            mix = partial(ColdStartMix, cold_start, embedding_dim=embedding_dim, min_events=cold_start_events)
            self.query_tower: nn.Module = HybridQueryTower(
                content(query, QUERY_ROLES),
                mix(),
                reads_user_id=USER_ID in ids,
                scale=1 / temperature,
                learn_scale=learn_temperature,
            )
            self.candidate_tower: nn.Module = HybridItemTower(
                content(candidate, CANDIDATE_ROLES),
                mix(keeps_content=cold_start == "gate"),
                behaviour_dropout=behaviour_dropout,
            )
            return
        self.query_tower = Tower(
            query,
            num_dense=len(schema.dense(QUERY_ROLES)),
            embedding_dim=embedding_dim,
            widths=widths,
            dropout=dropout,
            scale=1 / temperature,
            learn_scale=learn_temperature,
        )
        self.candidate_tower = Tower(
            candidate,
            num_dense=len(schema.dense(CANDIDATE_ROLES)),
            embedding_dim=embedding_dim,
            widths=widths,
            dropout=dropout,
        )

    def begin(self, items: Batch, item_counts: torch.Tensor) -> None:
        """See `recsys.models.protocols.Beginner`."""
        if self.content_start == "lsa":
            content = cast(HybridItemTower, self.candidate_tower).content
            scales = dict(zip(content.names, content.scales.tolist(), strict=True))
            start_from_content(self.tables, items, scales, is_known_I=item_counts > 0)

    def show_positives(self, positives: TrainPositives) -> None:
        """See `recsys.models.protocols.PositivesReader`."""
        if self.neighbours is not None:
            matrix_UT = interaction_matrix(positives, num_rows=self.neighbours.num_rows)
            found = item_neighbours(matrix_UT, num_neighbours=NUM_NEIGHBOURS, shrinkage=_SHRINKAGE)
            self.neighbours.put(
                torch.from_numpy(found.items),
                torch.from_numpy(found.neighbours),
                torch.from_numpy(found.similarities),
                torch.from_numpy(matrix_UT.getnnz(axis=0)).float(),
            )

    def encode_queries(self, batch: Batch) -> torch.Tensor:
        """Vectors [B, D] of length 1 / temperature."""
        embedded = embed(self, batch)
        if self.history_events == "content":
            embedded |= self._history(batch)
        vectors: torch.Tensor = self.query_tower(embedded, batch.dense)
        return vectors

    @torch.no_grad()
    def query_weights(self, batch: Batch) -> torch.Tensor:
        """[B] weight of behaviour in each query, of a model with `cold_start`."""
        tower = cast(HybridQueryTower, self.query_tower)
        return tower.behaviour_weights(embed(self, batch) | self._history(batch), batch.dense)

    @torch.no_grad()
    def candidate_weights(self, batch: Batch) -> torch.Tensor:
        """[B] weight of behaviour in each item, of a model with `cold_start`."""
        return cast(HybridItemTower, self.candidate_tower).behaviour_weights(embed(self, batch), batch.dense)

    def _history(self, batch: Batch) -> dict[str, torch.Tensor]:
        if batch.history is None:
            raise InputError(
                f"{type(self).__name__} with `cold_start` reads the content of histories, and the batch has "
                "none; load data with `events_read=events_read(model)`"
            )
        vectors_UD = self.encode_candidates(batch.history.items)
        dropout = self.history_dropout if self.training else 0.0
        return pooled_history(batch.history, vectors_UD, dropout=dropout)

    def encode_candidates(self, batch: Batch) -> torch.Tensor:
        """Vectors [B, D] of length 1."""
        vectors: torch.Tensor = self.candidate_tower(embed(self, batch), batch.dense)
        return vectors


def _neighbours(schema: FeatureSchema, leave_out: Sequence[str], *, weight: float) -> Neighbours | None:
    """Neighbours to be computed, where they weigh anything.

    Raises:
        ValueError: the weight is negative, there is no history, or there are too many items.
    """
    if not 0 <= weight < math.inf:
        raise InputError(f"`model.neighbour_weight` must be a number of 0 or more, got {weight}")
    if weight == 0:
        return None
    if HISTORY not in schema or HISTORY in leave_out:
        raise InputError(
            "`model.neighbour_weight` adds the neighbours of the items of a history, and there is none; give "
            "`data.history_length` at least 1 and keep `history` out of `model.leave_out`, or set it to 0"
        )
    num_rows = schema[ITEM_ID].num_rows
    if num_rows - 1 > _MOST_ITEMS:
        raise InputError(
            "`model.neighbour_weight` compares every item with every other, of which train has "
            f"{num_rows - 1:,}; at most {_MOST_ITEMS:,} are possible; set it to 0"
        )
    return Neighbours(num_rows, weight=weight)


class Tower(nn.Module):
    """scale * normalise(sum of embeddings + MLP(embeddings, dense))."""

    names: List[str]  # noqa: UP006

    def __init__(
        self,
        names: Sequence[str],
        *,
        num_dense: int,
        embedding_dim: int,
        widths: Sequence[int],
        dropout: float,
        scale: float = 1.0,
        learn_scale: bool = False,
    ) -> None:
        super().__init__()
        self.names = list(names)
        self.scale = scale
        # As a logarithm, so that it stays positive and its steps are in proportion.
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale))) if learn_scale else None
        self.dropout = nn.Dropout(dropout)
        self.mlp = MLP(len(names) * embedding_dim + num_dense, widths, dropout=dropout)

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:  # noqa: UP006
        """Vectors [B, D] of length `scale`."""
        features_BFD = torch.stack([embedded[name] for name in self.names], dim=1)
        features_BFD = self.dropout(features_BFD)
        deep_BD = self.mlp(torch.cat([features_BFD.flatten(1), dense], dim=1))
        unit_BD = functional.normalize(features_BFD.sum(dim=1) + deep_BD, dim=1)
        return self.scale * unit_BD if self.log_scale is None else self.log_scale.exp() * unit_BD
