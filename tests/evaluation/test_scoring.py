"""SystemScores figures and slices against arithmetic on the same lists, and the plain data made of them."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.predictions import baseline_probabilities
from recsys.evaluation.recommendations import Lists, recommend
from recsys.evaluation.results import results_of
from recsys.evaluation.scoring import ListScorer, RowScorer
from recsys.evaluation.slices import ITEM_CLASSES, item_classes
from recsys.metrics.classification import auc, calibration_error, gauc, log_loss

OPTIONS = EvaluationOptions(k=(1, 5), resamples=100, hot_history=10)
SHOWN = dataclasses.replace(OPTIONS, impressions=True)


@pytest.fixture
def lists(rated):
    """Random lists of five different items for every test query of `rated`."""
    rng = np.random.default_rng(0)
    num_queries = len(rated.queries("test"))
    rows = np.stack([1 + rng.permutation(rated.num_items - 1)[:5] for _ in range(num_queries)])
    return Lists(item_rows=rows, scores=np.zeros(rows.shape, dtype=np.float32))


def queries_of(dataset):
    queries = dataset.queries("test")
    relevant = queries.relevant.values.tolist()
    assert len(relevant) == len(queries)  # one each: every positive event is a query
    return queries, relevant


def test_figures_are_means_over_queries(rated, lists):
    queries, relevant = queries_of(rated)
    scores = ListScorer(rated, queries, OPTIONS).score(lists)
    hits = [item in ranked for item, ranked in zip(relevant, lists.item_rows.tolist(), strict=True)]
    assert 0 < sum(hits) < len(hits)
    assert scores.figures.values["hit_rate@5"] == pytest.approx(np.mean(hits))
    assert scores.values["recall@5"].tolist() == [float(hit) for hit in hits]
    assert scores.figures.values["coverage@5"] == len(np.unique(lists.item_rows)) / (rated.num_items - 1)


def test_slices_of_users_and_items_are_means_over_their_queries(rated, lists):
    queries, relevant = queries_of(rated)
    scorer = ListScorer(rated, queries, OPTIONS)
    scores = scorer.score(lists)
    lengths = queries.histories.lengths.numpy()
    classes = item_classes(rated.item_counts.numpy())[relevant]
    hits = np.array([item in ranked for item, ranked in zip(relevant, lists.item_rows.tolist(), strict=True)])
    found = {
        (s.group, s.name): figures.values["hit_rate@5"]
        for s, figures in zip(scorer.slices, scores.slices, strict=True)
    }
    assert found["user", "hot"] == pytest.approx(hits[lengths >= 10].mean())
    assert found["user", "warm"] == pytest.approx(hits[(lengths > 0) & (lengths < 10)].mean())
    for number, name in enumerate(ITEM_CLASSES):
        if (classes == number).any():
            assert found["item", name] == pytest.approx(hits[classes == number].mean())
    assert {group for group, _ in found} == {"user", "item", "history_length", "days_since_train"}


def test_relevant_items_of_other_classes_do_not_count_in_an_item_slice(clicked):
    queries = clicked.queries("test")
    assert max(queries.relevant.lengths.tolist()) > 1
    scorer = ListScorer(clicked, queries, OPTIONS)
    classes_I = item_classes(clicked.item_counts.numpy())
    rows = np.zeros((len(queries), 5), dtype=np.int64)
    heads = np.flatnonzero(classes_I == ITEM_CLASSES.index("head"))[:5]
    rows[:, : len(heads)] = heads
    scores = scorer.score(Lists(item_rows=rows, scores=rows.astype(np.float32)))
    found = {
        s.name: figures.values
        for s, figures in zip(scorer.slices, scores.slices, strict=True)
        if s.group == "item"
    }
    recalls = []
    for query in range(len(queries)):
        relevant = queries.relevant.select(torch.tensor([query])).values.tolist()
        wanted = {item for item in relevant if classes_I[item] == ITEM_CLASSES.index("head")}
        if wanted:
            recalls.append(len(wanted & set(heads.tolist())) / len(wanted))
    assert found["head"]["recall@5"] == pytest.approx(np.mean(recalls))
    assert found["tail"]["recall@5"] == 0


def test_oracle_reaches_one_wherever_the_answer_may_be_recommended(rated, oracle):
    queries, relevant = queries_of(rated)
    scores = ListScorer(rated, queries, OPTIONS).score(recommend(oracle, rated, queries, k=5, batch_size=32))
    again = [
        item in queries.histories.select(torch.tensor([query])).values.tolist()
        for query, item in enumerate(relevant)
    ]
    assert 0 < sum(again) < len(again) / 2
    assert scores.values["ndcg@1"].tolist() == [0.0 if seen else 1.0 for seen in again]


def test_ranking_figures_are_those_of_the_metrics(rated):
    events = rated.events("test")
    probabilities = baseline_probabilities(rated, events, num_negatives=0)["user_and_item_rate"]
    scorer = RowScorer(rated, events, OPTIONS)
    scores = scorer.score(probabilities)
    labels, users = events.positives.numpy().astype(int), events.history_rows.numpy()
    observed = labels.mean()
    entropy = -observed * math.log(observed) - (1 - observed) * math.log(1 - observed)
    assert scores.figures.values == pytest.approx(
        {
            "auc": auc(labels, probabilities),
            "gauc": gauc(labels, probabilities, users),
            "pr_auc": average_precision_score(labels, probabilities),
            "log_loss": log_loss(labels, probabilities),
            "normalised_entropy": log_loss(labels, probabilities) / entropy,
            "calibration_error": calibration_error(labels, probabilities, num_bins=10),
            "predicted_over_observed": probabilities.sum() / labels.sum(),
        }
    )
    assert scores.figures.samples.keys() == scores.figures.values.keys()
    lengths = rated.histories("test").before(events).lengths.numpy()
    hot = lengths >= 10
    found = {s.name: figures for s, figures in zip(scorer.slices, scores.slices, strict=True)}
    assert found["hot"].values["auc"] == pytest.approx(auc(labels[hot], probabilities[hot]))
    low, high = scorer.bootstrap.interval(scores.figures.samples["gauc"])
    assert low < scores.figures.values["gauc"] < high


def test_rows_of_one_user_and_instant_are_an_impression_when_asked(rated):
    events = rated.events("test")
    week = 7 * 86_400_000_000
    events = dataclasses.replace(events, timestamps=events.timestamps // week * week)
    probabilities = baseline_probabilities(rated, events, num_negatives=0)["user_and_item_rate"]
    scorer = RowScorer(rated, events, SHOWN)
    figures = scorer.score(probabilities).figures
    labels = events.positives.numpy().astype(int)
    shown = list(zip(events.history_rows.tolist(), events.timestamps.tolist(), strict=True))
    areas = []
    for one in sorted(set(shown)):
        mine = np.array([other == one for other in shown])
        if 0 < labels[mine].mean() < 1:
            areas.append(auc(labels[mine], probabilities[mine]))
    assert 5 < len(areas) < len(set(shown))
    assert figures.values["impression_auc"] == pytest.approx(np.mean(areas))
    wanted = {"impression_auc", "impression_mrr", "impression_ndcg@5", "impression_ndcg@10"}
    assert wanted <= figures.samples.keys() & figures.values.keys()
    low, high = scorer.bootstrap.interval(figures.samples["impression_mrr"])
    assert low < figures.values["impression_mrr"] < high
    # Where nothing was clicked there is nothing to tell, and nothing is told.
    nothing = RowScorer(rated, events.replace(positives=events.positives & False), SHOWN)
    assert not wanted & nothing.score(probabilities).figures.values.keys()


def test_impressions_without_timestamps_are_refused(clicked):
    events = clicked.events("test")
    with pytest.raises(ValueError, match=r"`evaluation.impressions=true`: .*the data have no timestamps"):
        RowScorer(clicked, events, SHOWN)


def test_rows_of_one_class_have_no_auc_and_null_in_the_results(clicked):
    events = clicked.events("test")
    scorer = RowScorer(clicked, events, OPTIONS)
    scores = scorer.score(np.full(len(events), 0.5))
    assert set(scores.figures.values) == {"log_loss", "calibration_error", "predicted_over_observed"}
    results = results_of(scorer, scores, {}, main_metric="auc", small_slice=5)
    assert results["main_metric"] == "log_loss"


def make_results(rated, answers, baselines, **changes):
    """Results of retrieval where each system hits the queries from one position to another at rank 1."""
    queries, relevant = queries_of(rated)
    scorer = ListScorer(rated, queries, EvaluationOptions(**({"k": (5,), "resamples": 200} | changes)))

    def lists(begin, end):
        rows = np.zeros((len(relevant), 5), dtype=np.int64)
        rows[begin:end, 0] = relevant[begin:end]
        return Lists(item_rows=rows, scores=rows.astype(np.float32))

    scores = {
        name: hit if isinstance(hit, str) else scorer.score(lists(*hit)) for name, hit in baselines.items()
    }
    return results_of(scorer, scorer.score(lists(*answers)), scores, main_metric="ndcg@5", small_slice=10)


@pytest.mark.parametrize(
    ("answers", "baseline", "outcome", "beginning"),
    [
        (
            (0, 60),
            (0, 5),
            "better",
            "Better than the baselines asked, popularity (all time) and EASE (not popularity (recent) or "
            "item-kNN): NDCG@5 is",
        ),
        ((0, 5), (0, 60), "worse", "Worse than EASE: NDCG@5 is"),
        ((0, 20), (10, 30), "undecided", "Not told apart from the best baseline: NDCG@5 is"),
    ],
)
def test_verdict_follows_the_paired_interval_against_the_best_baseline(
    rated, answers, baseline, outcome, beginning
):
    results = make_results(rated, answers, {"popularity": (0, 1), "ease": baseline, "item_knn": "too large"})
    assert results["verdict"]["outcome"] == outcome
    assert results["verdict"]["against"] == "ease"
    assert results["verdict"]["text"].startswith(beginning)
    assert "EASE has" in results["verdict"]["text"]
    assert "95 % interval" in results["verdict"]["text"]


def test_results_hold_differences_reasons_and_marks(rated):
    results = make_results(rated, (0, 30), {"popularity": (0, 20), "ease": "too large"}, k=(3, 5))
    num_queries = len(rated.queries("test"))
    assert results["baselines"]["ease"] == {"left_out": "too large"}
    assert results["baselines"]["popularity"]["chosen"] == {}
    (compared,) = results["comparisons"]
    assert compared["baseline"] == "popularity"
    assert compared["difference"] == pytest.approx(10 / num_queries)
    assert compared["interval"][0] < 10 / num_queries < compared["interval"][1]
    assert results["intervals"]["coverage@5"] is None
    assert (
        results["intervals"]["ndcg@5"][0] < results["metrics"]["ndcg@5"] < results["intervals"]["ndcg@5"][1]
    )
    for piece in results["slices"]:
        assert piece["small"] == (piece["users"] < 10)
        beside = piece["baselines"]["popularity"]["metrics"]
        assert {key.partition("@")[2] for key in beside} == {"5"}
        (compared,) = piece["comparisons"]
        assert compared["difference"] == piece["metrics"]["ndcg@5"] - beside["ndcg@5"]
    assert {piece["small"] for piece in results["slices"]} == {True, False}
    assert results["slices"][0]["metrics"].keys() == results["metrics"].keys()
    json.dumps(results, allow_nan=False)


def test_without_resamples_there_are_no_intervals_and_nothing_about_chance(rated):
    results = make_results(rated, (0, 30), {"popularity": (0, 20)}, resamples=0)
    assert set(results["intervals"].values()) == {None}
    assert results["verdict"]["outcome"] == "unmeasured"
    assert make_results(rated, (0, 30), {})["verdict"]["outcome"] == "alone"


def test_verdict_over_all_baselines_says_so_and_differences_are_there_at_each_cut_off(rated):
    baselines = dict.fromkeys(("popularity", "popularity_recent", "item_knn"), (0, 3)) | {"ease": (0, 5)}
    results = make_results(rated, (0, 60), baselines, k=(1, 5))
    assert results["verdict"]["text"].startswith("Better than every baseline: NDCG@5 is")
    assert [(one["baseline"], one["metric"]) for one in results["cut_offs"]] == [
        ("ease", "ndcg@1"),
        ("ease", "ndcg@5"),
    ]
    for one in results["cut_offs"]:
        own, other = (block["metrics"][one["metric"]] for block in (results, results["baselines"]["ease"]))
        assert one["difference"] == pytest.approx(own - other)
        assert one["interval"][0] < one["difference"] < one["interval"][1]
