"""Approximate search against exact scores computed here."""

import sys

import numpy as np
import pytest
import torch

from recsys.retrieval import ann

NOTHING = torch.zeros(0, dtype=torch.int64)
K = 20


@pytest.fixture(scope="module")
def vectors():
    """A catalogue of three thousand whose row 0 would beat all others."""
    catalogue = torch.randn(3001, 16, generator=torch.Generator().manual_seed(1))
    catalogue[0] = 100.0
    return catalogue


@pytest.fixture(scope="module")
def queries():
    return torch.randn(40, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module", params=["hnsw", "ivf_sq8"])
def index(request, vectors, queries):
    found = ann.build(vectors, request.param, k=K)
    found.reached = ann.settle(found, vectors, queries, [NOTHING] * len(queries), min_recall=0.995)
    return found


def best_rows(vectors, query, k, allowed=None):
    scores = vectors.double().numpy() @ query.double().numpy()
    scores[0] = -np.inf
    if allowed is not None:
        scores[~allowed.numpy()] = -np.inf
    return set(np.argsort(-scores)[:k].tolist())


def test_settings_are_raised_until_enough_is_found(index, vectors, queries):
    hits = 0
    for query in queries:
        rows = index.near(query, K, excluded=NOTHING)
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert 0 not in rows
        hits += len(best_rows(vectors, query, K) & set(rows.tolist()))
    assert hits / (K * len(queries)) == pytest.approx(index.reached, abs=0.002)
    assert index.reached >= 0.995
    assert index.settings != ann.build(vectors, index.kind, k=K).settings


def test_settings_hold_for_other_queries_than_they_were_chosen_on(vectors):
    draws = torch.Generator().manual_seed(5)
    chosen_on, others = torch.randn(12, 16, generator=draws), torch.randn(400, 16, generator=draws)
    index = ann.build(vectors, "ivf_sq8", k=K)
    reached = ann.settle(index, vectors, chosen_on, [NOTHING] * 12, min_recall=0.9)
    hits = [
        len(best_rows(vectors, query, K) & set(index.near(query, K, excluded=NOTHING).tolist()))
        for query in others
    ]
    assert sum(hits) / (K * 400) >= 0.9
    assert 0.9 < reached < 1


def test_the_best_few_may_be_asked_for_among_more_rows(vectors, queries):
    index = ann.build(vectors, "hnsw", k=10 * K)
    reached = ann.settle(index, vectors, queries, [NOTHING] * len(queries), min_recall=0.995, at=K)
    hits = sum(
        len(best_rows(vectors, query, K) & set(index.near(query, 10 * K, excluded=NOTHING).tolist()))
        for query in queries
    )
    assert hits / (K * len(queries)) == pytest.approx(reached, abs=0.002)
    assert reached >= 0.995
    # Of all rows of a search it finds fewer, with these settings.
    best = ann.best_scores(vectors, queries, [NOTHING] * len(queries), k=10 * K)
    assert ann.recall(index, vectors, queries, [NOTHING] * len(queries), best_BK=best) < reached


def test_what_cannot_be_found_is_not_said_to_be(vectors, queries):
    coarse = ann.build(vectors, "ivf_sq8", k=K)
    coarse.settings = {"num_probes": 1}
    best = ann.best_scores(vectors, queries, [NOTHING] * len(queries), k=K)
    found = ann.recall(coarse, vectors, queries, [NOTHING] * len(queries), best_BK=best)
    hits = sum(
        len(best_rows(vectors, query, K) & set(coarse.near(query, K, excluded=NOTHING).tolist()))
        for query in queries[:10]
        if coarse.near(query, K, excluded=NOTHING) is not None
    )
    assert hits < 10 * K * 0.9
    assert found < 0.9


def test_excluded_rows_take_no_places(index, vectors, queries):
    for query in queries[:10]:
        gone = torch.tensor([*best_rows(vectors, query, K), 0, 5, 5])
        rows = set(index.near(query, K, excluded=gone).tolist())
        assert len(rows) >= K
        assert not rows & set(gone.tolist())
        left = best_rows(vectors, query, 2 * K) - set(gone.tolist())
        assert len(rows & left) >= 0.8 * len(left)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_only_allowed_rows_are_found_and_as_many_as_without(index, vectors, queries, share):
    allowed = torch.rand(len(vectors), generator=torch.Generator().manual_seed(3)) < share
    allowed[0] = False
    hits = 0
    for query in queries:
        gone = torch.tensor([next(iter(best_rows(vectors, query, 1, allowed)))])
        rows = index.near(query, K, excluded=gone, allowed=allowed)
        assert allowed[rows].all()
        assert int(gone) not in rows
        expected = best_rows(vectors, query, K + 1, allowed) - set(gone.tolist())
        hits += len(expected & set(rows.tolist()))
    assert hits / (K * len(queries)) >= 0.95


@pytest.mark.parametrize("left", [0, 3, 200])
def test_few_allowed_rows_are_left_to_exact_search(index, vectors, queries, left):
    allowed = torch.zeros(len(vectors), dtype=torch.bool)
    allowed[5 : 5 + left] = True
    index.time_share = 0.1
    try:
        # A share s of the rows: the index takes .1 / s of an exact search of all, exact search of them 8 s.
        assert index.near(queries[0], K, excluded=NOTHING, allowed=allowed) is None
        allowed[:] = True
        assert index.near(queries[0], K, excluded=NOTHING, allowed=allowed) is not None
    finally:
        index.time_share = 0.0


def test_a_search_that_comes_back_with_too_few_is_left_to_exact_search(vectors, queries):
    coarse = ann.build(vectors, "ivf_sq8", k=200)
    coarse.settings = {"num_probes": 1}
    # 3000 items lie in 76 lists of about forty.
    assert [coarse.near(query, 200, excluded=NOTHING) for query in queries[:5]] == [None] * 5


def test_a_list_of_nearly_everything_is_left_to_exact_search(index, queries):
    assert index.near(queries[0], 3000, excluded=NOTHING) is None
    assert index.near(queries[0], 2990, excluded=torch.arange(20)) is None


def test_rows_that_were_added_are_found(vectors, queries):
    for kind in ("hnsw", "ivf_sq8"):
        index = ann.build(vectors, kind, k=K)
        index.settings = {"ef_search": 200, "num_probes": 40}
        grown = torch.cat([vectors, 3 * queries[:2]])
        index.add(grown)
        assert index.num_items == 3002
        assert 3001 in index.near(queries[0], 1, excluded=NOTHING)
        assert 3002 in index.near(queries[1], 1, excluded=NOTHING)
        index.add(grown)
        assert index.num_items == 3002


def test_a_saved_index_finds_the_same(index, queries, tmp_path):
    index.save(tmp_path / "index.faiss")
    loaded = ann.load(tmp_path / "index.faiss", index.kind, k=K, settings=index.settings, time_share=0.0)
    for query in queries[:5]:
        asked = query, K
        assert torch.equal(loaded.near(*asked, excluded=NOTHING), index.near(*asked, excluded=NOTHING))


def test_of_items_that_score_alike_any_will_do(queries):
    same = torch.ones(2001, 16)
    index = ann.build(same, "hnsw", k=K)
    queries = queries[:3].abs()
    assert ann.settle(index, same, queries, [NOTHING] * 3, min_recall=1.0) == 1.0


def test_an_index_of_lists_needs_items_to_learn_from(vectors):
    with pytest.raises(ValueError, match="`ivf_sq8` needs at least 39 items to learn from, got 30"):
        ann.build(vectors[:31], "ivf_sq8", k=K)


def test_without_faiss_the_error_says_how_to_install_it(monkeypatch, vectors):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match=r"needs FAISS, which can't be imported .*`pip install faiss-cpu`"):
        ann.build(vectors, "hnsw", k=K)
