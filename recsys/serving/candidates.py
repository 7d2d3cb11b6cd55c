"""The items that lists are made of: the best of the catalogue, by an index or exactly, or those near an item.

Legend: B requests, I catalogue rows, D dimension of their vectors, K items.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from recsys.retrieval.ann import Index
from recsys.retrieval.parts import taste
from recsys.serving.exploration import Impressions, explored
from recsys.serving.item_space import ItemSpace
from recsys.serving.requests import RequestBatch

Best = tuple[torch.Tensor, torch.Tensor]

# How many of the items nearest to one are looked through for a list on its page.
_NEAREST = 200


def scores_of(model: Any, vector: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Scores [N] of catalogue rows by a vector of the model's `questions`."""
    width = model.candidates.size(1)
    scores = torch.mv(model.candidates.index_select(0, rows), vector[:width])
    return scores if len(vector) == width else scores + vector[width:][rows]


@dataclasses.dataclass
class CandidateSearch:
    """Searches the catalogue of a retrieval model.

    Args:
        model: the retrieval part of a program.
        index: of its catalogue; None where the file searches by itself.
    """

    model: Any
    index: Index | None = None

    def __post_init__(self) -> None:
        self._space: ItemSpace | None = None
        self.impressions = Impressions(self.model)

    def best_of_each(
        self, batch: RequestBatch, k: int, *, near_row: int | None, weighs: bool = False
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[float]]:
        """Catalogue rows and scores of the k best items for each request, and weights of behaviour.

        Args:
            batch: B requests.
            k: at least 1.
            near_row: of an item, among the nearest to which they are chosen; None for all.
            weighs: whether to ask for weights, which are below 0 where the model does not mix content with
                behaviour; there are none of bundles of early releases.
        """
        vectors, excluded, weights = self._questions(batch, weighs=weighs)
        allowed = self.model.allowed(batch.where)
        best = []
        for vector, gone in zip(vectors, excluded, strict=True):
            rows = None
            if near_row is not None:
                rows = self.nearest(near_row, max(_NEAREST, batch.k), gone, allowed)[0].sort()[0]
            elif self.index is not None:
                rows = self.index.near(vector, k, excluded=gone, allowed=allowed)
            found = (
                self.model.best(vector, gone, k, allowed)
                if rows is None
                else self.model.best_among(vector, rows, gone, k)
            )
            best.append(self._explored(found, batch, vector, gone, allowed) if batch.explore else found)
        return [rows for rows, _ in best], [scores for _, scores in best], weights

    def _questions(
        self, batch: RequestBatch, *, weighs: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[float]]:
        """Vectors to search with, catalogue rows that are left out, and weights where asked for."""
        queries = batch.users, batch.histories, batch.contexts
        more = batch.excludes, batch.history_times, batch.history_liked
        if weighs and hasattr(self.model, "weighed_questions"):
            vectors, excluded, weights = self.model.weighed_questions(*queries, *more, True)
            return vectors, excluded, weights
        vectors, excluded = self.model.questions(*queries, *more)
        # Bundles of earlier releases encode a query once more for its weight.
        asked = weighs and hasattr(self.model, "behaviour_weights")
        return vectors, excluded, self.model.behaviour_weights(*queries) if asked else []

    def _explored(
        self,
        found: Best,
        batch: RequestBatch,
        vector: torch.Tensor,
        gone: torch.Tensor,
        allowed_I: torch.Tensor | None,
    ) -> Best:
        """The list with its share of places for items that were shown little."""
        rows = self.impressions.few(batch.explore_below)
        if allowed_I is not None:
            rows = rows[allowed_I[rows]]
        is_few_I = torch.zeros(len(self.impressions.counts()), dtype=torch.bool)
        is_few_I[rows] = True
        return explored(
            found, batch.explore, is_few_I, lambda k: self.model.best_among(vector, rows, gone, k)
        )

    def nearest(self, item_row: int, k: int, excluded: torch.Tensor, allowed_I: torch.Tensor | None) -> Best:
        """Catalogue rows and cosines [K] of the items nearest to one; see `ItemSpace.nearest`."""
        if self._space is None:
            self._space = ItemSpace.of(taste(self.model.candidates, self.model.popularity_windows))
        return self._space.nearest(item_row, k, excluded, allowed_I)

    def read_new_items(self) -> None:
        """Searches what was added to the catalogue, too."""
        # Files of releases up to 0.1 mark new items as available when they are next asked.
        self.model.allowed(None)
        self._space = None
        if self.index is not None:
            self.index.add(self.model.candidates)
