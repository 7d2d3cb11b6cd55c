"""Baselines that need no training loop: popularity, item-kNN and EASE, fitted on the train split's positives.

Each answers the same queries as a model does: it may look at the whole history of the query, which is
    excluded
from its list, and knows no features.

Legend: U users, I catalogue, Q queries, B queries of a block, K length of the lists, V values of a jagged
field.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from recsys.data.dataset import PreparedDataset
from recsys.data.events import Bags
from recsys.data.queries import Queries
from recsys.evaluation.options import Baseline, EvaluationOptions
from recsys.evaluation.recommendations import Lists
from recsys.retrieval.exact import top_k_of_scores

_MICROSECONDS_A_DAY = 86_400_000_000
# Scores or similarities held at a time.
_BLOCK_SCORES = 2**24

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class FittedBaseline:
    """Scores every item by what each item of the history adds, or without any by a constant of its own.

    Args:
        name: which baseline.
        num_items: I.
        weights: [I, I] float32, dense or sparse; row j is what item j of the history adds to the scores.
        constant: [I] float32 score of each item for everybody, where there are no weights.
    """

    name: Baseline
    num_items: int
    weights: Any = None
    constant: npt.NDArray[np.float32] | None = None

    def recommend(self, queries: Queries, k: int) -> Lists:
        """The k best items of each query, its history left out; ties by the lower catalogue row."""
        lists = Lists.empty(len(queries), k)
        for block in _blocks(queries, num_items=self.num_items):
            history = queries.histories.select(block)
            scores_BI = self._scores(history, owners_B=queries.events.history_rows[block].numpy())
            best = top_k_of_scores(scores_BI, k, seen_values=history.values, seen_offsets=history.offsets)
            lists.put(block, *best)
        return lists

    def _scores(self, histories: Bags, *, owners_B: npt.NDArray[np.int64]) -> torch.Tensor:
        if self.constant is not None:
            return torch.from_numpy(self.constant).expand(len(histories), -1)
        return torch.from_numpy(history_scores(histories, owners_B=owners_B, weights_II=self.weights))


def fit_baseline(
    name: Baseline, dataset: PreparedDataset, options: EvaluationOptions
) -> FittedBaseline | str:
    """Fits a baseline on the train split.

    Args:
        name: which one.
        dataset: the prepared dataset.
        options: the keys of the baselines.

    Returns:
        The fitted baseline, or the reason why it cannot be had for this dataset.
    """
    if name == "popularity_recent" and not dataset.has_timestamps:
        return "the interactions have no timestamps"
    limits = {"item_knn": options.knn_max_items, "ease": options.ease_max_items}
    num_items = dataset.num_items
    if num_items - 1 > limits.get(name, num_items):
        key = "knn_max_items" if name == "item_knn" else "ease_max_items"
        return (
            f"its work grows with the square of the catalogue, which has {num_items - 1:,} items; "
            f"`evaluation.{key}` allows {limits[name]:,}"
        )
    user_rows, item_rows, timestamps = dataset.train_positives()
    if name == "popularity":
        return FittedBaseline(name, num_items, constant=popularity_order(item_rows, num_items=num_items))
    if name == "popularity_recent":
        recent = timestamps > timestamps.max(initial=0) - options.recent_days * _MICROSECONDS_A_DAY
        constant_I = popularity_order(item_rows[recent], num_items=num_items)
        return FittedBaseline(name, num_items, constant=constant_I)
    # Items that the history does not tell apart come in the order of their rows: the more frequent first.
    matrix_UI = interaction_matrix(user_rows, item_rows, num_items=num_items)
    if name == "ease":
        return FittedBaseline(name, num_items, ease_weights(matrix_UI, l2=options.ease_l2))
    neighbours_II = item_knn_weights(
        matrix_UI, num_neighbours=options.knn_neighbours, shrinkage=options.knn_shrinkage
    )
    return FittedBaseline(name, num_items, neighbours_II)


def popularity_order(item_rows: npt.NDArray[np.int64], *, num_items: int) -> npt.NDArray[np.float32]:
    """Scores [I] that sort items by their number of positives, ties by the lower row: I - 1 down to 0.

    Places and not counts, because searching without ties is several times quicker.
    """
    places_I = np.empty(num_items, dtype=np.float32)
    counts_I = np.bincount(item_rows, minlength=num_items)
    places_I[np.argsort(-counts_I, kind="stable")] = np.arange(num_items - 1, -1, -1)
    return places_I


def interaction_matrix(
    user_rows: npt.NDArray[np.int64], item_rows: npt.NDArray[np.int64], *, num_items: int
) -> sparse.csr_matrix:
    """1 where the user had a positive with the item, however often; [U, I] float32."""
    shape = (int(user_rows.max(initial=0)) + 1, num_items)
    matrix_UI = sparse.csr_matrix((np.ones(len(item_rows), np.float32), (user_rows, item_rows)), shape=shape)
    matrix_UI.data[:] = 1
    return matrix_UI


def item_knn_weights(
    matrix_UI: sparse.csr_matrix, *, num_neighbours: int, shrinkage: float
) -> sparse.csr_matrix:
    """Column i holds the cosine similarities of item i to its nearest neighbours, from which it is scored.

    Formula: w_ji = x_j . x_i / (|x_j| |x_i| + shrinkage) over the users' 0/1 columns, for the items j with
    the highest (ties by the lower row), 0 elsewhere and on the diagonal.

    Args:
        matrix_UI: [U, I] 0 or 1.
        num_neighbours: kept for each item; 20 to 200 works.
        shrinkage: added to the denominator; 0 to 100.

    Returns:
        [I, I] float32.

    Reference:
        Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001; shrinkage
        as in Bell and Koren, "Improved neighborhood-based collaborative filtering", KDD Cup 2007.
    """
    num_items = matrix_UI.shape[1]
    norms_I = np.sqrt(np.asarray(matrix_UI.sum(axis=0)).ravel())
    columns_UI = matrix_UI.tocsc()
    items, neighbours, weights = [], [], []
    size = max(1, _BLOCK_SCORES // num_items)
    for begin in range(0, num_items, size):
        products_BI = (columns_UI[:, begin : begin + size].T @ matrix_UI).toarray()
        block = np.arange(len(products_BI))
        products_BI[block, begin + block] = 0
        products_BI /= np.maximum(norms_I[begin : begin + size, None] * norms_I + shrinkage, 1e-12)
        best, found = top_k_of_scores(torch.from_numpy(products_BI), num_neighbours)
        kept = (best > 0).numpy()
        items.append(np.repeat(begin + block, kept.sum(axis=1)))
        neighbours.append(found.numpy()[kept])
        weights.append(best.numpy()[kept])
    entries = (np.concatenate(weights), (np.concatenate(neighbours), np.concatenate(items)))
    return sparse.csr_matrix(entries, shape=(num_items, num_items), dtype=np.float32)


def ease_weights(matrix_UI: sparse.csr_matrix, *, l2: float) -> npt.NDArray[np.float32]:
    """The item-item weights that best rebuild every user's row from the rest of it.

    Formula: B = argmin |X - X B|^2 + l2 |B|^2 with diag(B) = 0, which is -P_ij / P_jj off the diagonal for
    P = (X'X + l2 I)^-1.

    Args:
        matrix_UI: [U, I] 0 or 1.
        l2: regularisation; 100 to 1000 works.

    Returns:
        [I, I] float32, 0 on the diagonal.

    Reference:
        Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, arXiv 1905.03375, equation 8.
    """
    gram_II = torch.from_numpy((matrix_UI.T @ matrix_UI).toarray())
    gram_II.diagonal().add_(l2)
    inverse_II = torch.cholesky_inverse(torch.linalg.cholesky(gram_II))
    weights_II = inverse_II / -inverse_II.diagonal()
    weights_II.fill_diagonal_(0)
    return weights_II.numpy()


def history_scores(
    histories: Bags, *, owners_B: npt.NDArray[np.int64], weights_II: Any
) -> npt.NDArray[np.float32]:
    """Sum over the different items of each history of their rows of `weights_II`.

    Neighbouring queries with the same owner must have histories of which the earlier is a prefix of the
    later:

        owner 7   [3, 5]                weights[3] + weights[5]
        owner 7   [3, 5, 2]             the line before + weights[2]
        owner 8   [5]                   weights[5]

    so that a user's hundredth query costs one addition and not a hundred.

    Args:
        histories: [B] bags of catalogue rows, oldest first; row 0 adds nothing.
        owners_B: [B] whose history it is.
        weights_II: [I, I] dense or sparse.

    Returns:
        [B, I] float32.
    """
    lengths_B = histories.lengths.numpy()
    continues_B = np.concatenate([[False], owners_B[1:] == owners_B[:-1]])
    known_B = np.where(continues_B, np.roll(lengths_B, 1), 0)
    run_B = np.cumsum(~continues_B)
    query_V = np.repeat(np.arange(len(lengths_B)), lengths_B)
    items_V = histories.values.numpy()
    place_V = np.arange(len(items_V)) - histories.offsets.numpy()[query_V]
    added_V = np.flatnonzero((place_V >= known_B[query_V]) & (items_V > 0))
    # An item that the history holds twice counts once.
    pairs = run_B[query_V[added_V]] * weights_II.shape[0] + items_V[added_V]
    added_V = added_V[np.unique(pairs, return_index=True)[1]]
    entries = (np.ones(len(added_V), np.float32), (query_V[added_V], items_V[added_V]))
    added_BI = sparse.csr_matrix(entries, shape=(len(lengths_B), weights_II.shape[0])) @ weights_II
    scores_BI = added_BI.toarray() if sparse.issparse(added_BI) else np.asarray(added_BI)
    ends = np.flatnonzero(np.append(~continues_B[1:], True)) + 1
    for begin, end in zip(np.flatnonzero(~continues_B), ends, strict=True):
        np.cumsum(scores_BI[begin:end], axis=0, out=scores_BI[begin:end])
    return scores_BI


def _blocks(queries: Queries, *, num_items: int) -> Iterator[torch.Tensor]:
    """Positions of the queries, each user's together in time order, as many at a time as memory allows."""
    lengths_Q = queries.histories.lengths.numpy()
    order = np.lexsort((lengths_Q, queries.events.history_rows.numpy()))
    yield from torch.split(torch.from_numpy(order), max(1, _BLOCK_SCORES // num_items))
