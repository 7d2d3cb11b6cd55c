"""Baselines of content: what a history's words and tags say of an item, new ones included.

`content_knn` adds up the cosines of the items' tf-idf vectors with those of the history. `content_ridge`
predicts an item's collaborative factors from its content by ridge regression, which it learns from the items
that people liked. `content_sum` adds both up, weighed on the validation split. They are strong: a hybrid has
to beat them.

Legend: U users, I catalogue, W words and tags of all features, D factors, B queries.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recsys.data.dataset import PreparedDataset
from recsys.nn.spectral import spectrum_of
from recsys.schema.feature_kinds import MultiIdFeature, TextFeature

_NUM_FACTORS = 64
_RIDGE = 1.0
# Steps of the conjugate gradients; the residual is below a thousandth long before.
_STEPS = 50


@dataclasses.dataclass(frozen=True)
class ProductWeights:
    """Weights [I, I] as a sum of products of narrow matrices, which a matrix [B, I] can be multiplied with.

    Args:
        parts: a factor, and matrices [I, W] whose product left right^T it stands before; a diagonal right one
            is not the first.
    """

    parts: tuple[tuple[float, Any, Any], ...]

    @property
    def shape(self) -> tuple[int, int]:
        """I and I."""
        return self.parts[0][1].shape[0], self.parts[0][2].shape[0]

    def __rmatmul__(self, matrix_BI: sparse.csr_matrix) -> npt.NDArray[np.float32]:
        scores_BI: Any = None
        for factor, left, right in self.parts:
            sums_BW = factor * (matrix_BI @ left)
            if isinstance(right, sparse.dia_matrix):  # few of a row are not 0
                own = (sums_BW @ right).tocoo()
                scores_BI[own.row, own.col] += own.data
                continue
            product_BI = _product(sums_BW, right)
            scores_BI = product_BI if scores_BI is None else np.add(scores_BI, product_BI, out=scores_BI)
        return np.asarray(scores_BI)

    def __add__(self, other: ProductWeights) -> ProductWeights:
        return ProductWeights(self.parts + other.parts)

    def __rmul__(self, factor: float) -> ProductWeights:
        return ProductWeights(tuple((factor * one, left, right) for one, left, right in self.parts))

    def scaled(self, matrix_UI: sparse.csr_matrix) -> ProductWeights:
        """These weights over the standard deviation of the scores that they give a few users."""
        scores = matrix_UI[:: max(1, matrix_UI.shape[0] // 200)] @ self
        return (1 / max(float(np.std(scores)), 1e-12)) * self


def _product(sums_BW: Any, right_IW: Any) -> npt.NDArray[np.float32]:
    """[B, I] sums times right transposed."""
    if not sparse.issparse(right_IW):
        return np.asarray(sums_BW @ right_IW.T)
    if right_IW.shape[1] > right_IW.shape[0]:  # dense sums would take more memory than the scores
        return np.asarray((sums_BW @ right_IW.T).toarray())
    return np.ascontiguousarray((right_IW @ np.ascontiguousarray(sums_BW.toarray().T)).T)


def content_matrix(dataset: PreparedDataset) -> sparse.csr_matrix | None:
    """[I, W] tf-idf vectors of the items' words and tags, of length 1; None where the items have none.

    A value of n of N items weighs ln((1 + N) / (1 + n)) + 1; features count alike.
    """
    names = [f.name for f in dataset.schema.sparse(["item"]) if isinstance(f, TextFeature | MultiIdFeature)]
    parts = [_tf_idf(dataset, name) for name in names]
    if not parts or not any(part.nnz for part in parts):
        return None
    return _unit(sparse.hstack(parts, format="csr"))


def _tf_idf(dataset: PreparedDataset, name: str) -> sparse.csr_matrix:
    column = dataset.items.ids[name]
    values, lengths = column.values().numpy(), column.lengths().numpy()
    shape = (len(lengths), dataset.schema[name].num_rows)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    matrix = sparse.csr_matrix((np.ones(len(values), np.float32), (rows, values)), shape=shape)
    matrix.data[:] = 1
    num_items = np.bincount(matrix.indices, minlength=shape[1])
    idf = np.log((1 + shape[0] - 1) / (1 + num_items)) + 1
    return _unit((matrix @ sparse.diags(idf.astype(np.float32))).tocsr())


def _unit(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (sparse.diags((1 / np.where(lengths > 0, lengths, 1)).astype(np.float32)) @ matrix).tocsr()


def content_knn(content_IW: sparse.csr_matrix) -> ProductWeights:
    """Cosines of the items' contents."""
    return ProductWeights(((1.0, content_IW, content_IW),))


def content_ridge(content_IW: sparse.csr_matrix, matrix_UI: sparse.csr_matrix) -> ProductWeights:
    """Collaborative factors of the history times those that content predicts.

    Args:
        content_IW: see `content_matrix`.
        matrix_UI: 1 where a user likes an item.
    """
    counts_I = np.asarray(matrix_UI.sum(axis=0)).ravel()
    scale_I = (1 / np.sqrt(np.maximum(counts_I, 1))).astype(np.float32)
    squares_D, vectors_ID = spectrum_of((matrix_UI @ sparse.diags(scale_I)).tocsr(), rank=_NUM_FACTORS)
    factors_ID = (vectors_ID * squares_D.sqrt()).numpy().astype(np.float32)
    is_known_I = counts_I > 0
    weights_WD = ridge(content_IW[is_known_I], factors_ID[is_known_I])
    left_ID = (scale_I[:, None] * vectors_ID.numpy()).astype(np.float32)
    return ProductWeights(((1.0, left_ID, np.asarray(content_IW @ weights_WD)),))


def ridge(
    inputs_NW: sparse.csr_matrix, targets_ND: npt.NDArray[np.float32], *, l2: float = _RIDGE
) -> npt.NDArray[np.float32]:
    """argmin_X |inputs X - targets|^2 + l2 |X|^2 by conjugate gradients, all columns beside one another."""
    right_WD = np.asarray(inputs_NW.T @ targets_ND, dtype=np.float32)
    found_WD = np.zeros_like(right_WD)
    residual_WD, direction_WD = right_WD.copy(), right_WD.copy()
    squares_D = (residual_WD**2).sum(axis=0)
    for _ in range(_STEPS):
        moved_WD = inputs_NW.T @ (inputs_NW @ direction_WD) + l2 * direction_WD
        step_D = squares_D / np.maximum((direction_WD * moved_WD).sum(axis=0), 1e-30)
        found_WD += step_D * direction_WD
        residual_WD -= step_D * moved_WD
        new_D = (residual_WD**2).sum(axis=0)
        if new_D.max(initial=0) < 1e-8:
            break
        direction_WD = residual_WD + (new_D / np.maximum(squares_D, 1e-30)) * direction_WD
        squares_D = new_D
    return found_WD
