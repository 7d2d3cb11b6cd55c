"""The log as tables, and what `recsys off-policy` makes of it."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.bandits.acting.choice import Candidates
from recsys.bandits.acting.policies import make_policy
from recsys.experiments.off_policy import OffPolicyConfig, judge_policy
from recsys.serving.journal import Journal
from recsys.serving.log.lmdb import LmdbLog
from recsys.serving.records import Forget, ShownItem, hash_of
from recsys.serving.rules import Rules
from recsys.serving.store.lmdb import LmdbEnvironment, LmdbStore
from recsys.serving.tables import Target, write_tables
from tests.commands_here import recsys
from tests.serving.events import NOW, did, shown

SCORES = np.array([2.0, 1.0, 0.5, 0.0, -1.0])
ATTRACTION = np.array([0.1, 0.3, 0.2, 0.5, 0.6])


@pytest.fixture
def journal(tmp_path):
    environment = LmdbEnvironment(tmp_path / "live" / "feedback", max_gigabytes=1)
    yield Journal(LmdbLog(environment), LmdbStore(environment), Rules())
    environment.close()


def answered(policy, number, rng, *, k=3):
    """A list of a policy over five items, and clicks on it that depend on the item alone."""
    choice = policy.choose(Candidates(SCORES), k, rng)
    items = [
        ShownItem(f"i{place}", float(SCORES[place]), float(p), float(given), "retrieval")
        for place, p, given in zip(
            choice.positions_K, choice.propensities_K, choice.given_above_K, strict=True
        )
    ]
    request = shown(
        f"r{number}",
        items,
        user=f"u{number % 50}",
        at=number,
        policy=policy.name,
        parameters=policy.parameters,
        judges_others=policy.judges_others,
        candidates=[f"i{n}" for n in range(5)],
        candidate_scores=SCORES.tolist(),
        num_candidates=5,
    )
    clicks = [
        did("click", item.item_id, f"r{number}", user=f"u{number % 50}", at=number + 1)
        for item in items
        if rng.random() < ATTRACTION[int(item.item_id[1:])]
    ]
    return [request, *clicks]


def fill(journal, policy, *, number, seed=0):
    rng = np.random.default_rng(seed)
    journal.commit([record for n in range(number) for record in answered(policy, n, rng)])


def test_tables_have_what_happened_once(journal, tmp_path):
    late = 3600 * 25
    journal.commit(
        [
            shown("r", ["a", "b"], user=7, context={"device": "tv"}),
            did("click", "b", "r", user=7),
            did("dwell", "a", "r", user=7, value=15.0),
            did("like", "a", "r", user=7, at=late),
            did("purchase", "c", user=8, at=9),
            shown("s", ["a"], user=None, at=5),
            shown("hidden", ["z"], user=7, shadow=True),
        ]
    )
    journal.commit([did("click", "b", "r", user=7)])
    out = write_tables(journal.log, tmp_path / "out", rules=Rules(attribution_hours=24))
    interactions = pq.read_table(out / "interactions.parquet").to_pylist()
    assert [(row["user_id"], row["item_id"], row["event"], row["reward"]) for row in interactions] == [
        (7, "b", "click", 1.0),
        (7, "a", "dwell", 0.25),
        (7, "a", "like", 1.0),
        (8, "c", "purchase", 1.0),
    ]
    feedback = pq.read_table(out / "logged_feedback.parquet").to_pylist()
    assert [(row["request_id"], row["item_id"], row["position"], row["reward"]) for row in feedback] == [
        ("r", "a", 1, 0.25),
        ("r", "b", 2, 1.0),
        ("s", "a", 1, 0.0),
    ]
    assert feedback[0]["propensity"] == 0.1
    assert feedback[0]["propensity_given_above"] == 0.2
    assert feedback[2]["user_id"] == "request s"
    features = pq.read_table(out / "features.parquet").to_pylist()
    assert [(row["request_id"], row["context.device"]) for row in features] == [("r", "tv"), ("s", None)]
    assert features[0]["timestamp"].timestamp() == NOW / 1e6


def test_a_share_of_the_lists_is_kept_and_judges_as_all_of_them(journal, tmp_path):
    fill(journal, make_policy("softmax", {"temperature": 1.0}), number=1500)
    whole, part, small = (
        write_tables(journal.log, tmp_path / f"kept-{keep}", rules=Rules(), keep=keep)
        / "logged_feedback.parquet"
        for keep in (1.0, 0.4, 0.1)
    )
    lists = [set(pq.read_table(one)["request_id"].to_pylist()) for one in (whole, part, small)]
    assert lists[2] < lists[1] < lists[0]
    assert len(lists[1]) == pytest.approx(600, abs=60)
    assert set(pq.read_table(part)["keep_probability"].to_pylist()) == {0.4}
    rewards = [np.mean(pq.read_table(one)["reward"].to_numpy()) for one in (whole, part)]
    assert rewards[1] == pytest.approx(rewards[0], abs=0.05)
    both = tmp_path / "both"
    both.mkdir()
    for one in (part, small):
        (both / f"{one.parent.name}.parquet").write_bytes(one.read_bytes())
    config = OffPolicyConfig(log=both, policy="uniform", folder=tmp_path / "judged")
    with pytest.raises(ValueError, match=r"expected one `keep_probability` throughout, found 0\.1 to 0\.4"):
        judge_policy(config, {})


def test_who_was_forgotten_is_in_no_table_even_where_the_log_keeps_them(journal, tmp_path):
    journal.commit([shown("r", ["a"], user="gone"), did("click", "a", "r", user="gone"), did("like", "b")])
    # As Kafka does: the records stay.
    journal.log.forget = lambda user_hash: 0
    journal.commit([Forget(hash_of("gone"), NOW)])
    journal.commit([did("like", "c", user="gone", at=99)])
    out = write_tables(journal.log, tmp_path / "out", rules=Rules())
    rows = pq.read_table(out / "interactions.parquet").to_pylist()
    assert [(row["user_id"], row["item_id"]) for row in rows] == [("u", "b"), ("gone", "c")]
    assert not (out / "logged_feedback.parquet").exists()


def test_an_event_that_was_written_before_its_list_is_its_reader_s(journal, tmp_path):
    click = did("click", "i1", "r1", user=None, at=2)
    for record in (click, shown("r1", ["i0", "i1"], user="u7", at=1)):
        journal.commit([record])
    out = write_tables(journal.log, tmp_path / "tables", rules=Rules())
    [row] = pq.read_table(out / "interactions.parquet").to_pylist()
    assert (row["user_id"], row["item_id"], row["request_id"]) == ("u7", "i1", "r1")
    journal.commit([Forget(hash_of("u7"), NOW)])
    out = write_tables(journal.log, tmp_path / "nobody", rules=Rules())
    assert pq.read_table(out / "interactions.parquet")["user_id"].to_pylist() == [None]


def test_an_export_goes_on_where_the_last_one_ended(journal, tmp_path):
    journal.commit([did("click", "a", at=1)])
    out = write_tables(journal.log, tmp_path / "one", rules=Rules())
    position = json.loads((out / "log.json").read_text())["position"]
    with pytest.raises(ValueError, match=f"expected requests or events in the log after position {position}"):
        write_tables(journal.log, tmp_path / "two", rules=Rules(), after=position)
    assert not (tmp_path / "two").exists()
    journal.commit([did("click", "b", at=2)])
    out = write_tables(journal.log, tmp_path / "two", rules=Rules(), after=position)
    assert pq.read_table(out / "interactions.parquet")["item_id"].to_pylist() == ["b"]


def test_off_policy_reads_the_log_as_it_is(journal, tmp_path):
    fill(journal, make_policy("softmax", {"temperature": 1.0}), number=1500)
    target = Target("softmax", {"temperature": 3.0})
    out = write_tables(journal.log, tmp_path / "out", rules=Rules(), target=target)
    config = OffPolicyConfig(
        log=out / "logged_feedback.parquet",
        policy="target_propensity",
        policy_given_above="target_given_above",
        folder=tmp_path / "judged",
    )
    judged = json.loads((judge_policy(config, {}) / "off_policy.json").read_text())
    # The truth: clicks depend on the item alone, and the target shows each with a known probability.
    rng = np.random.default_rng(3)
    policy = make_policy(target.policy, target.policy_parameters)
    truth = np.mean(
        [ATTRACTION[policy.choose(Candidates(SCORES), 3, rng).positions_K].sum() for _ in range(4000)]
    )
    for name in ("self_normalised", "inverse_propensity", "reward_interaction", "cascade_doubly_robust"):
        low, high = judged["estimates"][name]["interval"]
        assert low - 0.03 < truth < high + 0.03, name
    assert judged["matched_mass"]["value"] == pytest.approx(1, abs=0.05)


def test_the_log_of_a_greedy_policy_judges_nobody(journal, tmp_path):
    fill(journal, make_policy("greedy", {}), number=20)
    out = write_tables(journal.log, tmp_path / "out", rules=Rules())
    with pytest.raises(
        ValueError, match="found 60 of 60 rows whose `judges_others` is false: a greedy policy"
    ):
        judge_policy(OffPolicyConfig(log=out / "logged_feedback.parquet", policy="uniform"), {})


def test_lists_of_one_policy_are_chosen(journal, tmp_path):
    rng = np.random.default_rng(0)
    journal.commit(answered(make_policy("greedy", {}), 1, rng) + answered(make_policy("epsilon", {}), 2, rng))
    out = write_tables(journal.log, tmp_path / "out", rules=Rules(), policy="epsilon")
    assert set(pq.read_table(out / "logged_feedback.parquet")["request_id"].to_pylist()) == {"r2"}
    assert pq.read_table(out / "features.parquet").num_rows == 2


def test_targets_that_cannot_be_computed_are_refused(journal, tmp_path):
    with pytest.raises(ValueError, match=r"must be softmax or epsilon, .* got `thompson`"):
        Target("thompson")
    journal.commit([shown("r", ["a"], num_candidates=500)])
    with pytest.raises(ValueError, match="had 500 of them, logged by a digest alone"):
        write_tables(journal.log, tmp_path / "out", rules=Rules(), target=Target("epsilon"))


def test_the_commands_lead_from_the_server_s_folder_to_a_judgement(journal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(journal, make_policy("epsilon", {"epsilon": 0.5}), number=300)
    # A process opens a log but once.
    shutil.copytree(tmp_path / "live", tmp_path / "copy")
    out = tmp_path / "out"
    status, path, said = recsys("log", f"folder={tmp_path / 'copy'}", f"out={out}")
    assert (status, path) == (0, str(out)), said
    status, _, said = recsys("off-policy", "policy=uniform", f"log={out / 'logged_feedback.parquet'}")
    assert status == 0, said
    status, _, said = recsys("log", f"folder={tmp_path}", f"out={out}")
    assert (status, said.count("error: `folder=")) == (2, 1)
