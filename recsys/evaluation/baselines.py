"""Baselines that need no training loop: popularity, item-kNN and EASE, fitted on the train split's positives.

Each answers the same queries as a model does. It may look at the whole history of the query; those of
content alone know features.

Legend: U users, I catalogue, Q queries, B queries of a block, K ranks, V values of a jagged field.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Queries
from recsys.evaluation.candidates import Mask, candidate_mask
from recsys.evaluation.content_baselines import ProductWeights, content_knn, content_matrix, content_ridge
from recsys.evaluation.options import CONTENT_BASELINES, Baseline, EvaluationOptions
from recsys.evaluation.recommendations import Lists
from recsys.metrics.ranking import find_hits, ndcg
from recsys.models.ease import ease_factors, ease_weights
from recsys.models.item_knn import item_neighbours
from recsys.nn.spectral import Spectrum, interaction_matrix, spectrum_of
from recsys.retrieval.exact import top_k_of_scores
from recsys.schema.jagged import JaggedColumn
from recsys.schema.positives import TrainPositives
from recsys.schema.progress import progress

_MICROSECONDS_A_DAY = 86_400_000_000
# Scores held at a time.
_BLOCK_SCORES = 2**24
# Queries whose lists are walked together.
_WALKED = 4096
# Enough to tell good values of a key from bad ones; fewer where a query costs more.
_TUNING_QUERIES, _TUNING_SCORES = 10_000, 200_000_000
# Singular values that stand for EASE where the catalogue is large; figures in docs/explanation/speed.md.
_EASE_RANK = 512


@dataclasses.dataclass(frozen=True)
class FittedBaseline:
    """Scores every item by what each item of the history adds, or without any by a constant of its own.

    Args:
        name: which baseline.
        num_items: I.
        weights: [I, I] float32, dense, sparse or `ProductWeights`; row j is what item j of the history adds
            to the scores.
        constant: [I] float32 score of each item for everybody, where there are no weights.
        chosen: what was picked on the validation split, by its key.
        candidates: [I] bool, what may be recommended; the whole catalogue when None.
    """

    name: Baseline
    num_items: int
    weights: Any = None
    constant: npt.NDArray[np.float32] | None = None
    chosen: Mapping[str, float] = dataclasses.field(default_factory=dict)
    candidates: Mask | None = None

    def recommend(self, queries: Queries, k: int) -> Lists:
        """The k best candidates of each query, without what it excludes; ties by the lower catalogue row."""
        lists = Lists.empty(len(queries), k)
        if self.constant is not None:
            return self._walk(queries, lists)
        blocks = list(_blocks(queries, num_items=self.num_items))
        for block in progress(blocks, f"scoring {len(queries):,} queries by {self.name}"):
            history = queries.histories.select(block)
            owners_B = queries.events.history_rows[block].numpy()
            scores_BI = torch.from_numpy(history_scores(history, owners_B=owners_B, weights_II=self.weights))
            if self.candidates is not None:
                scores_BI[:, torch.from_numpy(~self.candidates)] = -torch.inf
            best = top_k_of_scores(scores_BI, k, seen=queries.excluded(history), overwrite=True)
            lists.put(block, *best)
        return lists

    def _walk(self, queries: Queries, lists: Lists) -> Lists:
        """Fills the lists by walking down the one order of the items, past those of each history.

            order      7  3  9  1 ...      places of the history {3, 5} in it: 1 and beyond what is looked at
            taken      1  0  1  1          the first k that are not struck out

        The work grows with the lengths of list and history, and not with the catalogue.
        """
        assert self.constant is not None
        k = lists.item_rows.shape[1]
        order = np.argsort(-self.constant, kind="stable")
        order = order[order > 0 if self.candidates is None else self.candidates[order]]
        place_I = np.full(self.num_items, len(order))
        place_I[order] = np.arange(len(order))
        lengths_Q = queries.histories.lengths.numpy()
        for block in np.array_split(np.argsort(lengths_Q, kind="stable"), -(-len(queries) // _WALKED) or 1):
            history = queries.excluded(queries.histories.select(torch.from_numpy(block)))
            depth = min(k + int(history.lengths.numpy().max(initial=0)), len(order))
            places_V = place_I[history.values.numpy()]
            query_V = np.repeat(np.arange(len(block)), history.lengths.numpy())
            taken_BP = np.ones((len(block), depth), dtype=np.bool_)
            taken_BP[query_V[places_V < depth], places_V[places_V < depth]] = False
            taken_BP &= np.cumsum(taken_BP, axis=1) <= k
            query, place = np.nonzero(taken_BP)
            rank = _place_in_group(query)
            lists.item_rows[block[query], rank] = order[place]
            lists.scores[block[query], rank] = self.constant[order[place]]
        return lists


def _place_in_group(group_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[N] how many equal values stand before each in a sorted array: [4, 4, 7] gives [0, 1, 0]."""
    starts = np.searchsorted(group_N, group_N, side="left")
    return np.asarray(np.arange(len(group_N)) - starts)


def fit_baseline(
    name: Baseline, dataset: PreparedDataset, options: EvaluationOptions
) -> FittedBaseline | str:
    """Fits a baseline on the train split; of several values of its key, the best on validation is kept.

    Args:
        name: which one.
        dataset: the prepared dataset.
        options: the keys of the baselines.

    Returns:
        The fitted baseline, or the reason why it cannot be had for this dataset.
    """
    fitted = _fit(name, dataset, options)
    if isinstance(fitted, str):
        return fitted
    return dataclasses.replace(fitted, candidates=candidate_mask(dataset, options))


def _fit(name: Baseline, dataset: PreparedDataset, options: EvaluationOptions) -> FittedBaseline | str:
    if name in ("popularity", "popularity_recent"):
        return _fit_popularity(name, dataset, options)
    if name in CONTENT_BASELINES:
        return _fit_content(name, dataset, options)
    if name == "ease":
        return _fit_ease(dataset, options)
    if dataset.num_items - 1 > options.knn_max_items:
        return (
            f"its work grows with the square of the catalogue, which has {dataset.num_items - 1:,} items; "
            f"`evaluation.knn_max_items` allows {options.knn_max_items:,}"
        )
    matrix_UI = _train_matrix(dataset)
    neighbours = item_neighbours(
        matrix_UI, num_neighbours=max(options.knn_neighbours), shrinkage=options.knn_shrinkage
    )

    def item_knn(number: float) -> FittedBaseline:
        weights_II = neighbours.weights(int(number))
        return FittedBaseline(name, dataset.num_items, weights_II, chosen={"knn_neighbours": number})

    return _best_on_validation(item_knn, options.knn_neighbours, dataset, options)


def _fit_ease(dataset: PreparedDataset, options: EvaluationOptions) -> FittedBaseline:
    """EASE by its own formula where the catalogue is small, otherwise by the largest singular values."""
    matrix_UI = _train_matrix(dataset)
    weights: Callable[..., Any]
    if dataset.num_items - 1 <= options.ease_max_items:
        weights = functools.partial(ease_weights, (matrix_UI.T @ matrix_UI).toarray())
    else:
        weights = functools.partial(_product_weights, spectrum_of(matrix_UI, rank=_EASE_RANK))

    def ease(l2: float) -> FittedBaseline:
        return FittedBaseline("ease", dataset.num_items, weights(l2=l2), chosen={"ease_l2": l2})

    return _best_on_validation(ease, options.ease_l2, dataset, options)


def _product_weights(spectrum: Spectrum, *, l2: float) -> ProductWeights:
    """EASE's weights as a product of factors, in which no item adds to its own score."""
    left_ID, right_ID = ease_factors(spectrum, l2=l2)
    left, right = left_ID.numpy().astype(np.float32), right_ID.numpy().astype(np.float32)
    own = sparse.diags(np.einsum("id,id->i", left, right), format="csr")
    return ProductWeights(((1.0, left, right), (-1.0, own, sparse.identity(len(left), np.float32, "dia"))))


def _train_matrix(dataset: PreparedDataset) -> sparse.csr_matrix:
    user_rows, item_rows, _ = map(torch.from_numpy, dataset.train_positives())
    return interaction_matrix(TrainPositives(user_rows, item_rows), num_rows=dataset.num_items)


def _fit_content(
    name: Baseline, dataset: PreparedDataset, options: EvaluationOptions
) -> FittedBaseline | str:
    content_IW = content_matrix(dataset)
    if content_IW is None:
        return "the items have no text and no tags"
    knn = content_knn(content_IW)
    if name == "content_knn":
        return FittedBaseline(name, dataset.num_items, knn)
    matrix_UI = _train_matrix(dataset)
    mapped = content_ridge(content_IW, matrix_UI)
    if name == "content_ridge":
        return FittedBaseline(name, dataset.num_items, mapped)
    parts = knn.scaled(matrix_UI), mapped.scaled(matrix_UI)

    def content_sum(weight: float) -> FittedBaseline:
        weights_II = parts[0] + weight * parts[1]
        return FittedBaseline(name, dataset.num_items, weights_II, chosen={"content_weights": weight})

    return _best_on_validation(content_sum, options.content_weights, dataset, options)


def _fit_popularity(
    name: Baseline, dataset: PreparedDataset, options: EvaluationOptions
) -> FittedBaseline | str:
    _, item_rows, timestamps = dataset.train_positives()
    if name == "popularity_recent":
        if not dataset.has_timestamps:
            return "the interactions have no timestamps"
        recent = timestamps > timestamps.max(initial=0) - options.recent_days * _MICROSECONDS_A_DAY
        item_rows = item_rows[recent]
    constant_I = popularity_order(item_rows, num_items=dataset.num_items)
    return FittedBaseline(name, dataset.num_items, constant=constant_I)


def _best_on_validation(
    fit: Callable[[float], FittedBaseline],
    values: Sequence[float],
    dataset: PreparedDataset,
    options: EvaluationOptions,
) -> FittedBaseline:
    """The fit with the highest NDCG on random validation queries; the first value's when there are none."""
    queries = dataset.queries("validation", mode=options.queries, seen=options.seen)
    best = fit(values[0])
    if len(values) == 1 or not len(queries):
        return best
    number = min(_TUNING_QUERIES, max(1_000, _TUNING_SCORES // dataset.num_items))
    sample = queries.draw(number, seed=options.seed)
    best_ndcg = _validation_ndcg(best, sample, options)
    for value in progress(values[1:], f"choosing the best of {len(values)} values for {best.name}"):
        fitted = fit(value)
        value_ndcg = _validation_ndcg(fitted, sample, options)
        if value_ndcg > best_ndcg:
            best, best_ndcg = fitted, value_ndcg
    return best


def _validation_ndcg(fitted: FittedBaseline, queries: Queries, options: EvaluationOptions) -> float:
    lists = fitted.recommend(queries, options.main_k)
    hits_QK, num_relevant_Q = find_hits(
        lists.item_rows,
        relevant_rows_V=queries.relevant.values.numpy(),
        relevant_offsets=queries.relevant.offsets.numpy(),
    )
    return float(ndcg(hits_QK, num_relevant_Q, k=options.main_k).mean())


def popularity_order(item_rows: npt.NDArray[np.int64], *, num_items: int) -> npt.NDArray[np.float32]:
    """Scores [I] that sort items by their number of positives, ties by the lower row: I - 1 down to 0.

    Places and not counts, because searching without ties is several times quicker.
    """
    places_I = np.empty(num_items, dtype=np.float32)
    counts_I = np.bincount(item_rows, minlength=num_items)
    places_I[np.argsort(-counts_I, kind="stable")] = np.arange(num_items - 1, -1, -1)
    return places_I


def _blocks(queries: Queries, *, num_items: int) -> Iterator[torch.Tensor]:
    """Positions of the queries, each user's together in time order, as many at a time as memory allows."""
    lengths_Q = queries.histories.lengths.numpy()
    order = np.lexsort((lengths_Q, queries.events.history_rows.numpy()))
    yield from torch.split(torch.from_numpy(order), max(1, _BLOCK_SCORES // num_items))


def history_scores(
    histories: JaggedColumn, *, owners_B: npt.NDArray[np.int64], weights_II: Any
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
    sums_BI = sparse.csr_matrix(entries, shape=(len(lengths_B), weights_II.shape[0])) @ weights_II
    scores_BI = np.asarray(sums_BI.toarray() if sparse.issparse(sums_BI) else sums_BI)
    begins, ends = np.flatnonzero(~continues_B), np.flatnonzero(np.append(~continues_B[1:], True)) + 1
    several = ends - begins > 1
    for begin, end in zip(begins[several], ends[several], strict=True):
        np.cumsum(scores_BI[begin:end], axis=0, out=scores_BI[begin:end])
    return scores_BI
