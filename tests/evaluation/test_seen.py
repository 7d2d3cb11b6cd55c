"""`evaluation.seen`: whether what a user had before may be recommended again, checked by hand on a tiny shop.

    train        u: a, b    v: a, c    w: c    x: c          so that c, a, b is the order of popularity
    validation   x: c
    test         u: a       v: b       w: z    u: b          z is outside the catalogue

Of the four test queries two ask for an item of their history, one for an item that is not there.
"""

import json

import pandas as pd
import pytest
import torch

import recsys
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.baselines import fit_baseline
from recsys.evaluation.diagnosis import diagnose
from recsys.evaluation.evaluate import evaluate_lists
from recsys.evaluation.external import read_lists
from recsys.evaluation.misses import head_misses, missed_pairs
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.questions import RetrievalQuestions
from recsys.evaluation.recommendations import Lists
from recsys.evaluation.station import EvaluatedRun
from tests.data.preparing import prepared

BOUGHT = [
    *(("u", "a", 10, "train"), ("v", "a", 15, "train"), ("u", "b", 20, "train"), ("v", "c", 25, "train")),
    *(("w", "c", 30, "train"), ("x", "c", 31, "train"), ("x", "c", 50, "validation")),
    *(("u", "a", 100, "test"), ("v", "b", 110, "test"), ("w", "z", 120, "test"), ("u", "b", 130, "test")),
]


def bought(start=0):
    names = ("user_id", "item_id", "timestamp", "part")
    return {name: [row[place] for row in BOUGHT] for place, name in enumerate(names)} | {
        "timestamp": [start + row[2] for row in BOUGHT]
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    return PreparedDataset.open(prepared(folder, bought(), columns={"split": "part"}, split="predefined"))


def titles(dataset, lists):
    return [[dataset.item_ids[row] for row in rows if row] for rows in lists.item_rows]


@pytest.mark.parametrize(
    ("mode", "seen", "expected"),
    [
        # u's a, u's b and w's z; with `keep` only w's z
        ("event", "exclude", (3, 2, 1)),
        ("event", "keep", (1, 0, 1)),
        # u is asked once, for a and b
        ("user", "exclude", (2, 2, 1)),
        ("user", "keep", (1, 0, 1)),
    ],
)
def test_queries_that_no_list_can_answer_are_counted(dataset, mode, seen, expected):
    counts = dataset.queries("test", mode=mode, seen=seen).unreachable
    names = ("queries", "answers_in_history", "answers_outside_catalogue")
    assert counts == dict(zip(names, expected, strict=True))


def test_kept_items_are_not_masked_in_batches(dataset):
    everything = torch.arange(4)
    assert dataset.queries("test").batch(everything).seen.lengths.tolist() == [2, 2, 1, 3]
    for events_read in (None, "positives"):
        kept = dataset.queries("test", seen="keep", events_read=events_read).batch(everything)
        assert kept.seen.lengths.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [("exclude", [["c"], ["b"], ["a", "b"], ["c"]]), ("keep", [["c", "a", "b"]] * 4)],
)
def test_popularity_recommends_again_what_is_kept(dataset, seen, expected):
    popularity = fit_baseline("popularity", dataset, EvaluationOptions(k=(3,), seen=seen))
    assert titles(dataset, popularity.recommend(dataset.queries("test", seen=seen), 3)) == expected


@pytest.mark.parametrize("name", ["item_knn", "ease"])
def test_other_baselines_recommend_again_what_is_kept(dataset, name):
    fitted = fit_baseline(name, dataset, EvaluationOptions(k=(3,), seen="keep"))
    lists = titles(dataset, fitted.recommend(dataset.queries("test", seen="keep"), 3))
    assert [sorted(items) for items in lists] == [["a", "b", "c"]] * 4


@pytest.mark.parametrize(("seen", "expected"), [("exclude", ["c"]), ("keep", ["a", "c", "b"])])
def test_lists_of_others_keep_what_is_kept(dataset, tmp_path, seen, expected):
    rows = [("u", rank, item) for rank, item in enumerate("acb", start=1)]
    pd.DataFrame(rows, columns=["user_id", "rank", "item_id"]).to_csv(tmp_path / "lists.csv", index=False)
    queries = dataset.queries("test", seen=seen)
    lists, findings = read_lists(tmp_path / "lists.csv", dataset, queries, k=3)
    assert titles(dataset, lists)[0] == expected
    assert ("seen items" in {finding["problem"] for finding in findings}) is (seen == "exclude")


@pytest.mark.parametrize(("seen", "expected"), [("exclude", []), ("keep", [0])])
def test_kept_item_that_is_missed_is_shown_among_the_misses(dataset, seen, expected):
    # x is asked for c, the most popular item, which x had before.
    queries = dataset.queries("validation", seen=seen)
    pairs = missed_pairs(queries, Lists.empty(1, 3))
    assert [miss.query for miss in head_misses(dataset, queries, pairs, num_misses=3)] == expected


def judged(dataset, folder, seen):
    options = EvaluationOptions(k=(3,), seen=seen, baselines=("popularity",), resamples=0, num_examples=0)
    questions = RetrievalQuestions.of(dataset, options, history_length=5)
    lists = fit_baseline("popularity", dataset, options).recommend(questions.queries, 3)
    path = evaluate_lists(lists, questions, run=EvaluatedRun(folder))
    return json.loads((path / "metrics.json").read_text()), (path / "report.html").read_text()


@pytest.mark.parametrize(
    # With `exclude` v's b alone is found, first of all. With `keep` u's a is second, v's b and u's b third.
    ("seen", "hit_rate", "mrr"),
    [("exclude", 1 / 4, 1 / 4), ("keep", 3 / 4, (1 / 2 + 1 / 3 + 1 / 3) / 4)],
)
def test_evaluation_judges_by_the_rule_and_says_it(dataset, tmp_path, seen, hit_rate, mrr):
    results, page = judged(dataset, tmp_path, seen)
    assert results["metrics"]["hit_rate@3"] == pytest.approx(hit_rate)
    assert results["metrics"]["mrr@3"] == pytest.approx(mrr)
    assert results["baselines"]["popularity"]["metrics"]["mrr@3"] == pytest.approx(mrr)
    assert results["protocol"]["seen"] == seen
    counted = results["protocol"]["cannot_be_hit"]
    assert counted["answers_in_history"] == {"exclude": 2, "keep": 0}[seen]
    assert ("2 are in the history of their query, which no list holds" in page) is (seen == "exclude")
    findings = {finding["rule"]: finding for finding in diagnose(results)}
    assert ("excluded_repeats" in findings) is (seen == "exclude")
    if seen == "exclude":
        assert findings["excluded_repeats"]["finding"].startswith("50% of what is asked for")
        assert findings["excluded_repeats"]["command"].endswith("evaluation.seen=keep")


@pytest.fixture(scope="module", params=["exclude", "keep"])
def run(request, tmp_path_factory):
    return request.param, recsys.train(
        interactions=pd.DataFrame(bought(1_700_000_000)),
        run_dir=tmp_path_factory.mktemp("runs") / "run",
        overrides={
            "model": "popularity",
            "trainer.projector_items": 0,
            "data.split": "predefined",
            "data.interactions.columns.split": "part",
            "data.cache_dir": str(tmp_path_factory.mktemp("cache")),
            "evaluation.seen": request.param,
            "evaluation.k": [3],
        },
    )


def test_training_validates_by_the_rule(run):
    # x is asked for c, the most popular item, which x had before.
    seen, trained = run
    assert trained.metrics["validation"]["ndcg@10"] == {"exclude": 0.0, "keep": 1.0}[seen]
    assert trained.metrics["test"]["hit_rate@3"] == pytest.approx({"exclude": 1 / 4, "keep": 3 / 4}[seen])


def test_run_and_its_bundle_recommend_by_the_rule(run):
    seen, trained = run
    expected = {"exclude": ["c"], "keep": ["c", "a", "b"]}[seen]
    assert trained.recommend(["u"], 3)["item_id"].tolist() == expected
    bundle = trained.export()
    assert bundle.manifest["seen"] == seen
    assert bundle.excludes_history is (seen == "exclude")
    assert bundle.recommend({"user_id": "u"}, ["a", "b"], 3)[0] == expected
