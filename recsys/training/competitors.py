"""Competitors: the items of the catalogue that the positives of a retrieval task are compared with.

An item without train positives is never the answer of an example: as a negative it would be pushed down in
every step and pulled up in none, and whatever is like it with it. So it is left out, unless asked for.

Legend: I catalogue, N competitors, D dimension, P features of popularity.
"""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.models.protocols import HybridModel, RetrievalModel
from recsys.nn.embeddings import FeatureTables
from recsys.schema.batch import Batch
from recsys.schema.facts import MANY_NEW_ITEMS

NewItems = Literal["auto", "left_out", "negatives"]

logger = logging.getLogger(__name__)


class Competitors:
    """The rows of the catalogue that positives compete with; row 0, the unknown item, is none.

    Args:
        counts_I: [I] float, train positives of each item, at least 1 of those that compete and of row 0, and
            0 of the others.
    """

    def __init__(self, counts_I: torch.Tensor) -> None:
        self.counts_I = counts_I
        self._rows_N = 1 + counts_I[1:].nonzero().flatten()
        self._are_all = len(self._rows_N) == len(counts_I) - 1
        self._place_I = torch.full((len(counts_I),), -1)
        self._place_I[self._rows_N] = torch.arange(len(self._rows_N))
        self._items: Batch | None = None

    def __len__(self) -> int:
        return len(self._rows_N)

    def to(self, device: torch.device, catalogue: Batch) -> None:
        """Moves to where the losses are computed, and takes the features of the items from `catalogue`."""
        self._rows_N, self._place_I = self._rows_N.to(device), self._place_I.to(device)
        self._items = catalogue if self._are_all else catalogue.select(self._rows_N)

    def encode(self, model: RetrievalModel) -> torch.Tensor:
        """Vectors [N, D] of the competitors."""
        assert self._items is not None
        vectors = model.encode_candidates(self._items)
        return vectors[1:] if self._are_all else vectors

    def places(self, item_rows: torch.Tensor) -> torch.Tensor:
        """Where items of the catalogue stand among the competitors."""
        return item_rows - 1 if self._are_all else self._place_I[item_rows]

    def of(self, features_IP: torch.Tensor) -> torch.Tensor:
        """[N, P] features of the competitors among those of the catalogue."""
        return features_IP[1:] if self._are_all else features_IP[self._rows_N]


def new_items_of(model: nn.Module, dataset: PreparedDataset) -> Literal["left_out", "negatives"]:
    """Decides `new_items: auto`, and warns of a model that cannot place the many new items of a catalogue."""
    if isinstance(model, HybridModel):
        return "left_out"
    tables = [child for child in model.children() if isinstance(child, FeatureTables)]
    read = {feature.name for table in tables for feature in (*table.features, *table.vectors)}
    names = [feature.name for feature in dataset.schema.embedded(["item"])]
    enough = MANY_NEW_ITEMS * (dataset.num_items - 1)
    if dataset.new_items([name for name in names if name not in read]).sum() >= enough:
        return "left_out"
    number = int(dataset.new_items().sum())
    if number >= enough:
        logger.warning(
            "%s of %s items are new and have content, which %s does not read, so that it cannot place them; "
            "`model=two_tower` and `model=sequence_two_tower` do",
            f"{number:,}",
            f"{dataset.num_items - 1:,}",
            type(model).__name__,
        )
    return "negatives"


def competitors(item_counts: torch.Tensor, new_items: NewItems) -> Competitors:
    """The competitors of a catalogue; the log says what becomes of items without train positives.

    Args:
        item_counts: [I] train positives of each item.
        new_items: `left_out`, or `negatives` like all others.
    """
    counts_I = item_counts.float()
    number = int((counts_I[1:] == 0).sum())
    if new_items == "left_out" and number < len(counts_I) - 1:
        counts_I[0] = 1.0
        if number:
            logger.info(
                "%s of %s items have no train positives and are left out of the losses; they are ranked by "
                "their content alone",
                f"{number:,}",
                f"{len(counts_I) - 1:,}",
            )
        return Competitors(counts_I)
    if number:
        logger.warning(
            "%s of %s items have no train positives and are negatives in every step, never positives: "
            "training pushes them down; `task.new_items=left_out` leaves them out",
            f"{number:,}",
            f"{len(counts_I) - 1:,}",
        )
    return Competitors(counts_I.clamp(min=1.0))
