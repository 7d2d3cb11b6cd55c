"""Comparisons of evaluations: joined, tested, corrected, said and shown."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from recsys.evaluation.comparing.compare import compare
from recsys.evaluation.comparing.differences import ComparedQuestions, PairedComparison
from recsys.evaluation.comparing.options import ComparisonOptions
from recsys.evaluation.comparing.stations import (
    Answers,
    Members,
    check_same_protocol,
    matching_rows,
    named,
)
from recsys.evaluation.comparing.verdict import verdict_of
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.questions import EvaluatedModel
from recsys.evaluation.station import EvaluatedRun
from recsys.models.wide_deep import WideDeep
from recsys.report.pages import p_value
from tests.evaluation.conftest import COMPARED

QUICK = ComparisonOptions(permutations=200)


def shuffled(evaluated):
    order = np.random.default_rng(0).permutation(len(evaluated.asked))
    return dataclasses.replace(evaluated, asked=evaluated.asked.take(pa.array(order)))


def test_answers_to_shuffled_questions_are_joined_by_their_keys(retrieved, ranked):
    for first, other in (retrieved, ranked):
        straight, joined = (one.model("b", like=first) for one in (other, shuffled(other)))
        for key, values in straight.values.items():
            assert joined.values[key].tolist() == values.tolist()
        assert shuffled(other).model("b").values.keys() == joined.values.keys()


def test_models_of_different_tasks_are_refused_in_a_sentence(retrieved, ranked):
    with pytest.raises(
        ValueError, match=r"expected another retrieval model .* of a ranking model"
    ) as refused:
        check_same_protocol(retrieved[0], ranked[0])
    assert "protocol." not in str(refused.value)


def test_questions_that_were_not_asked_are_named(retrieved):
    first, other = retrieved
    fewer = dataclasses.replace(other, asked=other.asked.slice(1))
    with pytest.raises(
        ValueError, match=r"1 of the first were not asked in the second, for example .*user_id"
    ):
        matching_rows(first, fewer)


def test_protocols_that_differ_are_refused_by_key_and_values(retrieved):
    first, other = retrieved
    check_same_protocol(first, other)
    protocol = {**other.results["protocol"], "k": [7]}
    changed = dataclasses.replace(
        other, results={**other.results, "protocol": protocol, "protocol_hash": "x"}
    )
    with pytest.raises(ValueError, match=r"`protocol.k` is \[3, 5\] here and \[7\] there$"):
        check_same_protocol(first, changed)


def test_baselines_and_slices_kept_on_disk_are_those_of_the_evaluation(retrieved):
    first = retrieved[0]
    for name in ("popularity", "ease"):
        answers = first.baseline(name)
        for key, values in answers.values.items():
            assert values.mean() == pytest.approx(first.results["baselines"][name]["metrics"][key])
    model, sizes = first.model("a"), {}
    for piece in first.slices():
        sizes[piece.group, piece.name] = len(piece.rows)
        shown = next(
            one for one in first.results["slices"] if (one["group"], one["name"]) == (piece.group, piece.name)
        )
        assert model.values["ndcg@5"][piece.rows].mean() == pytest.approx(shown["metrics"]["ndcg@5"])
    assert sizes == {(one["group"], one["name"]): one["size"] for one in first.results["slices"]}


def test_probabilities_kept_on_disk_are_those_of_the_evaluation(ranked):
    first = ranked[0]
    for name in ("rate", "item_rate"):
        expected = first.results["baselines"][name]["metrics"]
        answers = first.baseline(name)
        assert answers.values["log_loss"].mean() == pytest.approx(expected["log_loss"])
        assert roc_auc_score(first.labels, answers.probabilities) == pytest.approx(expected["auc"])


def test_drawn_negatives_are_kept_with_their_items(clicked, tmp_path):
    model = WideDeep(clicked.schema, embedding_dim=4, hidden=[8])
    run = EvaluatedRun(tmp_path)
    path = evaluate(EvaluatedModel(model, clicked, "ranking", 5, 2), COMPARED, run=run)
    rows = pq.read_table(path / "probabilities.parquet")
    real = pq.read_table(path / "predictions.parquet")
    assert len(rows) == 3 * len(real)
    assert rows["label"].to_pylist() == [1] * len(real) + [0] * 2 * len(real)
    assert rows["user_id"].to_pylist() == real["user_id"].to_pylist() * 3
    assert rows["item_id"].to_pylist()[: len(real)] == real["item_id"].to_pylist()
    assert set(rows["item_id"].to_pylist()) <= set(clicked.item_ids[1:])


def judged(**values):
    means = {key: float(np.mean(value)) for key, value in values.items()}
    return {"metrics": means, "intervals": dict.fromkeys(means)}


@pytest.fixture
def world():
    """60 users of 3 queries; `good` is above `plain` on ndcg, for odd users alone, and equals it on mrr."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(60), 3)
    plain = {"ndcg@5": rng.random(180), "mrr@5": rng.random(180), "novelty@5": rng.random(180) + 5}
    good = {**plain, "ndcg@5": plain["ndcg@5"] + 0.1 * (users % 2), "novelty@5": plain["novelty@5"] + 1}
    slices = [
        Members("user", "odd", "", np.flatnonzero(users % 2 == 1)),
        Members("user", "even", "", np.flatnonzero(users % 2 == 0)),
        Members("user", "few", "", np.arange(3)),
    ]
    systems = [Answers(name, name, judged(**its), its) for name, its in (("good", good), ("plain", plain))]
    options = EvaluationOptions(resamples=200, small_slice=5)
    return PairedComparison(ComparedQuestions(users, None, slices), options, permutations=999), systems


def test_difference_says_what_is_sure_in_which_direction(world):
    paired, (good, plain) = world
    rows = {row["metric"]: row for row in paired.differences(good, [plain], k="5")}
    assert rows["ndcg@5"]["difference"] == pytest.approx(0.05)
    assert rows["ndcg@5"]["interval"][0] > 0
    assert rows["ndcg@5"]["p"] == pytest.approx(1 / 1000)
    # Two metrics say which is better; novelty is of another family.
    assert rows["ndcg@5"]["p_corrected"] == pytest.approx(2 / 1000)
    assert rows["novelty@5"]["p_corrected"] == pytest.approx(1 / 1000)
    assert {key: row["outcome"] for key, row in rows.items()} == {
        "ndcg@5": "better",
        "mrr@5": "undecided",
        "novelty@5": "more",
    }
    back = {row["metric"]: row["outcome"] for row in paired.differences(plain, [good], k="5")}
    assert back == {"ndcg@5": "worse", "mrr@5": "undecided", "novelty@5": "less"}


def test_correction_counts_every_opponent(world):
    paired, (good, plain) = world
    others = [dataclasses.replace(plain, name=f"plain{i}") for i in range(3)]
    rows = paired.differences(good, others, k="5")
    found = [row["p_corrected"] for row in rows if row["metric"] == "ndcg@5"]
    assert found == pytest.approx([6 / 1000] * 3)


def test_queries_without_a_value_do_not_count(world):
    paired, (good, plain) = world
    users = np.repeat(np.arange(60), 3)
    lift = np.where(users % 2 == 1, 1.0, np.nan)  # even users have no history
    nothing = np.full(180, np.nan)
    good, plain = (
        dataclasses.replace(one, values={**one.values, "popularity_lift@5": values, "diversity@5": nothing})
        for one, values in ((good, lift), (plain, lift - 0.5))
    )
    rows = {row["metric"]: row for row in paired.differences(good, [plain], k="5")}
    assert rows["popularity_lift@5"]["difference"] == pytest.approx(0.5)
    assert rows["popularity_lift@5"]["p"] == pytest.approx(1 / 1000)
    assert "diversity@5" not in rows
    sliced = {row["name"]: row for row in paired.on_slices(good, [plain], metric="popularity_lift@5")}
    assert sliced["odd"]["value"] == pytest.approx(1.0)
    assert sliced["even"]["value"] is None


def test_metrics_that_are_others_under_another_name_are_not_tested(world):
    paired, systems = world
    systems = [
        dataclasses.replace(one, values={**one.values, "recall@5": one.values["mrr@5"]}) for one in systems
    ]
    asked = dataclasses.replace(paired.questions, several_relevant=False)
    alone = PairedComparison(asked, paired.options, permutations=100)
    found = [
        {row["metric"] for row in p.differences(*systems[:1], systems[1:], k="5")} for p in (paired, alone)
    ]
    assert found[0] - found[1] == {"recall@5"}


def test_slices_are_tested_apart_from_small_ones(world):
    paired, (good, plain) = world
    rows = {row["name"]: row for row in paired.on_slices(good, [plain], metric="ndcg@5")}
    assert rows["odd"]["difference"] == pytest.approx(0.1)
    assert rows["odd"]["users"] == 30
    assert rows["odd"]["p_corrected"] == pytest.approx(2 / 1000)
    assert rows["odd"]["outcome"] == "better"
    assert (rows["even"]["difference"], rows["even"]["p"], rows["even"]["outcome"]) == (0.0, 1.0, "undecided")
    assert rows["few"]["small"]
    assert rows["few"]["p"] is None
    assert rows["few"]["outcome"] == "undecided"


def test_ranking_is_compared_by_order_and_loss():
    rng = np.random.default_rng(0)
    users, labels = np.repeat(np.arange(80), 5), rng.integers(0, 2, 400)
    probabilities = {
        "good": np.clip(0.3 + 0.4 * labels + 0.2 * rng.normal(size=400), 0.01, 0.99),
        "bad": np.clip(0.5 + 0.2 * rng.normal(size=400), 0.01, 0.99),
    }
    loss = {name: -np.log(np.where(labels == 1, p, 1 - p)) for name, p in probabilities.items()}
    aucs = {name: roc_auc_score(labels, p) for name, p in probabilities.items()}
    good, bad = (
        Answers(
            name,
            name,
            {"metrics": {"auc": aucs[name], "log_loss": loss[name].mean()}, "intervals": {}},
            {"log_loss": loss[name]},
            probabilities[name],
        )
        for name in ("good", "bad")
    )
    paired = PairedComparison(
        ComparedQuestions(users, labels, []), EvaluationOptions(resamples=200), permutations=999
    )
    rows = {row["metric"]: row for row in paired.differences(good, [bad], k="")}
    assert rows["auc"]["difference"] == pytest.approx(aucs["good"] - aucs["bad"])
    assert rows["log_loss"]["difference"] == pytest.approx(loss["good"].mean() - loss["bad"].mean())
    assert rows["log_loss"]["difference"] < 0
    own = [users == user for user in range(80) if 0 < labels[users == user].sum() < 5]
    within = [np.mean([roc_auc_score(labels[mask], p[mask]) for mask in own]) for p in probabilities.values()]
    assert rows["gauc"]["difference"] == pytest.approx(within[0] - within[1])
    assert {key: row["outcome"] for key, row in rows.items()} == dict.fromkeys(
        ("log_loss", "auc", "gauc"), "better"
    )
    assert rows["auc"]["test"] == "bootstrap"
    assert rows["auc"]["p"] == pytest.approx(2 / 201)


def row(against, metric, outcome, difference=0.01):
    return {
        "against": against,
        "metric": metric,
        "value": 0.5,
        "other_value": 0.5 - difference,
        "difference": difference,
        "interval": [difference - 0.005, difference + 0.005],
        "p": 0.001,
        "p_corrected": 0.003,
        "outcome": outcome,
    }


def test_verdict_is_one_sentence_with_what_how_much_and_how_sure():
    rows = [row("b", "ndcg@10", "better"), row("b", "mrr@10", "better"), row("b", "map@10", "worse")]
    found = verdict_of(rows, first="a", main_metric="ndcg@10", confidence=0.95)
    assert found["outcome"] == "better"
    assert found["text"] == (
        "a is better than b on NDCG@10: 0.5000 against 0.4900, +0.0100 (95 % interval +0.0050 to +0.0150; "
        "p 0.0010, 0.0030 corrected); better too on MRR@10; worse on MAP@10."
    )
    unsure = verdict_of([row("b", "auc", "undecided")], first="a", main_metric="auc", confidence=0.9)
    assert "a is not told apart from b on AUC" in unsure["text"]
    assert "which may be chance" in unsure["text"]


def test_verdict_on_several_counts_them_by_outcome():
    rows = [row("b", "auc", "better"), row("c", "auc", "better"), row("d", "auc", "undecided")]
    found = verdict_of(rows, first="a", main_metric="auc", confidence=0.95)
    assert found["outcome"] == "undecided"
    assert found["text"] == (
        "On AUC, a is better than b, c; not told apart from d (at most 5 % chance of one mistake among all "
        "tests)."
    )
    assert [one["outcome"] for one in found["against"]] == ["better", "better", "undecided"]


def test_p_values_keep_digits_that_say_something():
    assert [p_value(p) for p in (1.0, 0.0123, 0.00004)] == ["1.0000", "0.0123", "4.0e-05"]


def test_systems_of_one_name_are_told_apart_by_the_folder_above(tmp_path):
    assert named([tmp_path / "x" / "0", tmp_path / "y" / "0", tmp_path / "z"]) == ["x/0", "y/0", "z"]


class Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("task", ["retrieval", "ranking"])
def test_page_is_whole_and_shows_verdict_systems_tests_and_slices(retrieved, ranked, task, tmp_path):
    first, other = retrieved if task == "retrieval" else ranked
    baseline = "ease" if task == "retrieval" else "item_rate"
    systems = [first.model("a <1>"), other.model("b & c", like=first), first.baseline(baseline)]
    path = compare(first, systems, folder=tmp_path, options=QUICK, config={})
    content = json.loads((path / "comparison.json").read_text())
    page = (path / "comparison.html").read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    text = " ".join(outline.text)
    for expected in (
        "a <1> against b & c",
        content["verdict"]["text"],
        *(one["text"] for one in content["verdict"]["against"]),
        "sign-flip permutation",
        "Holm",
        "Every slice",
        "protocol hash",
    ):
        assert expected in text
    assert "<1>" not in page
    assert not re.search(r"https?:|url\(|@import|<script| src=| href=", page)
    assert page.count("<svg") == 2
    numbers = [
        float(x)
        for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
        for x in re.findall(r' c?x[12]?="(-?[\d.]+)"', svg)
    ]
    assert len(numbers) > 10
    assert min(numbers) >= 0
    assert max(numbers) <= 400


def test_sentences_on_many_are_folded_below_their_summary(retrieved, tmp_path):
    first = retrieved[0]
    systems = [first.model("a"), *(first.baseline(name) for name in first.baselines)]
    assert len(systems) == 5
    page = (
        compare(first, systems, folder=tmp_path, options=QUICK, config={}) / "comparison.html"
    ).read_text()
    assert "<h1>a against 4 others</h1>" in page
    assert page.index("chance of one mistake among all tests") < page.index("Against each of the 4</summary>")
    assert f"{len(first.asked)} queries of " in page


def test_comparison_of_one_or_of_nine_is_refused(retrieved, tmp_path):
    model = retrieved[0].model("a")
    for number in (1, 9):
        with pytest.raises(ValueError, match=f"takes 2 to 8 systems, got {number}"):
            compare(retrieved[0], [model] * number, folder=tmp_path, options=QUICK, config={})


def test_too_few_permutations_are_refused():
    with pytest.raises(ValueError, match=r"`comparison.permutations` must be at least 100.*got 99"):
        ComparisonOptions(permutations=99)
