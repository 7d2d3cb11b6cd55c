"""Measures how exposure is shared out over the items of the catalogue, and how lists differ between users.

These belong to the set of queries as a whole; they have no value per query and no bootstrap interval (a
resample holds the same lists several times, which makes every one of them look more concentrated).

    lists of three queries, k = 2      [1 2] [1 3] [1 2]      of a catalogue of 4 items
    exposure                           item 1: 3, item 2: 2, item 3: 1, item 4: 0

Legend: Q queries, K ranks of a list, I catalogue rows with the unknown item as row 0, U users.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.metrics.register import metric

Rows = NDArray[np.integer[Any]]

_LORENZ_STEPS = 50


def exposure(item_rows_QK: Rows, *, num_items: int, k: int) -> NDArray[np.int64]:
    """Counts the lists that hold each item among their first k; [I], 0 for the unknown item."""
    counts_I = np.bincount(item_rows_QK[:, :k].ravel(), minlength=num_items)
    counts_I[0] = 0
    return counts_I.astype(np.int64)


@metric(better=None, label="Gini coefficient of exposure")
def gini(exposure_I: NDArray[Any]) -> float:
    """Gini coefficient of exposure over the catalogue; less is more evenly shared.

    Formula: sum_i (2 i - n - 1) x_i / (n sum_i x_i), x ascending and i from 1. Denominator: the n items of
    the catalogue, those never shown included. 0 is all items shown equally often, 1 - 1/n one item alone. NaN
    where nothing is shown.

    Args:
        exposure_I: [I] from `exposure`; row 0 is passed over.

    Example:
        >>> gini(np.array([0, 3, 2, 1, 0])).__round__(4)  # (3*3 + 1*2 - 1*1 - 3*0) / (4 * 6)
        0.4167

    Reference:
        Fleder and Hosanagar, "Blockbuster culture's next rise or fall", Management Science 2009.
    """
    ascending = np.sort(exposure_I[1:]).astype(np.float64)
    total, size = ascending.sum(), len(ascending)
    if not total:
        return float("nan")
    return float((2 * np.arange(1, size + 1) - size - 1) @ ascending / (size * total))


@metric(better=None, label="entropy of exposure")
def exposure_entropy(exposure_I: NDArray[Any]) -> float:
    """Entropy of exposure as a share of the most that the catalogue allows; more is more evenly shared.

    Formula: -sum_i p_i log p_i / log n, p the share of exposure of each item. Denominator: that of n items
    shown equally often. 0 is one item alone, 1 all equally often. NaN where nothing is shown, or with a
    catalogue of one item.

    Args:
        exposure_I: [I] from `exposure`; row 0 is passed over.

    Example:
        >>> exposure_entropy(np.array([0, 2, 2, 0, 0]))  # one bit of two
        0.5

    Reference:
        Shannon, "A mathematical theory of communication", 1948; of exposure: Patil and Taillie, "Diversity as
        a concept and its measurement", JASA 1982.
    """
    size, total = len(exposure_I) - 1, exposure_I[1:].sum()
    if size < 2 or not total:
        return float("nan")
    shares = exposure_I[1:][exposure_I[1:] > 0] / total
    return float(-(shares * np.log(shares)).sum() / np.log(size)) + 0.0


def lorenz(exposure_I: NDArray[Any]) -> list[list[float]]:
    """Lorenz curve of exposure: which share of it the least shown items get.

    Args:
        exposure_I: [I] from `exposure`; row 0 is passed over.

    Returns:
        Points [share of the catalogue, least shown items first; their share of exposure] from [0, 0] to
        [1, 1], at most 51; none where nothing is shown. On the diagonal all are shown equally often.

    Reference:
        Lorenz, "Methods of measuring the concentration of wealth", 1905.
    """
    ascending = np.sort(exposure_I[1:]).astype(np.float64)
    if not ascending.sum():
        return []
    below = np.concatenate([[0.0], np.cumsum(ascending)]) / ascending.sum()
    size = len(ascending)
    places = np.unique(np.round(np.linspace(0, size, min(size, _LORENZ_STEPS) + 1)).astype(np.int64))
    points: list[list[float]] = np.stack([places / size, below[places]], axis=1).tolist()
    return points


@metric(better=None, meaning="0: all get the same")
def personalisation(item_rows_QK: Rows, *, users_Q: Rows, num_items: int, k: int) -> float:
    """Measures how little the lists of two different users have in common; more is more personal.

    Formula: 1 - mean of |A & B| / k over all pairs of lists A, B of different users, computed exactly from
    how often each item is listed: the pairs sharing item i are n_i^2 less the sum over users of n_ui^2.
    Denominator: the pairs of lists of different users, times k. 0 is one list for everybody. NaN with a
    single user.

    Args:
        item_rows_QK: [Q, K] lists.
        users_Q: [Q] in 0 .. U - 1, whose list it is.
        num_items: I, the unknown item included.
        k: cut-off.

    Example:
        >>> lists, users = np.array([[1, 2], [1, 3], [1, 2]]), np.array([0, 0, 1])
        >>> personalisation(lists, users_Q=users, num_items=5, k=2)  # 1 of 2 and 2 of 2 are shared
        0.25

    Reference:
        Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems", PNAS 2010:
        the mean inter-list distance.
    """
    first_QK = item_rows_QK[:, :k]
    sizes_U = np.bincount(users_Q)
    pairs = len(first_QK) ** 2 - int((sizes_U**2).sum())
    if not pairs:
        return float("nan")
    items = first_QK.astype(np.int32).ravel()
    entries = (np.ones(first_QK.size, np.float32), items, np.arange(0, first_QK.size + 1, first_QK.shape[1]))
    lists_QI = sparse.csr_matrix(entries, shape=(len(first_QK), num_items))
    own = (np.ones(len(users_Q), np.float32), (users_Q, np.arange(len(users_Q))))
    own_UI = (sparse.csr_matrix(own, shape=(len(sizes_U), len(users_Q))) @ lists_QI).tocsr()
    own_UI.data[own_UI.indices == 0] = 0  # places of lists that are shorter
    counts_I = np.bincount(own_UI.indices, weights=own_UI.data, minlength=num_items)
    shared = (counts_I**2).sum() - np.square(own_UI.data, dtype=np.float64).sum()
    return float(1 - shared / (k * pairs))
