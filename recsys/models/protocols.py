"""Defines what a task, the evaluation and the export may ask of a model.

A model is embedding tables (`recsys.nn.embeddings.FeatureTables`, any number, as direct children) followed by
plain scriptable modules that take the embedded features and the dense values. The split is what lets tables
be sharded in training and replaced by torch's own look-ups in export without touching model code.

Legend: B examples, N candidates, D embedding dimension, H heads.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from recsys.nn.cold_start import EventCounts
from recsys.nn.embeddings import FeatureTables
from recsys.nn.linear_terms import LINEAR_DIM
from recsys.nn.neighbours import Neighbours
from recsys.schema.batch import Batch, HistoryEvents
from recsys.schema.labels import AuxiliaryLabel
from recsys.schema.positives import TrainPositives


@runtime_checkable
class RankingModel(Protocol):
    """Scores rows that hold user, context and item features.

    `head(embedded, dense) -> logits [B]` is scriptable; `forward` is `head(embed(self, batch), batch.dense)`.
    """

    head: nn.Module

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [B]."""


@runtime_checkable
class MultiTaskModel(RankingModel, Protocol):
    """A ranking model with a head for every label; `head` gives [B, H] and `forward` its first column."""

    labels: tuple[AuxiliaryLabel, ...]

    def every_head(self, batch: Batch) -> torch.Tensor:
        """[B, H]: logits of the label, then logits or standardised values of the auxiliary labels."""


@runtime_checkable
class RetrievalModel(Protocol):
    """Encodes queries and candidates so that their dot product is the score.

    `query_tower` and `candidate_tower` (embedded, dense) -> vectors are scriptable. The score of a pair is
    the plain dot product: normalisation, temperature and biases are inside the vectors. In training that is
    all; outside, `neighbours`, where a model has them, add to it.
    """

    query_tower: nn.Module
    candidate_tower: nn.Module

    def encode_queries(self, batch: Batch) -> torch.Tensor:
        """Vectors [B, D] from user and context features."""

    def encode_candidates(self, batch: Batch) -> torch.Tensor:
        """Vectors [N, D] from item features."""


@runtime_checkable
class FittedModel(RetrievalModel, Protocol):
    """A retrieval model whose weights are computed from all positives at once, and not by gradients."""

    num_fits: int

    def fit(self, positives: TrainPositives, number: int, qualities: Sequence[float] = ()) -> None:
        """Fits for the `number`-th time, from 0: with the next setting to try, or by one sweep more.

        Args:
            positives: what was liked by whom.
            number: fits before.
            qualities: what validation gave each of them, more is better; nothing where there is none.
        """


@runtime_checkable
class PositivesReader(RetrievalModel, Protocol):
    """A retrieval model that is trained by gradients and reads all positives before, as a graph or matrix."""

    def show_positives(self, positives: TrainPositives) -> None:
        """Takes them, once, before training; also where training goes on."""


@runtime_checkable
class Beginner(RetrievalModel, Protocol):
    """A retrieval model whose weights begin from what the catalogue is, where they begin anew."""

    def begin(self, items: Batch, item_counts: torch.Tensor) -> None:
        """Sets weights, once, before training.

        Args:
            items: the catalogue.
            item_counts: [I] train positives of each item.
        """


@runtime_checkable
class CountsReader(RetrievalModel, Protocol):
    """A retrieval model that weighs behaviour by how much of it there is."""

    counts: EventCounts


@runtime_checkable
class HybridModel(CountsReader, Protocol):
    """A retrieval model whose towers mix content with behaviour (`recsys.nn.cold_start`).

    `candidate_tower.mix.forced` holds the weight of behaviour of the items.
    """

    def query_weights(self, batch: Batch) -> torch.Tensor:
        """[B] weight of behaviour in each query."""

    def candidate_weights(self, batch: Batch) -> torch.Tensor:
        """[N] weight of behaviour in each item."""


def embed(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """Embedded features [B, D] of all tables of a model, by name, and its counts of events [B, 1]."""
    embedded: dict[str, torch.Tensor] = {}
    for child in model.children():
        if isinstance(child, EventCounts) and child.feature in batch.ids.keys():  # noqa: SIM118
            embedded[child.name] = child(batch.ids[child.feature].values())
        if isinstance(child, FeatureTables):
            embedded.update(child(batch.ids, batch.vectors))
    return embedded


class HeadModel(nn.Module):
    """A `RankingModel` whose `forward` is its head on what its tables look up."""

    head: nn.Module

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [B]."""
        logits: torch.Tensor = self.head(embed(self, batch), batch.dense)
        return logits


class MultiHeadModel(HeadModel):
    """A `MultiTaskModel` whose first head is that of the label."""

    labels: tuple[AuxiliaryLabel, ...]

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits of the label [B]."""
        return self.every_head(batch)[:, 0]

    def every_head(self, batch: Batch) -> torch.Tensor:
        """[B, H]: logits of the label, then logits or standardised values of the auxiliary labels."""
        return super().forward(batch)


class TowerModel(nn.Module):
    """A `RetrievalModel` whose vectors are those of its towers on what its tables look up."""

    query_tower: nn.Module
    candidate_tower: nn.Module

    def encode_queries(self, batch: Batch) -> torch.Tensor:
        """Vectors [B, D] of the queries."""
        vectors: torch.Tensor = self.query_tower(embed(self, batch), batch.dense)
        return vectors

    def encode_candidates(self, batch: Batch) -> torch.Tensor:
        """Vectors [B, D] of the items."""
        vectors: torch.Tensor = self.candidate_tower(embed(self, batch), batch.dense)
        return vectors


def events_read(model: object) -> HistoryEvents | None:
    """Which events of a history a model reads, and how; None where it reads a bag of ids.

    `positives` and `all` are read one by one (`Batch.sequences`), `content` is a bag of items with their
    features (`Batch.history`).
    """
    return getattr(model, "history_events", None)


def neighbours_of(model: object) -> Neighbours | None:
    """Neighbours that add to the products of a model's vectors; None of most models."""
    return getattr(model, "neighbours", None)


def popularity_windows(model: object) -> tuple[int | None, ...]:
    """Days of the popularity features that a model weighs (`recsys.retrieval.parts`)."""
    return tuple(getattr(model, "popularity_windows", ()))


def weight_names(model: nn.Module) -> frozenset[str]:
    """Names in `embed` of what is a single weight: a row of LINEAR_DIM numbers of which the mean counts."""
    return frozenset(
        child.prefix + name
        for child in model.children()
        if isinstance(child, FeatureTables) and child.prefix and child.embedding_dim == LINEAR_DIM
        for names in [*(names for _, names in child.tables().values()), [f.name for f in child.vectors]]
        for name in names
    )
