"""Lists judged beyond accuracy, slices of attributes and of the configuration, on a dataset with content."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.evaluation.attributes import attributes, content_of
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.questions import EvaluatedModel
from recsys.evaluation.recommendations import Lists
from recsys.evaluation.scoring import ListScorer
from recsys.evaluation.station import EvaluatedRun
from recsys.models.two_tower import TwoTower
from recsys.models.wide_deep import WideDeep
from tests.data.preparing import STARS, prepared
from tests.evaluation.conftest import NUM_ITEMS, NUM_USERS

KINDS = ("even", "odd", "third")
OPTIONS = EvaluationOptions(
    k=(1, 3),
    resamples=50,
    baselines=("popularity",),
    num_examples=0,
    slices={"experienced_women": "history_length >= 5 and gender == 'F'", "odd": "'odd' in item.kinds"},
)


def kinds_of(item):
    return [KINDS[item % 2]] + ["third"] * (item % 3 == 0)


@pytest.fixture(scope="module")
def dataset(ratings, tmp_path_factory):
    """The ratings with profiles and content; every item has a serial number, two have no kinds."""
    users = {
        "user_id": [f"u{user}" for user in range(NUM_USERS)],
        "gender": ["FM"[user % 2] for user in range(NUM_USERS)],
        "age": [float(user) for user in range(NUM_USERS)],
    }
    items = {
        "item_id": [f"i{item:02}" for item in range(NUM_ITEMS)],
        "kinds": ["|".join(kinds_of(item)) if item < 28 else None for item in range(NUM_ITEMS)],
        "serial": [f"s{item}" for item in range(NUM_ITEMS)],
    }
    features = {
        "user_features": {
            "gender": {"kind": "id"},
            "age": {"kind": "numeric", "transform": "bucketise", "num_buckets": 3},
        },
        "item_features": {"kinds": {"kind": "multi_id"}, "serial": {"kind": "id"}},
    }
    folder = tmp_path_factory.mktemp("described")
    return PreparedDataset.open(prepared(folder, ratings, users=users, items=items, label=STARS, **features))


@pytest.fixture(scope="module")
def station(dataset, tmp_path_factory):
    torch.manual_seed(0)
    model = TwoTower(dataset.schema, embedding_dim=8, hidden=[8])
    run = EvaluatedRun(tmp_path_factory.mktemp("retrieval"))
    return evaluate(EvaluatedModel(model, dataset, "retrieval", 5), OPTIONS, run=run)


def number(dataset, row):
    return int(dataset.item_ids[row][1:])


def test_content_is_what_items_share_and_not_their_serial_number(dataset):
    content = content_of(dataset)
    assert content.features == ("kinds",)
    for row in range(1, dataset.num_items):
        size = len(kinds_of(number(dataset, row))) if number(dataset, row) < 28 else 0
        assert sorted(content.shares_IG[row]) == pytest.approx([0] * (3 - size) + [1 / max(size, 1)] * size)
        assert np.linalg.norm(content.vectors_IG[row]) == pytest.approx(float(size > 0))


def test_attributes_of_many_values_make_no_slices(dataset):
    found = {one.name: one for one in attributes(dataset, at_most=20)}
    assert found.keys() == {"gender", "age", "kinds"}
    assert {one.name for one in attributes(dataset, at_most=2)} == {"gender"}
    assert found["age"].values[0] == "unknown"
    assert found["age"].values[1].startswith("below ")
    assert found["age"].is_ordered
    kinds = found["kinds"]
    third = kinds.having(kinds.values.index("third"))
    assert {number(dataset, row) for row in np.flatnonzero(third)} == set(range(0, 28, 3))
    unknown = kinds.having(0)
    assert {number(dataset, row) for row in np.flatnonzero(unknown[1:]) + 1} == {28, 29}


def test_values_of_queries_are_those_of_their_own_lists(dataset):
    queries = dataset.queries("test")
    rng = np.random.default_rng(0)
    rows = np.stack([1 + rng.permutation(dataset.num_items - 1)[:3] for _ in range(len(queries))])
    scorer = ListScorer(dataset, queries, OPTIONS)
    scores = scorer.score(Lists(item_rows=rows, scores=np.zeros(rows.shape, dtype=np.float32)))
    counts = dataset.item_counts.numpy()
    for query in range(0, len(queries), 7):
        history = queries.histories.select(torch.tensor([query])).values.numpy()
        listed = counts[rows[query]].mean()
        assert scores.values["popularity@3"][query] == pytest.approx(listed)
        if len(history):
            expected = np.log2((1 + listed) / (1 + counts[history].mean()))
            assert scores.values["popularity_lift@3"][query] == pytest.approx(expected)
    cold = queries.histories.lengths.numpy() == 0
    assert (np.isnan(scores.values["popularity_lift@3"]) == cold).all()
    assert "diversity_embedding@3" not in scores.values  # no vectors were given
    assert "diversity_content@1" not in scores.values
    assert scorer.beyond.obvious.item_rows.shape == rows.shape
    shown = np.bincount(rows.ravel(), minlength=dataset.num_items)[1:]
    pairs = np.abs(shown[:, None] - shown).mean() / (2 * shown.mean())
    assert scores.figures.values["gini@3"] == pytest.approx(pairs)


def test_station_has_every_agreed_key_for_the_model_and_the_baseline(station):
    results = json.loads((station / "metrics.json").read_text())
    per_query = ("novelty", "serendipity", "popularity", "popularity_lift", "long_tail", "miscalibration")
    per_query += ("diversity_content", "diversity_embedding")
    for block in (results, results["baselines"]["popularity"]):
        for name in (*per_query, "gini", "exposure_entropy", "coverage", "personalisation"):
            assert block["metrics"][f"{name}@3"] is not None
        for name in per_query:
            low, high = block["intervals"][f"{name}@3"]
            assert low <= high
    assert results["baselines"]["popularity"]["metrics"]["serendipity@3"] == 0
    assert results["exposure"].keys() == {"model", "popularity"}
    curve = results["exposure"]["model"]["lorenz"]
    assert (curve[0], curve[-1]) == ([0, 0], [1, 1])


def test_slices_of_attributes_and_of_the_configuration_are_means_over_their_queries(station):
    results = json.loads((station / "metrics.json").read_text())
    table = pq.read_table(station / "queries.parquet").to_pylist()
    groups = [one["group"] for one in results["slice_groups"]]
    assert groups == list(dict.fromkeys(one["group"] for one in results["slices"]))
    assert {"profile.gender", "profile.age", "attribute.kinds", "custom"} <= set(groups)
    assert "attribute.serial" not in groups
    found = {(one["group"], one["name"]): one for one in results["slices"]}

    def check(key, members):
        expected = np.mean([row["hit_rate@3"] for row in members])
        assert found[key]["metrics"]["hit_rate@3"] == pytest.approx(expected)
        assert found[key]["size"] == len(members)

    women = [row for row in table if row["gender"] == "F"]
    check(("profile.gender", "F"), women)
    check(("custom", "experienced_women"), [row for row in women if row["history_length"] >= 5])
    odd = [row for row in table if "odd" in (row["item.kinds"] or [])]
    check(("custom", "odd"), odd)
    check(("attribute.kinds", "odd"), odd)
    # Beyond accuracy is about lists, not about which of the relevant items were found.
    assert found["attribute.kinds", "odd"]["metrics"]["novelty@3"] is None
    assert found["custom", "odd"]["metrics"]["novelty@3"] is not None
    axes = {one["group"]: one["axis"] for one in results["slice_groups"]}
    assert (axes["profile.age"], axes["profile.gender"]) == ("age", "")


def test_slice_of_an_unknown_column_is_refused_with_those_there_are(dataset):
    options = EvaluationOptions(slices={"old": "ages > 3"})
    with pytest.raises(
        ValueError, match=r"`evaluation.slices.old` .* got `ages` .* there are: .*gender, age"
    ):
        ListScorer(dataset, dataset.queries("test"), options)


def test_slice_of_nobody_is_named_and_left_out(dataset, caplog):
    options = EvaluationOptions(slices={"nobody": "history_length > 1000"}, resamples=0)
    scorer = ListScorer(dataset, dataset.queries("test"), options)
    assert "custom" not in {one.group for one in scorer.slices}
    assert "`evaluation.slices.nobody` is true for no query" in caplog.text


def test_ranking_station_tells_calibration_by_bin_and_by_segment(dataset, tmp_path):
    torch.manual_seed(0)
    model = WideDeep(dataset.schema, embedding_dim=4, hidden=[8], init_std=0.3)
    path = evaluate(EvaluatedModel(model, dataset, "ranking", 5), OPTIONS, run=EvaluatedRun(tmp_path))
    results = json.loads((path / "metrics.json").read_text())
    table = pq.read_table(path / "predictions.parquet")
    labels, probabilities = table["label"].to_numpy(), table["probability"].to_numpy()
    women = np.array([int(user[1:]) % 2 == 0 for user in table["user_id"].to_pylist()])
    found = {(one["group"], one["name"]): one for one in results["calibration"]}
    of_women = found["profile.gender", "F"]
    assert of_women["rows"] == women.sum()
    assert of_women["predicted"] == pytest.approx(probabilities[women].mean())
    assert of_women["observed"] == pytest.approx(labels[women].mean())
    assert of_women["ratio"] == pytest.approx(probabilities[women].sum() / labels[women].sum())
    assert of_women["interval"][0] < of_women["ratio"] < of_women["interval"][1]
    assert ("custom", "odd") in found
    for one in results["reliability"]:
        assert one["low"] <= one["observed"] <= one["high"]
    gap = sum(one["rows"] * abs(one["predicted"] - one["observed"]) for one in results["reliability"])
    assert results["metrics"]["calibration_error"] == pytest.approx(gap / len(table))
    for name in ("pr_auc", "normalised_entropy", "predicted_over_observed"):
        low, high = results["intervals"][name]
        assert low < results["metrics"][name] < high
    users = pq.read_table(path / "users.parquet")
    assert users["rows"].to_numpy().sum() == len(table)
    first = users.to_pylist()[0]
    own = np.array(table["user_id"].to_pylist()) == first["user_id"]
    assert first["positives"] == labels[own].sum()
    assert first["predicted"] == pytest.approx(probabilities[own].sum())
