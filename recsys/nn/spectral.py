"""Singular vectors of the matrix of users and items.

Legend: U users, T rows of the item table, D vectors.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from recsys.schema.positives import TrainPositives
from recsys.schema.progress import progress

# Up to so many users or items all vectors are computed at once, exactly.
_MOST_EXACT = 3000
# Of the randomized method: vectors beyond those that are kept, and rounds; more change no third digit.
_SPARE = 32
_ROUNDS = 7


class Spectrum(NamedTuple):
    """Largest squared singular values of a matrix [U, T] and its right singular vectors, both in float64.

    Args:
        squares_D: [D], descending.
        vectors_TD: [T, D], one a column.
    """

    squares_D: torch.Tensor
    vectors_TD: torch.Tensor


def interaction_matrix(positives: TrainPositives, *, num_rows: int) -> sparse.csr_matrix:
    """1 where the user had a positive with the item, however often; [U, T], nothing in column 0."""
    users, items = positives.user_rows.numpy(), positives.item_rows.numpy()
    known = items > 0
    shape = (int(users.max(initial=0)) + 1, num_rows)
    ones = np.ones(int(known.sum()), np.float32)
    matrix_UT = sparse.csr_matrix((ones, (users[known], items[known])), shape=shape)
    matrix_UT.data[:] = 1
    return matrix_UT


def weigh_users(matrix_UT: sparse.csr_matrix, *, exponent: float) -> sparse.csr_matrix:
    """Rows times (positives of the user / their mean)^(-exponent / 2): who likes much counts less in X'X."""
    counts_U = matrix_UT.getnnz(axis=1)
    mean = counts_U[counts_U > 0].mean() if counts_U.any() else 1.0
    weights_U = (np.maximum(counts_U, 1) / mean) ** (-exponent / 2)
    return sparse.diags(weights_U.astype(np.float32)) @ matrix_UT


def spectrum_of(matrix_UT: sparse.csr_matrix, *, rank: int) -> Spectrum:
    """The `rank` largest singular values, or as many as there are, with their vectors.

    Reference:
        Halko, Martinsson and Tropp 2011, Finding structure with randomness, arXiv 0909.4061, algorithm 4.4,
        for matrices of which only a part of the vectors is wanted.
    """
    matrix_UT = matrix_UT[np.diff(matrix_UT.indptr) > 0]
    smaller = min(matrix_UT.shape)
    rank = min(rank, smaller)
    if smaller <= _MOST_EXACT or rank + _SPARE >= smaller:
        return _exact(matrix_UT, rank)
    drawn = np.random.default_rng(0).standard_normal((matrix_UT.shape[1], rank + _SPARE)).astype(np.float32)
    basis_TD = torch.linalg.qr(torch.from_numpy(drawn))[0]
    for _ in progress(range(_ROUNDS), f"finding {rank} singular values"):
        of_users_UD = torch.linalg.qr(torch.from_numpy(matrix_UT @ basis_TD.numpy()))[0]
        basis_TD = torch.linalg.qr(torch.from_numpy(matrix_UT.T @ of_users_UD.numpy()))[0]
    small_UD = torch.from_numpy(matrix_UT @ basis_TD.numpy()).double()
    squares_D, rotation_DD = torch.linalg.eigh(small_UD.T @ small_UD)
    best = torch.arange(len(squares_D) - 1, len(squares_D) - 1 - rank, -1)
    return Spectrum(squares_D[best], basis_TD.double() @ rotation_DD[:, best])


def _exact(matrix_UT: sparse.csr_matrix, rank: int) -> Spectrum:
    """By the smaller of the products of the matrix with itself."""
    by_users = matrix_UT.shape[0] < matrix_UT.shape[1]
    gram = (matrix_UT @ matrix_UT.T if by_users else matrix_UT.T @ matrix_UT).toarray()
    squares, vectors = torch.linalg.eigh(torch.from_numpy(gram).double())
    squares_D, vectors = squares.flip(0)[:rank], vectors.flip(1)[:, :rank]
    # What is zero but for rounding has no vector.
    kept = squares_D > 1e-9 * squares_D[:1].clamp(min=1e-30)
    squares_D, vectors = squares_D[kept], vectors[:, kept]
    if by_users:
        vectors = torch.from_numpy(matrix_UT.T.astype(np.float64) @ vectors.numpy()) / squares_D.sqrt()
    return Spectrum(squares_D, vectors)
