"""Metrics of ranked lists that look beyond how many of the items are relevant, one value a query.

All take `item_rows_QK` ([Q, K] catalogue rows at rank 1..K, 0 where a list is shorter) and look at the
first `k`. A value is NaN where it cannot be told (an empty list, no history), and such a query is left out of
the mean. How exposure is shared out over all queries is in `recsys.metrics.exposure`.

Legend: Q queries, K ranks of a list, I catalogue rows with the unknown item as row 0, D dimension of a vector
of an item, G values of the items' content (genres, brands).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.metrics.quotients import quotient
from recsys.metrics.register import metric

Rows = NDArray[np.integer[Any]]
Values = NDArray[np.float64]

# Lists looked at together: bounds what is held of their vectors.
_BLOCK_QUERIES = 2**15
# Share of the history's own distribution that is mixed into a list's, so that a logarithm stays finite.
_MIXED_IN = 0.01


@metric(better=None, meaning="share of items ever shown")
def coverage(item_rows_QK: Rows, *, num_items: int, k: int) -> float:
    """Share of the catalogue that is among the first k of at least one list; more is better.

    Denominator: all items of the catalogue but the unknown one. No lists cover nothing. It belongs to the set
    of queries as a whole and grows with their number, so it has no value per query and no bootstrap interval
    (a resample holds fewer different queries).

    Args:
        item_rows_QK: [Q, K] lists.
        num_items: I, the unknown item included.
        k: cut-off.

    Example:
        >>> coverage(np.array([[1, 2], [1, 3]]), num_items=5, k=1)
        0.25

    Reference:
        Ge, Delgado-Battenfeld and Jannach, "Beyond accuracy: evaluating recommender systems by coverage and
        serendipity", RecSys 2010, catalogue coverage.
    """
    recommended = np.zeros(num_items, dtype=np.bool_)
    recommended[item_rows_QK[:, :k]] = True
    return float(recommended[1:].sum() / max(num_items - 1, 1))


@metric(better=None, meaning="bits, more is rarer")
def novelty(item_rows_QK: Rows, *, self_information_I: Values, k: int) -> Values:
    """Mean self-information of the first k items, in bits: how rare in train what is recommended was.

    Formula: mean over the list of -log2 p(i). Denominator: the items in the first k of the list. An empty
    list has 0. More is more novel, not better by itself: random items are the most novel.

    Args:
        item_rows_QK: [Q, K] lists.
        self_information_I: [I] from `self_information`.
        k: cut-off.

    Returns:
        [Q] float64.

    Reference:
        Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems", PNAS 2010.
    """
    first_QK = item_rows_QK[:, :k]
    num_listed_Q = (first_QK > 0).sum(axis=1)
    return np.asarray(self_information_I[first_QK].sum(axis=1) / np.maximum(num_listed_Q, 1))


def self_information(counts_I: NDArray[Any]) -> Values:
    """Bits told by seeing an item: -log2 of its share of all train positives.

    Every item is taken to have been seen once more than it was, so that items new since train stay finite.

    Args:
        counts_I: [I] train positives of each item; row 0, the unknown item, is passed over.

    Returns:
        [I] float64, 0 for row 0.
    """
    seen_I = counts_I[1:] + 1.0
    return np.concatenate([[0.0], -np.log2(seen_I / seen_I.sum())])


def mean_of_listed(item_rows_QK: Rows, *, values_I: NDArray[Any], k: int) -> Values:
    """Mean over the first k items of a property of theirs.

    With the train positives of items it is the average popularity of what is recommended: neither more nor
    less is better by itself. With 1 for the items of the long tail and 0 for the others it is the share of
    the long tail. Denominator: the items in the first k of the list. An empty list has NaN.

    Args:
        item_rows_QK: [Q, K] lists.
        values_I: [I] property of each item; that of row 0 is passed over.
        k: cut-off.

    Returns:
        [Q] float64.

    Example:
        >>> mean_of_listed(np.array([[1, 2], [2, 0]]), values_I=np.array([9, 4, 1]), k=2).tolist()
        [2.5, 1.0]

    Reference:
        Abdollahpouri, Burke and Mobasher, "Managing popularity bias in recommender systems with personalized
        re-ranking", FLAIRS 2019, arXiv 1901.07555: ARP and APLT.
    """
    first_QK = item_rows_QK[:, :k]
    known_I = np.concatenate([[0.0], values_I[1:]])
    return quotient(known_I[first_QK].sum(axis=1), (first_QK > 0).sum(axis=1))


@metric(better=None, meaning="0: as popular as the history")
def popularity_lift(popularity_Q: Values, history_popularity_Q: Values) -> Values:
    """Compares the popularity of the list with that of the user's own history, as a power of two.

    Formula: log2((1 + a) / (1 + b)), a and b the mean train positives of the items listed and of those in the
    history. 0 is as popular as what the user chose, 1 twice as popular, -1 half; the nearer to 0, the less
    the system pushes a user to other items than the popular ones that she likes. NaN where a or b is.

    Args:
        popularity_Q: [Q] from `mean_of_listed`.
        history_popularity_Q: [Q] the same mean over the query's history.

    Returns:
        [Q] float64.

    Reference:
        Abdollahpouri et al., "The unfairness of popularity bias in recommendation", RMSE at RecSys 2019,
        arXiv 1907.13286: group average popularity against the profile's; per query and as a logarithm here,
        so that twice and half as popular weigh the same.
    """
    return np.asarray(np.log2((1 + popularity_Q) / (1 + history_popularity_Q)))


@metric(better=None)
def serendipity(item_rows_QK: Rows, hits_QK: NDArray[np.bool_], *, obvious_rows_QK: Rows, k: int) -> Values:
    """Share of the first k ranks whose item is relevant and not among the k most obvious ones.

    Formula: |{i in list@k : i relevant, i not in obvious@k}| / k. Denominator: k, as in precision, which it
    cannot be above. An empty list has 0. More is better.

    Args:
        item_rows_QK: [Q, K] lists.
        hits_QK: [Q, K] whether the item at each rank is relevant.
        obvious_rows_QK: [Q, K] lists of a primitive recommender: popularity, the history left out.
        k: cut-off.

    Returns:
        [Q] float64.

    Reference:
        Ge, Delgado-Battenfeld and Jannach, "Beyond accuracy: evaluating recommender systems by coverage and
        serendipity", RecSys 2010, equations 3 and 4.
    """
    query, place = np.nonzero(hits_QK[:, :k])
    is_obvious = (obvious_rows_QK[query, :k] == item_rows_QK[query, place, None]).any(axis=1)
    return np.asarray(np.bincount(query[~is_obvious], minlength=len(hits_QK)) / k)


@metric("diversity_content", better=None, label="diversity by content")
@metric("diversity_embedding", better=None, label="diversity by embedding")
def diversity(item_rows_QK: Rows, *, unit_vectors_ID: Any, k: int) -> Values:
    """Mean cosine distance between two different items of the first k.

    Formula: mean over pairs i < j of 1 - v_i . v_j, computed from the length of the sum of the n vectors:
    1 - (|sum v|^2 - n) / (n (n - 1)). Denominator: the pairs of items that have a vector. A list with fewer
    than two of them has NaN. 0 is a list of items all alike, 1 of items with nothing in common (above 1 they
    point away from each other). More is more diverse, not better by itself.

    Args:
        item_rows_QK: [Q, K] lists.
        unit_vectors_ID: [I, D] dense or sparse, from `unit_rows`.
        k: cut-off, at least 2.

    Returns:
        [Q] float64.

    Example:
        >>> vectors = unit_rows(np.array([[0, 0], [1, 0], [2, 0], [0, 3]]))
        >>> diversity(np.array([[1, 2, 3], [1, 2, 0]]), unit_vectors_ID=vectors, k=3).round(3).tolist()
        [0.667, 0.0]

    Reference:
        Ziegler et al., "Improving recommendation lists through topic diversification", WWW 2005, as a
        distance; Smyth and McClave, "Similarity vs. diversity", ICCBR 2001.
    """
    values_Q = np.empty(len(item_rows_QK))
    has_vector_I = np.asarray(abs(unit_vectors_ID).sum(axis=1)).ravel() > 0
    for part, listed_QI in _listed(item_rows_QK[:, :k], num_items=unit_vectors_ID.shape[0]):
        sums_QD = listed_QI @ unit_vectors_ID
        squares = sums_QD.multiply(sums_QD) if sparse.issparse(sums_QD) else np.square(sums_QD)
        squares_Q = np.asarray(squares.sum(axis=1), dtype=np.float64).ravel()
        sizes_Q = np.asarray(listed_QI @ has_vector_I.astype(np.float64))
        values_Q[part] = 1 - quotient(squares_Q - sizes_Q, sizes_Q * (sizes_Q - 1))
    return np.maximum(values_Q, 0)  # equal vectors may miss 0 by the rounding of float32


def unit_rows(vectors_ID: Any) -> Any:
    """The vectors divided by their lengths, zeros left as they are; row 0, the unknown item, gets zeros.

    Args:
        vectors_ID: [I, D] dense or sparse.

    Returns:
        [I, D] float32, sparse where the argument is.
    """
    if sparse.issparse(vectors_ID):
        squares_I = np.asarray(vectors_ID.multiply(vectors_ID).sum(axis=1), dtype=np.float64).ravel()
        scale_I = np.divide(1, np.sqrt(squares_I), out=np.zeros(len(squares_I)), where=squares_I > 0)
        scale_I[:1] = 0
        return (sparse.diags(scale_I) @ vectors_ID).tocsr().astype(np.float32)
    lengths_I = np.linalg.norm(vectors_ID, axis=1)
    lengths_I[:1] = 0
    scale_I = np.divide(1, lengths_I, out=np.zeros(len(lengths_I)), where=lengths_I > 0)
    return (vectors_ID * scale_I[:, None]).astype(np.float32)


@metric(better=None)
def miscalibration(item_rows_QK: Rows, *, history_QG: Any, shares_IG: Any, k: int) -> Values:
    """Measures how far the content of the first k items is from that of the user's history, in nats.

    Formula: KL(p, q') = sum_g p_g log(p_g / q'_g) with q' = 0.99 q + 0.01 p; p and q are the mean
    distributions over content (genres) of the items in the history and in the list, items weighted alike.
    Denominator: items with content. NaN without any of them in the history or in the list. 0 is a list that
    mirrors the history, at most log 100 = 4.6 one that has nothing in common with it; less is better
    calibrated.

    Args:
        item_rows_QK: [Q, K] lists.
        history_QG: [Q, G] p, from `distributions`; a row of zeros where there is none.
        shares_IG: [I, G] each item's own distribution, rows of sum 1, or 0 without content; dense or sparse,
            as `history_QG` is.
        k: cut-off.

    Returns:
        [Q] float64.

    Reference:
        Steck, "Calibrated recommendations", RecSys 2018, equations 2, 3 and 5.
    """
    values_Q = np.empty(len(item_rows_QK))
    for part, listed_QI in _listed(item_rows_QK[:, :k], num_items=shares_IG.shape[0]):
        p_QG, q_QG = history_QG[part], distributions(listed_QI, shares_IG)
        has_p_Q, has_q_Q = (np.asarray(one.sum(axis=1)).ravel() > 0 for one in (p_QG, q_QG))
        # Where q is 0 a term is p log(1 / 0.01), which sums to that logarithm; what both have takes from it.
        away_Q = -np.log(_MIXED_IN) - _shared(p_QG, q_QG)
        values_Q[part] = np.where(has_p_Q & has_q_Q, np.maximum(away_Q, 0), np.nan)
    return values_Q


def distributions(items_QI: Any, shares_IG: Any) -> Any:
    """Mean distribution over content of the items in each row.

    Args:
        items_QI: [Q, I] sparse: how often each item occurs.
        shares_IG: [I, G] each item's own distribution, dense or sparse.

    Returns:
        [Q, G] float64, sparse with ascending indices where `shares_IG` is; rows of sum 1, or of zeros where
        no item has content.
    """
    if not sparse.issparse(shares_IG):
        totals_QG = np.asarray(items_QI @ shares_IG, dtype=np.float64)
        return totals_QG / np.maximum(totals_QG.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    sums_QG = (items_QI @ shares_IG).tocsr().astype(np.float64)
    sums_QG.eliminate_zeros()
    totals_Q = np.asarray(sums_QG.sum(axis=1)).ravel()
    sums_QG.data /= np.repeat(totals_Q, np.diff(sums_QG.indptr))
    sums_QG.sort_indices()
    return sums_QG


def _shared(p_QG: Any, q_QG: Any) -> Values:
    """sum_g p_g log(1 + 99 q_g / p_g) over what both distributions have, [Q]."""
    odds = (1 - _MIXED_IN) / _MIXED_IN
    if not sparse.issparse(p_QG):
        ratio_QG = np.zeros(p_QG.shape)
        np.divide(odds * q_QG, p_QG, out=ratio_QG, where=p_QG > 0)
        return np.asarray((p_QG * np.log1p(ratio_QG)).sum(axis=1))
    both_p, both_q = p_QG.multiply(q_QG > 0).tocsr(), q_QG.multiply(p_QG > 0).tocsr()
    terms = both_p.data * np.log1p(odds * both_q.data / both_p.data)
    terms_QG = sparse.csr_matrix((terms, both_p.indices, both_p.indptr), shape=both_p.shape)
    return np.asarray(terms_QG.sum(axis=1)).ravel()


def _listed(first_QK: Rows, *, num_items: int) -> Iterator[tuple[slice, Any]]:
    """Blocks of queries, and for each how often its lists hold each item, [Q, I] sparse."""
    width = first_QK.shape[1]
    for begin in range(0, len(first_QK), _BLOCK_QUERIES):
        block_QK = first_QK[begin : begin + _BLOCK_QUERIES].astype(np.int32)
        places = np.arange(0, block_QK.size + 1, width, dtype=np.int32)
        entries = (np.ones(block_QK.size, dtype=np.float32), block_QK.ravel(), places)
        yield (
            slice(begin, begin + len(block_QK)),
            sparse.csr_matrix(entries, shape=(len(block_QK), num_items)),
        )
