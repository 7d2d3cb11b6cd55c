"""Metrics of ranked lists, one value a query; the mean over queries is what gets reported.

Every metric takes `hits_QK` ([Q, K] bool: whether the item at rank 1..K of the query's list is relevant) and
`num_relevant_Q` ([Q] integers: how many items are relevant, those that no list can hold included), and looks
at the first `k` ranks. An item occurs once in a list; ties among scores are settled before (by the lower
catalogue row, see `recsys.retrieval.exact`). All lie in [0, 1], more is better. A query without a relevant
item has the value 0.

    rank          1      2      3      4
    hits_QK   [[ no,   yes,    no,   yes ],     num_relevant_Q  [ 3,
               [ yes,   no,    no,    no ]]                       1 ]

Legend: Q queries, K ranks of a list, V values of a jagged field.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.metrics.quotients import quotient
from recsys.metrics.register import list_metric, list_metrics
from recsys.schema.errors import InputError

Hits = NDArray[np.bool_]
Counts = NDArray[np.integer[Any]]
Values = NDArray[np.float64]


def ranking_metrics(
    hits_QK: Hits, num_relevant_Q: Counts, *, ks: Sequence[int], names: Sequence[str] = ()
) -> dict[str, Values]:
    """Metrics of ranked lists at every cut-off, as `{"ndcg@10": [Q], ...}`.

    Args:
        hits_QK: [Q, K] relevance of the lists.
        num_relevant_Q: [Q] number of relevant items.
        ks: cut-offs, none larger than K.
        names: which metrics, see `recsys.metrics.register.list_metrics`; all of this file when empty.

    Returns:
        [Q] float64 for each metric at each k.

    Raises:
        ValueError: a metric of the user's own gives something else than a number for each query.

    Example:
        >>> hits, num_relevant = np.array([[False, True, False]]), np.array([2])
        >>> values = ranking_metrics(hits, num_relevant, ks=[3], names=["recall", "ndcg", "mrr"])
        >>> {key: round(float(value[0]), 2) for key, value in values.items()}
        {'recall@3': 0.5, 'ndcg@3': 0.39, 'mrr@3': 0.5}
    """
    values: dict[str, Values] = {}
    chosen = list_metrics(names)
    for k in ks:
        for one in chosen:
            assert one.of_lists is not None
            value_Q = np.asarray(one.of_lists(hits_QK, num_relevant_Q, k=k), dtype=np.float64)
            if value_Q.shape != (len(hits_QK),):
                raise InputError(
                    f"`evaluation.metrics`: expected `{one.name}` to return a value for each of "
                    f"{len(hits_QK)} queries, got an array of shape {value_Q.shape}"
                )
            values[f"{one.name}@{k}"] = value_Q
    return values


def find_hits(
    item_rows_QK: NDArray[np.integer[Any]],
    *,
    relevant_rows_V: NDArray[np.integer[Any]],
    relevant_offsets: NDArray[np.integer[Any]],
) -> tuple[Hits, NDArray[np.int64]]:
    """Which listed items are relevant, and how many relevant items each query has.

    Row 0 stands for an item outside the catalogue: it is never a hit, and each of its occurrences among the
    relevant counts as one item that cannot be found. A catalogue row given twice for a query counts once.

    Args:
        item_rows_QK: [Q, K] catalogue rows of the lists, 0 where a list is shorter than K.
        relevant_rows_V: [V] catalogue rows of the relevant items, query by query.
        relevant_offsets: [Q + 1] where each query's rows begin in it.

    Returns:
        `hits_QK` [Q, K] bool and `num_relevant_Q` [Q] int64.

    Example:
        >>> hits, num_relevant = find_hits(
        ...     np.array([[5, 3, 0]]), relevant_rows_V=np.array([3, 0, 3]), relevant_offsets=np.array([0, 3])
        ... )
        >>> hits.tolist(), num_relevant.tolist()
        ([[False, True, False]], [2])
    """
    num_queries = len(item_rows_QK)
    query_V = np.repeat(np.arange(num_queries), np.diff(relevant_offsets))
    rows_V = relevant_rows_V.astype(np.int64)
    span = int(max(rows_V.max(initial=0), item_rows_QK.max(initial=0))) + 1
    known_V = rows_V > 0
    relevant_pairs = np.unique(query_V[known_V] * span + rows_V[known_V])
    num_relevant_Q = np.bincount(relevant_pairs // span, minlength=num_queries)
    num_relevant_Q += np.bincount(query_V[~known_V], minlength=num_queries)
    listed_pairs = np.arange(num_queries)[:, None] * span + item_rows_QK
    return _contains(relevant_pairs, listed_pairs), num_relevant_Q.astype(np.int64)


@list_metric(better="more")
def hit_rate(hits_QK: Hits, num_relevant_Q: Counts, *, k: int) -> Values:
    """1 where at least one of the first k items is relevant, else 0.

    Formula: max_{i <= k} rel_i. No denominator.

    Reference:
        Deshpande and Karypis, "Item-based top-N recommendation algorithms", TOIS 2004, section 6.2.
    """
    return np.asarray(_first(hits_QK, k).any(axis=1), dtype=np.float64)


@list_metric(better="more")
def recall(hits_QK: Hits, num_relevant_Q: Counts, *, k: int) -> Values:
    """Share of the relevant items that are among the first k.

    Formula: sum_{i <= k} rel_i / R. Denominator: R, all relevant items, so it stays below 1 where R > k.

    Reference:
        Manning et al., "Introduction to information retrieval", 2008, section 8.3.
    """
    return quotient(_first(hits_QK, k).sum(axis=1), num_relevant_Q, otherwise=0)


@list_metric(better="more")
def precision(hits_QK: Hits, num_relevant_Q: Counts, *, k: int) -> Values:
    """Share of the first k ranks that hold a relevant item.

    Formula: sum_{i <= k} rel_i / k. Denominator: k, for a list that is shorter too.

    Reference:
        Manning et al., "Introduction to information retrieval", 2008, section 8.4.
    """
    return quotient(_first(hits_QK, k).sum(axis=1), np.full(len(hits_QK), k), otherwise=0)


@list_metric(better="more", label="NDCG")
def ndcg(hits_QK: Hits, num_relevant_Q: Counts, *, k: int) -> Values:
    """Discounted gain of the first k items over that of an ideal list, gains being 0 or 1.

    Formula: sum_{i <= k} rel_i / log2(i + 1), divided by the same sum for min(k, R) relevant items on top.

    Reference:
        Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002, with the
        discount of Burges et al., "Learning to rank using gradient descent", ICML 2005.
    """
    discount_K = 1 / np.log2(np.arange(2, k + 2))
    ideal_by_count = np.concatenate([[0.0], np.cumsum(discount_K)])
    return quotient(
        _first(hits_QK, k) @ discount_K, ideal_by_count[np.minimum(num_relevant_Q, k)], otherwise=0
    )


@list_metric(better="more", label="MRR")
def mrr(hits_QK: Hits, num_relevant_Q: Counts, *, k: int) -> Values:
    """Reciprocal rank of the first relevant item, 0 where none is among the first k.

    Formula: 1 / min{i <= k : rel_i}. No denominator.

    Reference:
        Voorhees, "The TREC-8 question answering track report", 1999.
    """
    first_QK = _first(hits_QK, k)
    return quotient(first_QK.any(axis=1), 1 + first_QK.argmax(axis=1), otherwise=0)


@list_metric("map", better="more", label="MAP")
def average_precision(hits_QK: Hits, num_relevant_Q: Counts, *, k: int) -> Values:
    """Mean of the precision at the rank of each relevant item; its mean over queries is MAP.

    Formula: sum_{i <= k} rel_i precision@i / min(k, R). Denominator: min(k, R), so that an ideal list has 1.

    Reference:
        Manning et al., "Introduction to information retrieval", 2008, section 8.4; cut off at k.
    """
    first_QK = _first(hits_QK, k)
    precision_QK = np.cumsum(first_QK, axis=1) / np.arange(1, k + 1)
    return quotient((precision_QK * first_QK).sum(axis=1), np.minimum(num_relevant_Q, k), otherwise=0)


def _first(hits_QK: Hits, k: int) -> Hits:
    """The first k ranks, after checking that the lists are that long."""
    if not 1 <= k <= hits_QK.shape[1]:
        raise InputError(
            f"cut-off k must lie between 1 and the length of the lists, {hits_QK.shape[1]}; got {k}"
        )
    first_QK: Hits = hits_QK[:, :k]
    return first_QK


def _contains(ascending: NDArray[np.int64], wanted: NDArray[np.int64]) -> Hits:
    """Whether each of `wanted` is in the sorted `ascending`."""
    if not len(ascending):
        return np.zeros(wanted.shape, dtype=np.bool_)
    positions = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    found: Hits = ascending[positions] == wanted
    return found
