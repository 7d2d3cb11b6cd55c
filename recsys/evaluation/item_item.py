"""EASE as a matrix of items by items, and scoring histories with such matrices.

Legend: U users, I catalogue, B queries of a block, V values of a jagged field.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from recsys.schema.jagged import JaggedColumn


def ease_weights(gram_II: npt.NDArray[np.float32], *, l2: float) -> npt.NDArray[np.float32]:
    """The item-item weights that best rebuild every user's row from the rest of it.

    Formula: B = argmin |X - X B|^2 + l2 |B|^2 with diag(B) = 0, which is -P_ij / P_jj off the diagonal for
    P = (X'X + l2 I)^-1.

    Args:
        gram_II: [I, I] float32, X'X of the users' 0/1 rows; left as it is.
        l2: regularisation; 100 to 1000 works.

    Returns:
        [I, I] float32, 0 on the diagonal.

    Reference:
        Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, arXiv 1905.03375, equation 8.
    """
    regular_II = torch.from_numpy(gram_II).clone()
    regular_II.diagonal().add_(l2)
    inverse_II = torch.cholesky_inverse(torch.linalg.cholesky(regular_II))
    weights_II = inverse_II / -inverse_II.diagonal()
    weights_II.fill_diagonal_(0)
    return weights_II.numpy()


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
    scores_BI = added_rows(query_V[added_V], items_V[added_V], weights_II, num_queries=len(lengths_B))
    ends = np.flatnonzero(np.append(~continues_B[1:], True)) + 1
    for begin, end in zip(np.flatnonzero(~continues_B), ends, strict=True):
        np.cumsum(scores_BI[begin:end], axis=0, out=scores_BI[begin:end])
    return scores_BI


def added_rows(
    query_V: npt.NDArray[np.int64], items_V: npt.NDArray[np.int64], weights_II: Any, *, num_queries: int
) -> npt.NDArray[np.float32]:
    """[B, I] sums of the weights' rows of each query's items; dense ones several times faster than SciPy."""
    if sparse.issparse(weights_II):
        entries = (np.ones(len(items_V), np.float32), (query_V, items_V))
        added_BI = sparse.csr_matrix(entries, shape=(num_queries, weights_II.shape[0])) @ weights_II
        return np.asarray(added_BI.toarray())
    order = np.lexsort((items_V, query_V))
    offsets = np.searchsorted(query_V[order], np.arange(num_queries))
    sums_BI = torch.nn.functional.embedding_bag(
        torch.from_numpy(items_V[order]), torch.from_numpy(weights_II), torch.from_numpy(offsets), mode="sum"
    )
    return np.asarray(sums_BI.numpy())
