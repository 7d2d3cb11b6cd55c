"""Baselines of content against closed forms and dense arithmetic."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge

from recsys.evaluation.baselines import fit_baseline
from recsys.evaluation.content_baselines import (
    ProductWeights,
    content_knn,
    content_matrix,
    content_ridge,
    ridge,
)
from recsys.evaluation.options import EvaluationOptions
from tests.worlds import SCHEMA, SIZE, checkerboard


def drawn(*shape, density=0.3):
    dense = np.random.default_rng(0).random(shape).astype(np.float32)
    return sparse.csr_matrix(np.where(dense < density, dense, 0))


def test_ridge_is_the_closed_form():
    inputs, targets = drawn(30, 12), np.random.default_rng(1).random((30, 3)).astype(np.float32)
    expected = Ridge(alpha=1.0, fit_intercept=False).fit(inputs.toarray(), targets).coef_.T
    assert ridge(inputs, targets, l2=1.0) == pytest.approx(expected, abs=1e-4)


def test_products_multiply_as_the_dense_matrix_does():
    sparse_part, dense_part = drawn(8, 5), np.random.default_rng(2).random((8, 3)).astype(np.float32)
    weights = 2.0 * (
        ProductWeights(((1.0, sparse_part, sparse_part),)) + ProductWeights(((0.5, dense_part, dense_part),))
    )
    asked = drawn(4, 8)
    dense = 2 * (sparse_part.toarray() @ sparse_part.toarray().T) + dense_part @ dense_part.T
    assert weights.shape == (8, 8)
    assert asked @ weights == pytest.approx(asked.toarray() @ dense, abs=1e-5)


def test_content_is_tf_idf_of_the_tags_at_unit_length():
    dataset = SimpleNamespace(schema=SCHEMA, items=checkerboard().catalogue)
    found = content_matrix(dataset).toarray()
    bags = [[] if i == 0 else [1 + i % 3] if i % 5 else [1, 2, 3] for i in range(SIZE + 1)]
    idf = [np.log((1 + SIZE) / (1 + sum(tag in bag for bag in bags))) + 1 for tag in range(4)]
    expected = np.array([[idf[tag] * (tag in bag) for tag in range(4)] for bag in bags])
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    assert found == pytest.approx(expected / np.where(lengths > 0, lengths, 1), abs=1e-6)


def test_content_alone_finds_a_new_item():
    # Items 0 to 3 share a word, 4 to 7 another; nobody has had items 3 and 7.
    content = sparse.csr_matrix(np.repeat(np.eye(2, dtype=np.float32), 4, axis=0))
    liked = np.zeros((20, 8), np.float32)
    for user in range(20):
        liked[user, [0, 1, 2] if user % 2 else [4, 5, 6]] = 1
    history = sparse.csr_matrix(liked[1:2])
    for weights in (content_knn(content), content_ridge(content, sparse.csr_matrix(liked))):
        scores = history @ weights
        assert scores[0, 3] > scores[0, 7] + 0.1


def test_items_without_words_have_no_baselines_of_content(rated, clicked):
    options = EvaluationOptions()
    found = [fit_baseline(name, clicked, options) for name in ("content_knn", "content_sum")]
    assert found == ["the items have no text and no tags"] * 2


@pytest.mark.parametrize("num_words", [3, 40])
def test_products_are_the_same_whether_words_are_fewer_than_items_or_more(num_words):
    generator = np.random.default_rng(0)
    left, right = (sparse.random(12, num_words, 0.4, "csr", np.float32, generator) for _ in range(2))
    histories = sparse.random(5, 12, 0.3, "csr", np.float32, generator)
    own = sparse.diags(np.arange(12, dtype=np.float32), format="csr")
    weights = ProductWeights(((2.0, left, right), (-1.0, own, sparse.identity(12, np.float32, "dia"))))
    expected = histories.toarray() @ (2 * left.toarray() @ right.toarray().T - own.toarray())
    assert (histories @ weights) == pytest.approx(expected, abs=1e-5)
