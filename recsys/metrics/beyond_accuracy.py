"""Metrics of ranked lists that do not ask whether the items are relevant.

All take `item_rows_QK` ([Q, K] catalogue rows at rank 1..K, 0 where a list is shorter) and look at the
first `k`.

Legend: Q queries, K ranks of a list, I catalogue rows with the unknown item as row 0.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.integer[Any]]


def coverage(item_rows_QK: Rows, *, num_items: int, k: int) -> float:
    """Share of the catalogue that is among the first k of at least one list; more is better.

    Denominator: all items of the catalogue but the unknown one. No lists cover nothing. It belongs to the
        set of
    queries as a whole and grows with their number, so it has no value per query and no bootstrap interval
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


def novelty(item_rows_QK: Rows, *, self_information_I: NDArray[np.float64], k: int) -> NDArray[np.float64]:
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


def self_information(counts_I: NDArray[Any]) -> NDArray[np.float64]:
    """Bits told by seeing an item: -log2 of its share of all train positives.

    Every item is taken to have been seen once more than it was, so that items new since train stay finite.

    Args:
        counts_I: [I] train positives of each item; row 0, the unknown item, is passed over.

    Returns:
        [I] float64, 0 for row 0.
    """
    seen_I = counts_I[1:] + 1.0
    return np.concatenate([[0.0], -np.log2(seen_I / seen_I.sum())])
