"""Baselines against brute force, scikit-learn and closed forms."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.metrics.pairwise import cosine_similarity

from recsys.data.dataset import PreparedDataset
from recsys.evaluation import baselines
from recsys.evaluation.baselines import FittedBaseline, fit_baseline, history_scores, popularity_order
from recsys.evaluation.content_baselines import ProductWeights
from recsys.evaluation.options import EvaluationOptions
from recsys.models import item_knn
from recsys.models.ease import ease_weights
from recsys.models.item_knn import item_neighbours
from recsys.nn.spectral import interaction_matrix
from recsys.retrieval.exact import top_k_of_scores
from recsys.schema.jagged import JaggedColumn
from recsys.schema.positives import TrainPositives
from tests.data.preparing import STARS, prepared
from tests.evaluation.conftest import DAY

OPTIONS = EvaluationOptions()


@pytest.fixture
def matrix():
    """40 users by 12 items, 0 or 1; item 0 and item 7 nobody has."""
    dense = (np.random.default_rng(0).random((40, 12)) < 0.3).astype(np.float32)
    dense[:, [0, 7]] = 0
    return dense


def test_popularity_sorts_by_count_then_by_row():
    assert popularity_order(np.array([3, 3, 1, 2]), num_items=5).tolist() == [1, 3, 2, 4, 0]


def test_interaction_counts_once_however_often_it_happened():
    found = interaction_matrix(TrainPositives(torch.tensor([1, 1, 2]), torch.tensor([3, 3, 1])), num_rows=4)
    assert found.toarray().tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]


@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
def test_item_knn_weights_are_the_largest_cosines_of_each_item(matrix, monkeypatch, shrinkage):
    monkeypatch.setattr(item_knn, "_BLOCK_SCORES", 12 * 5)
    neighbours = item_neighbours(sparse.csr_matrix(matrix), num_neighbours=5, shrinkage=shrinkage)
    found = neighbours.weights(3).toarray()
    norms = np.linalg.norm(matrix, axis=0)
    products = np.outer(norms, norms)
    cosines = cosine_similarity(matrix.T) * products / (products + max(shrinkage, 1e-12))
    np.fill_diagonal(cosines, 0)
    for item in range(12):
        nearest = sorted(range(12), key=lambda other, item=item: (-cosines[other, item], other))[:3]
        expected = np.zeros(12)
        expected[nearest] = cosines[nearest, item]
        assert found[:, item] == pytest.approx(expected, abs=1e-6)


def test_ease_weights_solve_each_items_ridge_regression_without_itself(matrix):
    found = ease_weights(matrix.T @ matrix, l2=3.0)
    for item in range(12):
        others = [other for other in range(12) if other != item]
        gram = matrix[:, others].T @ matrix[:, others] + 3.0 * np.eye(11)
        expected = np.linalg.solve(gram, matrix[:, others].T @ matrix[:, item])
        assert found[others, item] == pytest.approx(expected, abs=1e-4)
        assert found[item, item] == 0


@pytest.mark.parametrize("as_sparse", [True, False])
def test_history_scores_add_up_the_different_items_of_each_history(as_sparse):
    weights = np.random.default_rng(0).random((6, 6)).astype(np.float32)
    histories = [[3, 5], [3, 5, 2, 5], [3, 5, 2, 5, 1], [5, 0], [], [4]]
    found = history_scores(
        JaggedColumn.of_lists(histories),
        owners_B=np.array([7, 7, 7, 8, 9, 9]),
        weights_II=sparse.csr_matrix(weights) if as_sparse else weights,
    )
    for scores, bag in zip(found, histories, strict=True):
        expected = sum((weights[item] for item in set(bag) - {0}), np.zeros(6))
        assert scores == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["popularity", "popularity_recent", "item_knn", "ease"])
def test_lists_hold_the_best_items_outside_the_history(rated, monkeypatch, name):
    monkeypatch.setattr(baselines, "_BLOCK_SCORES", 8 * rated.num_items)
    queries = rated.queries("test")
    fitted = fit_baseline(name, rated, OPTIONS)
    assert isinstance(fitted, FittedBaseline)
    lists = fitted.recommend(queries, 6)
    for query in range(len(queries)):
        history = queries.histories.select(torch.tensor([query])).values.tolist()
        if fitted.weights is None:
            scores = fitted.constant
        else:
            weights = fitted.weights.toarray() if sparse.issparse(fitted.weights) else fitted.weights
            scores = weights[sorted(set(history) - {0})].sum(axis=0)
        allowed = [item for item in range(1, rated.num_items) if item not in history]
        listed = lists.item_rows[query].tolist()
        assert set(listed) <= set(allowed)
        best = sorted(scores[allowed], reverse=True)[:6]
        assert scores[listed] == pytest.approx(best, abs=1e-4)


def test_popularity_is_that_of_the_train_positives(rated):
    fitted = fit_baseline("popularity", rated, OPTIONS)
    counts = rated.item_counts.numpy()
    by_place = np.argsort(-fitted.constant)
    assert (np.diff(counts[by_place]) <= 0).all()


def test_recent_popularity_counts_the_last_days_of_train(rated, ratings):
    days = 10.0
    fitted = fit_baseline("popularity_recent", rated, dataclasses.replace(OPTIONS, recent_days=days))
    train = rated.split_table("train")
    end = max(train["timestamp"].to_pylist()) / 1e6
    recent = [
        item
        for item, stars, when in zip(ratings["item_id"], ratings["stars"], ratings["timestamp"], strict=True)
        if stars >= 4 and end - days * DAY < when <= end
    ]
    counts = np.array([recent.count(item_id) for item_id in rated.item_ids])
    assert counts.sum() > 20
    by_place = np.argsort(-fitted.constant)
    assert (np.diff(counts[by_place]) <= 0).all()


def test_large_catalogue_leaves_out_what_compares_all_items(rated):
    options = dataclasses.replace(OPTIONS, knn_max_items=30)
    assert isinstance(fit_baseline("item_knn", rated, options), FittedBaseline)
    reason = fit_baseline("item_knn", rated, dataclasses.replace(options, knn_max_items=29))
    assert reason.endswith("the catalogue, which has 30 items; `evaluation.knn_max_items` allows 29")


def test_ease_of_a_large_catalogue_is_a_product_with_the_same_scores(rated):
    options = dataclasses.replace(OPTIONS, ease_l2=(30.0,))
    exact = fit_baseline("ease", rated, options)
    product = fit_baseline("ease", rated, dataclasses.replace(options, ease_max_items=29))
    assert isinstance(product.weights, ProductWeights)
    identity = sparse.identity(len(exact.weights), np.float32, "csr")
    np.testing.assert_allclose(identity @ product.weights, exact.weights, atol=1e-5)


def test_recent_popularity_without_timestamps_is_left_out_with_a_reason(clicked):
    assert fit_baseline("popularity_recent", clicked, OPTIONS) == "the interactions have no timestamps"


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [("ease", "ease_l2", (1e6, 1.0, 30.0)), ("item_knn", "knn_neighbours", (1, 10, 25))],
)
def test_value_with_the_best_validation_ndcg_is_taken(rated, name, key, values):
    queries = rated.queries("validation")
    reached = {}
    for value in values:
        only = fit_baseline(name, rated, dataclasses.replace(OPTIONS, **{key: (value,)}))
        hits = only.recommend(queries, 10).item_rows == queries.relevant.values.numpy()[:, None]
        reached[value] = (hits / np.log2(np.arange(2, 12))).sum(axis=1).mean()
    assert len(set(reached.values())) == 3
    for order in itertools.permutations(values):
        options = dataclasses.replace(OPTIONS, **{key: order})
        assert fit_baseline(name, rated, options).chosen == {key: max(values, key=reached.get)}


def test_first_value_is_taken_without_validation_queries(ratings, tmp_path):
    part = ["train"] * (len(ratings["stars"]) - 20) + ["test"] * 20
    split = {"columns": {"split": "part"}, "split": "predefined"}
    dataset = PreparedDataset.open(prepared(tmp_path, {**ratings, "part": part}, label=STARS, **split))
    assert fit_baseline("ease", dataset, OPTIONS).chosen == {"ease_l2": OPTIONS.ease_l2[0]}


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("name", ["popularity", "popularity_recent"])
def test_popularity_lists_are_those_of_scoring_every_item(rated, monkeypatch, name, k):
    monkeypatch.setattr(baselines, "_WALKED", 7)
    fitted = fit_baseline(name, rated, OPTIONS)
    queries = rated.queries("test")
    found = fitted.recommend(queries, k)
    history = queries.histories.select(torch.arange(len(queries)))
    scores = torch.from_numpy(fitted.constant).expand(len(queries), -1)
    expected_scores, expected_rows = top_k_of_scores(scores, k, seen=history)
    assert found.item_rows.tolist() == expected_rows.tolist()
    assert found.scores.tolist() == expected_scores.tolist()


@pytest.mark.parametrize("name", ["popularity", "item_knn", "ease"])
def test_baselines_recommend_candidates_alone(rated, name):
    options = dataclasses.replace(OPTIONS, candidates="known", ease_l2=(100.0,), knn_neighbours=(5,))
    counts = rated.item_counts.numpy()
    assert (counts[1:] == 0).any()
    listed = fit_baseline(name, rated, options).recommend(rated.queries("test"), 30).item_rows
    assert (counts[listed[listed > 0]] > 0).all()
    assert (
        counts[fit_baseline(name, rated, OPTIONS).recommend(rated.queries("test"), 30).item_rows] == 0
    ).any()
