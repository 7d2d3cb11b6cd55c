"""The command recsys off-policy, on logs made here and on the small Open Bandit data."""

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from recsys.commands.off_policy import main
from recsys.experiments.feedback import FeedbackColumns
from recsys.experiments.off_policy import OffPolicyConfig, judge_policy
from recsys.schema.manifest import read_station
from tests.experiments.logs import RATES, drinks_log


def judge(log, policy, **keys):
    return judge_policy(OffPolicyConfig(log=log, policy=str(policy), **keys), {})


@pytest.fixture
def log(tmp_path):
    return drinks_log(tmp_path)


def figures_of(log):
    return json.loads((log.parent / "off_policy" / "off_policy.json").read_text())


def test_station_says_what_the_target_would_have_earned(log, capsys):
    policy = log.parent / "policy.csv"
    policy.write_text("item_id,probability\ntea,0.1\ncoffee,0.8\nwater,0.1\n")
    with pytest.raises(SystemExit) as ended:
        main([f"log={log}", f"policy={policy}"])
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(log.parent / "off_policy")]
    read_station(log.parent / "off_policy", "off_policy", verify_all=True)
    figures = figures_of(log)
    truth = 0.1 * 0.2 + 0.8 * 0.5 + 0.1 * 0.1
    low, high = figures["estimates"]["doubly_robust"]["interval"]
    assert figures["main"] == "doubly_robust"
    assert low < truth < high
    low, high = figures["estimates"]["direct_method"]["interval"]
    assert low < truth < high
    assert figures["warnings"] == []
    table = pd.read_csv(log)
    assert figures["logged"]["value"] == pytest.approx(table["reward"].mean())
    weights = table["new_model"] / table["propensity"]
    assert figures["estimates"]["inverse_propensity"]["value"] == pytest.approx(
        (weights * table["reward"]).mean()
    )
    assert figures["effective_sample_size"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert figures["difference"]["interval"][0] > 0
    assert figures["sentence"] in printed.err
    assert "more than the log's policy" in figures["sentence"]
    assert figures["left_out"] == {"replay": "the log did not choose uniformly"}
    rows = pq.read_table(log.parent / "off_policy" / "estimates.parquet").to_pylist()
    assert {row["estimator"] for row in rows} == set(figures["estimates"])


def test_page_stands_alone_and_shows_the_sentence(log):
    judge(log, "uniform")
    page = (log.parent / "off_policy" / "off_policy.html").read_text()
    assert figures_of(log)["sentence"].split(":")[0] in page
    assert "<svg" in page
    assert "http:" not in page.replace("http://www.w3.org", "")
    assert "https:" not in page


def test_a_column_of_the_log_gives_the_same_weights_without_a_model(log):
    judge(log, "new_model")
    figures = figures_of(log)
    assert figures["main"] == "self_normalised"
    assert "are not known" in figures["left_out"]["doubly_robust"]


def test_probabilities_by_request_and_recommended_lists_are_read(log):
    table = pd.read_csv(log)
    by_request = table[["request_id"]].merge(pd.DataFrame({"item_id": list(RATES)}), how="cross")
    by_request["probability"] = 1 / 3
    by_request.to_parquet(log.parent / "requests.parquet")
    judge(log, "uniform")
    uniform = figures_of(log)["estimates"]
    judge(log, log.parent / "requests.parquet")
    for name, row in figures_of(log)["estimates"].items():
        assert row["value"] == pytest.approx(uniform[name]["value"]), name
    lists = pd.DataFrame({"user_id": range(300), "rank": 1, "item_id": "coffee", "score": 1.0})
    lists.to_parquet(log.parent / "lists.parquet")
    judge(log, log.parent / "lists.parquet")
    coffee = table[table["item_id"] == "coffee"]
    assert figures_of(log)["estimates"]["self_normalised"]["value"] == pytest.approx(coffee["reward"].mean())


@pytest.mark.parametrize(
    ("edit", "keys", "message"),
    [
        (lambda t: t.drop(columns="propensity"), {}, "lacks `propensity`"),
        (lambda t: t.assign(propensity=t["propensity"].where(t.index != 4)), {}, "found none in row 5"),
        (lambda t: t.assign(propensity=1.2), {}, r"found 1.2 in row 1"),
        (lambda t: t.assign(request_id="r"), {}, "position 1 filled again in row 2"),
        (
            lambda t: t.assign(user_id=t["user_id"].where(t.index != 2)),
            {},
            "`user_id` .* found none in row 3",
        ),
        (
            lambda t: t.assign(reward="much"),
            {},
            "`reward` of `log`: expected finite numbers, found `much` in row 1",
        ),
        (
            lambda t: t.assign(reward=t["reward"].astype(float).where(t.index != 3, 1e300)),
            {},
            r"expected finite numbers, found `1e\+300` in row 4 \(the largest is 1e\+100\)",
        ),
        (lambda t: t[:0], {}, "expected rows, found none"),
        (
            lambda t: t[t["item_id"] != "coffee"],
            {"policy": "P"},
            r"80.0% of the target's probability is on items",
        ),
        (lambda t: t, {"log": Path("nowhere.csv")}, r"^`log` must be .*; there is no `nowhere.csv`"),
        (lambda t: t, {"policy": "nowhere"}, "found no such column in .* and no such file"),
        (lambda t: t, {"main": "replay"}, "`main=replay` cannot be had: the log did not choose uniformly"),
        (lambda t: t, {"policy": "P", "examination": Path("P")}, "lacks `position`.*, `examination`"),
        (lambda t: t, {"columns": FeedbackColumns(user_id="uid")}, "lacks `uid`"),
        (lambda t: t, {"confidence": 2}, "`confidence` must lie between 0 and 1, got 2"),
        (lambda t: t, {"ceiling": 0.0}, r"`ceiling` must be above 0, got 0.0"),
        (lambda t: t, {"max_unsupported": 1.0}, r"`max_unsupported` must lie in \[0, 1\), got 1.0"),
        (
            lambda t: t.assign(position=1 + t.index % 2),
            {"policy": "P"},
            "positions 1 to 2; expected a column `position`",
        ),
    ],
)
def test_a_users_mistake_is_named(log, monkeypatch, edit, keys, message):
    monkeypatch.chdir(log.parent)
    edit(pd.read_csv(log)).to_csv(log, index=False)
    Path("P").write_text("item_id,probability\ntea,0.1\ncoffee,0.8\nwater,0.1\n")
    with pytest.raises(ValueError, match=message):
        judge(**({"log": log, "policy": "new_model"} | keys))
    assert not Path("off_policy").exists()


def test_a_policy_that_leaves_requests_out_is_refused(log):
    pd.DataFrame({"user_id": range(299), "rank": 1, "item_id": "tea"}).to_parquet(
        log.parent / "lists.parquet"
    )
    with pytest.raises(ValueError, match=r"found nothing for `299` in position 1 \(1 of 300\)"):
        judge(log, log.parent / "lists.parquet")


def test_another_folder_is_not_written_over(log):
    (log.parent / "mine").mkdir()
    (log.parent / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="found something else"):
        judge(log, "uniform", folder=log.parent / "mine")
    assert (log.parent / "mine" / "thesis.txt").exists()


@pytest.fixture(scope="session")
def open_bandit():
    """The two logs of a campaign, from the files of the installed package `obp`, which is never imported."""
    try:
        package = importlib.metadata.distribution("obp")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the Open Bandit data is not installed: pip install --no-deps --group openbandit")

    def read(policy, campaign):
        path = package.locate_file(f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv")
        names = {
            "item_id": "item_id",
            "position": "position",
            "propensity_score": "propensity",
            "click": "reward",
        }
        return pd.read_csv(path, usecols=list(names)).rename(columns=names)

    return read


@pytest.mark.parametrize("campaign", ["all", "men", "women"])
@pytest.mark.parametrize(("target", "logged"), [("bts", "random"), ("random", "bts")])
def test_one_policys_log_covers_what_the_other_earned(open_bandit, tmp_path, campaign, target, logged):
    """Ten thousand rows each of a week in which both policies ran; a row is one item in one position.

    Bernoulli Thompson sampling learnt during the week: its probabilities moved. What it would have shown
    in the random log is its mix over the week, of which the shares of its log are an unbiased estimate. Its
    logged propensities must not be averaged: an item is logged when its propensity is high.
    """
    open_bandit(logged, campaign).to_csv(tmp_path / "log.csv", index=False)
    beside = open_bandit(target, campaign)
    policy = "uniform"
    if target == "bts":
        shares = beside.groupby("position")["item_id"].value_counts(normalize=True)
        policy = tmp_path / "bts.csv"
        shares.rename("probability").reset_index().to_csv(policy, index=False)
    judge(tmp_path / "log.csv", policy)
    figures = figures_of(tmp_path / "log.csv")
    low, high = figures["estimates"]["doubly_robust"]["interval"]
    assert low < beside["reward"].mean() < high
    # In the women's log of Thompson sampling, one shown item had a propensity of 0.000001.
    hopeless = (campaign, target) == ("women", "random")
    assert any("neither figure nor interval" in text for text in figures["warnings"]) == hopeless
    if not hopeless:
        assert high - low < 0.01


def test_policy_that_is_neither_probabilities_nor_lists_nor_a_log_is_refused(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,colour\ntea,green\n")
    with pytest.raises(ValueError, match=r"expected `probability`, or `rank`.* of a log; found"):
        judge(drinks_log(tmp_path), tmp_path / "items.csv")


def test_files_of_open_bandit_are_taken_as_they_are(tmp_path):
    """An index without a name, instants with a zone, other features; the target is the other log."""
    rng = np.random.default_rng(0)

    def write(name, shares):
        items = rng.choice(4, 3000, p=shares)
        frame = pd.DataFrame(
            {
                "timestamp": pd.Timestamp("2019-11-24 00:00:17.004101+00:00"),
                "item_id": items,
                "position": rng.integers(1, 4, 3000),
                "click": (rng.random(3000) < 0.1 + 0.2 * items).astype(int),
                "propensity_score": np.array(shares)[items],
                "user_feature_0": "cef3390ed299c09874189c387777674a",
                "user-item_affinity_0": 0.0,
            }
        )
        frame.to_csv(tmp_path / name)
        return frame

    random, other = [0.25] * 4, [0.1, 0.2, 0.3, 0.4]
    write("random.csv", random)
    beside = write("bts.csv", other)
    columns = FeedbackColumns(propensity="propensity_score", reward="click")
    judge_policy(OffPolicyConfig(tmp_path / "random.csv", str(tmp_path / "bts.csv"), columns), {})
    figures = figures_of(tmp_path / "random.csv")
    low, high = figures["estimates"]["doubly_robust"]["interval"]
    assert low < 0.1 + 0.2 * np.dot(range(4), other) < high
    assert low < beside["click"].mean() < high


def test_examined_positions_judge_another_order(tmp_path):
    """Three items always in the same order; the target turns the order round."""
    rng = np.random.default_rng(0)
    looks, attraction = np.array([1.0, 0.5, 0.2]), np.array([0.1, 0.3, 0.6])
    positions = np.tile([1, 2, 3], 20_000)
    clicks = rng.random(60_000) < looks[positions - 1] * attraction[positions - 1]
    pd.DataFrame(
        {
            "request_id": np.repeat(np.arange(20_000), 3),
            "item_id": positions,
            "position": positions,
            "propensity": 1.0,
            "reward": clicks.astype(int),
        }
    ).to_parquet(tmp_path / "log.parquet")
    pd.DataFrame({"position": [1, 2, 3], "examination": looks}).to_csv(tmp_path / "looks.csv", index=False)
    turned = pd.DataFrame({"item_id": [3, 2, 1], "position": [1, 2, 3], "probability": 1.0})
    turned.to_csv(tmp_path / "turned.csv", index=False)
    judge(tmp_path / "log.parquet", tmp_path / "turned.csv", examination=tmp_path / "looks.csv")
    figures = figures_of(tmp_path / "log.parquet")
    truth = 1.0 * 0.6 + 0.5 * 0.3 + 0.2 * 0.1
    for name in ("inverse_propensity", "direct_method", "doubly_robust"):
        assert figures["estimates"][name]["value"] == pytest.approx(truth, rel=0.05), name
    low, high = figures["estimates"]["doubly_robust"]["interval"]
    assert low < truth < high
    assert figures["main"] == "doubly_robust"
    page = (tmp_path / "off_policy" / "off_policy.html").read_text()
    assert "examination of positions is taken as given" in page


def test_a_reward_model_that_is_wrong_for_the_target_is_called_so(tmp_path):
    """Half of the users like tea and were mostly given it, half coffee; the target gives each the other."""
    rng = np.random.default_rng(0)
    likes_tea = np.arange(4000) % 2 == 0
    gets_tea = rng.random(4000) < np.where(likes_tea, 0.8, 0.2)
    liked = likes_tea == gets_tea
    pd.DataFrame(
        {
            "user_id": np.arange(4000),
            "item_id": np.where(gets_tea, "tea", "coffee"),
            "propensity": np.where(liked, 0.8, 0.2),
            "reward": (rng.random(4000) < np.where(liked, 0.6, 0.1)).astype(int),
        }
    ).to_csv(tmp_path / "log.csv", index=False)
    other = pd.DataFrame({"user_id": np.arange(4000), "item_id": np.where(likes_tea, "coffee", "tea")})
    other.assign(probability=1.0).to_csv(tmp_path / "other.csv", index=False)
    judge(tmp_path / "log.csv", tmp_path / "other.csv")
    figures = figures_of(tmp_path / "log.csv")
    low, high = figures["estimates"]["doubly_robust"]["interval"]
    assert low < 0.1 < high
    # What the model learns of tea is what those who like it said: .8 x .6 + .2 x .1.
    assert figures["estimates"]["direct_method"]["value"] == pytest.approx(0.5, abs=0.03)
    [warning] = figures["warnings"]
    assert "The reward model is wrong for this policy: the direct method is +0." in warning
    page = (tmp_path / "off_policy" / "off_policy.html").read_text()
    assert "how far the model itself is wrong is not in it" in page
