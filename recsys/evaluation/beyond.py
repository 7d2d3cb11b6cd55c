"""Judging lists beyond accuracy: what they show to whom, beside what the users themselves had chosen.

Legend: Q queries, K ranks, I catalogue, D dimension of vectors, G values of the items' content.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Queries
from recsys.evaluation.attributes import content_of
from recsys.evaluation.baselines import FittedBaseline, fit_baseline
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.recommendations import Lists
from recsys.evaluation.slices import NEW, TAIL
from recsys.metrics.beyond_accuracy import (
    coverage,
    distributions,
    diversity,
    mean_of_listed,
    miscalibration,
    novelty,
    popularity_lift,
    self_information,
    serendipity,
    unit_rows,
)
from recsys.metrics.exposure import exposure, exposure_entropy, gini, lorenz, personalisation
from recsys.metrics.quotients import quotient

Values = npt.NDArray[np.float64]

# Queries whose histories are held at a time.
_BLOCK_QUERIES = 8192


class BeyondAccuracy:
    """Measures lists beyond accuracy, every system's by the same data.

    Args:
        dataset: the prepared dataset.
        queries: of the test split.
        options: cut-offs.
        classes_I: [I] from `item_classes`.
        vectors_ID: [I, D] candidate vectors of the model, by which the lists of all systems are compared;
            None leaves out the diversity by embedding.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        queries: Queries,
        options: EvaluationOptions,
        *,
        classes_I: npt.NDArray[np.int64],
        vectors_ID: npt.NDArray[np.float32] | None,
    ) -> None:
        self.ks = sorted(options.k)
        self._main_k = options.main_k
        self._num_items = dataset.num_items
        self._users_Q = np.unique(queries.events.history_rows.numpy(), return_inverse=True)[1]
        self._counts_I = dataset.item_counts.numpy()
        self._bits_I = self_information(self._counts_I)
        self._is_tail_I = ((classes_I == NEW) | (classes_I == TAIL)).astype(np.float64)
        self._vectors_ID = None if vectors_ID is None else unit_rows(vectors_ID)
        self._content = content_of(dataset)
        shares_IG = self._content.shares_IG if self._content else np.zeros((dataset.num_items, 0))
        self._history_QG, self._history_popularity_Q = _of_histories(queries, self._counts_I, shares_IG)
        popular = fit_baseline("popularity", dataset, options)
        assert isinstance(popular, FittedBaseline), popular
        # What everybody is shown without any model.
        self.obvious = popular.recommend(queries, options.list_length)

    def values(self, lists: Lists, hits_QK: npt.NDArray[np.bool_]) -> dict[str, Values]:
        """[Q] for every metric that has a value per query, at every cut-off."""
        values: dict[str, Values] = {}
        rows_QK = lists.item_rows
        for k in self.ks:
            popularity_Q = mean_of_listed(rows_QK, values_I=self._counts_I, k=k)
            values[f"novelty@{k}"] = novelty(rows_QK, self_information_I=self._bits_I, k=k)
            values[f"popularity@{k}"] = popularity_Q
            values[f"popularity_lift@{k}"] = popularity_lift(popularity_Q, self._history_popularity_Q)
            values[f"long_tail@{k}"] = mean_of_listed(rows_QK, values_I=self._is_tail_I, k=k)
            values[f"serendipity@{k}"] = serendipity(
                rows_QK, hits_QK, obvious_rows_QK=self.obvious.item_rows, k=k
            )
            if k > 1 and self._vectors_ID is not None:
                values[f"diversity_embedding@{k}"] = diversity(rows_QK, unit_vectors_ID=self._vectors_ID, k=k)
            if self._content is None:
                continue
            if k > 1:
                vectors_IG = self._content.vectors_IG
                values[f"diversity_content@{k}"] = diversity(rows_QK, unit_vectors_ID=vectors_IG, k=k)
            values[f"miscalibration@{k}"] = miscalibration(
                rows_QK, history_QG=self._history_QG, shares_IG=self._content.shares_IG, k=k
            )
        return values

    def of_all(self, lists: Lists) -> dict[str, float]:
        """Every metric of the lists as a whole, at every cut-off; NaN where there is none."""
        values: dict[str, float] = {}
        for k in self.ks:
            exposure_I = exposure(lists.item_rows, num_items=self._num_items, k=k)
            values[f"coverage@{k}"] = coverage(lists.item_rows, num_items=self._num_items, k=k)
            values[f"gini@{k}"] = gini(exposure_I)
            values[f"exposure_entropy@{k}"] = exposure_entropy(exposure_I)
            values[f"personalisation@{k}"] = personalisation(
                lists.item_rows, users_Q=self._users_Q, num_items=self._num_items, k=k
            )
        return values

    def lorenz(self, lists: Lists) -> list[list[float]]:
        """Lorenz curve of exposure at the main cut-off."""
        return lorenz(exposure(lists.item_rows, num_items=self._num_items, k=self._main_k))


def _of_histories(queries: Queries, counts_I: npt.NDArray[np.int64], shares_IG: Any) -> tuple[Any, Values]:
    """Distribution over content [Q, G] and mean train positives [Q] of each query's history."""
    num_items = len(counts_I)
    per_item = np.stack([np.concatenate([[0], counts_I[1:]]), np.arange(num_items) > 0], axis=1)
    parts, sums = [], [np.zeros((0, 2))]
    for positions in torch.split(torch.arange(len(queries)), _BLOCK_QUERIES):
        history = queries.histories.select(positions)
        entries = (np.ones(len(history.values)), history.values.numpy(), history.offsets.numpy())
        items_QI = sparse.csr_matrix(entries, shape=(len(history), num_items))
        parts.append(distributions(items_QI, shares_IG))
        sums.append(items_QI @ per_item)
    totals = np.concatenate(sums)
    joined = sparse.vstack(parts, format="csr") if sparse.issparse(shares_IG) else np.concatenate(parts)
    return joined, quotient(totals[:, 0], totals[:, 1])
