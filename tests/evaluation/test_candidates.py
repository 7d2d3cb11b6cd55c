"""Which items are ranked and which queries ask for one of them."""

import dataclasses

import numpy as np
import pytest

from recsys.evaluation.candidates import candidate_mask, restricted
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.questions import EvaluatedModel, RetrievalQuestions
from recsys.evaluation.station import EvaluatedRun
from recsys.report.systems import counted
from tests.evaluation.conftest import Oracle

OPTIONS = EvaluationOptions(
    k=(3, 5), resamples=20, num_examples=0, latency_requests=0, ease_l2=(100.0,), knn_neighbours=(5,)
)


@pytest.mark.parametrize(("candidates", "is_known"), [("known", True), ("new", False)])
def test_candidates_by_train_positives(rated, candidates, is_known):
    mask = candidate_mask(rated, dataclasses.replace(OPTIONS, candidates=candidates))
    counts = rated.item_counts.numpy()
    assert 0 < mask.sum() < len(mask) - 1
    assert ((counts > 0) == is_known)[1:].tolist() == mask[1:].tolist()
    assert not mask[0]


def test_queries_keep_the_relevant_items_that_are_candidates(rated):
    queries = rated.queries("test", mode="user")
    mask = np.zeros(rated.num_items, dtype=bool)
    mask[3:9] = True
    kept = restricted(queries, mask)
    expected = {
        user: [row for row in rows if 3 <= row < 9]
        for user, rows in zip(queries.user_ids, queries.relevant.lists(), strict=True)
    }
    found = dict(zip(kept.user_ids, kept.relevant.lists(), strict=True))
    assert 0 < len(found) <= len(expected)
    assert found == {user: rows for user, rows in expected.items() if rows}


def test_candidates_of_a_file(rated, tmp_path):
    (tmp_path / "shown.csv").write_text("item_id\ni03\ni05\n")
    mask = candidate_mask(rated, dataclasses.replace(OPTIONS, candidates=str(tmp_path / "shown.csv")))
    assert sorted(rated.item_ids[mask]) == ["i03", "i05"]
    (tmp_path / "shown.csv").write_text("item_id\ni03\ni99\n")
    with pytest.raises(ValueError, match=r"expected items of the catalogue.*shown.csv`, found `i99`, 1 of 2"):
        candidate_mask(rated, dataclasses.replace(OPTIONS, candidates=str(tmp_path / "shown.csv")))
    with pytest.raises(ValueError, match=r"expected `all`, `new`, `known` or a Parquet.*`knwon`"):
        candidate_mask(rated, dataclasses.replace(OPTIONS, candidates="knwon"))


def test_evaluation_of_known_items_ranks_them_alone_and_says_so(rated, tmp_path, reading):
    options = dataclasses.replace(OPTIONS, candidates="known")
    model = Oracle(rated.num_items)
    path = evaluate(EvaluatedModel(model, rated, "retrieval", 50), options, run=EvaluatedRun(tmp_path))
    results, lists = reading(path)
    known = set(rated.item_ids[1:][rated.item_counts.numpy()[1:] > 0])
    assert set(lists["item_id"].to_pylist()) <= known
    assert results["counts"]["candidates"] == len(known) < results["counts"]["catalogue"]
    assert results["protocol"]["candidates"].startswith("the items of the catalogue that have a positive in")
    assert f"{len(known)} candidates (the items of the catalogue that have a positive" in counted(results)


def test_drawn_queries_are_the_same_each_time_and_the_report_says_so(rated, tmp_path, reading):
    options = dataclasses.replace(OPTIONS, max_queries=9)
    first, second = (RetrievalQuestions.of(rated, options, history_length=50) for _ in range(2))
    asked, number, again = first.queries, first.num_all, second.queries
    assert (len(asked), number) == (9, len(rated.queries("test")))
    assert asked.timestamps_us.tolist() == again.timestamps_us.tolist() == sorted(asked.timestamps_us)
    path = evaluate(
        EvaluatedModel(Oracle(rated.num_items), rated, "retrieval", 50), options, run=EvaluatedRun(tmp_path)
    )
    results, _ = reading(path)
    assert (results["counts"]["queries"], results["counts"]["queries_of_the_split"]) == (9, number)
    assert f"9 of the {number} queries of the test split were drawn" in " ".join(results["warnings"])
    assert "were drawn at random" in (path / "report.html").read_text()


@pytest.mark.parametrize(("limit", "expected"), [("auto", 10_000), (500, 500), (None, None)])
def test_largest_number_of_queries(limit, expected):
    from recsys.data.queries import queries_within

    assert queries_within(limit, num_items=100_000, auto_scores=1e9) == expected
