import json

import numpy as np
import pandas as pd
import pytest

from recsys.commands.interleave import main
from recsys.experiments.interleaving import MakeConfig, ReadConfig, make, read
from tests.experiments.logs import lists_of


@pytest.fixture
def runs(tmp_path):
    """A run with an evaluation and a table of lists, which agree on nothing but item `c`."""
    (tmp_path / "run" / "evaluation").mkdir(parents=True)
    lists_of(tmp_path / "run" / "evaluation" / "recommendations.parquet", ["a1", "c", "a2"])
    return tmp_path / "run", lists_of(tmp_path / "other.parquet", ["b1", "c", "b2"], users=199)


def test_lists_are_made_shown_and_read(runs, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["make", f"a={runs[0]}", f"b={runs[1]}", "k=4"])
    assert ended.value.code == 0
    station = runs[0] / "interleaving"
    assert capsys.readouterr().out.splitlines() == [str(station)]
    shown = pd.read_parquet(station / "interleaved.parquet")
    assert len(shown) == 199 * 4  # one user has a list of one side only
    assert (
        "1 requests have a list of one side only"
        in json.loads((station / "interleaving.json").read_text())["warnings"][0]
    )
    assert set(shown[shown["item_id"].str.startswith("a")]["team"]) == {"a"}
    assert set(shown[shown["item_id"] == "c"]["team"]) == {"a", "b"}
    assert (shown.groupby("request_id")["user_id"].nunique() == 1).all()
    assert (shown.groupby("request_id")["team"].agg(lambda teams: (teams == "a").sum()) == 2).all()

    rng = np.random.default_rng(0)
    clicked = rng.random(len(shown)) < np.where(shown["item_id"].str.startswith("a"), 0.5, 0.2)
    shown.assign(reward=clicked.astype(int)).to_csv(runs[0] / "clicks.csv", index=False)
    read(ReadConfig(runs[0] / "clicks.csv", folder=runs[0] / "read"), {})
    figures = json.loads((runs[0] / "read" / "interleaving.json").read_text())
    assert "a is preferred" in figures["sentence"]
    credit = shown.assign(reward=clicked).pivot_table(
        index="request_id", columns="team", values="reward", aggfunc="sum"
    )
    assert figures["wins"]["a"] == (credit["a"] > credit["b"]).sum()
    assert figures["preference"]["value"] == pytest.approx(np.sign(credit["a"] - credit["b"]).mean())


def test_lists_for_nobody_in_common_are_refused(runs, tmp_path):
    pd.DataFrame({"user_id": ["x"], "rank": [1], "item_id": ["c"]}).to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(
        ValueError, match="found none in common by user; evaluate both runs on the same split"
    ):
        make(MakeConfig(runs[0], tmp_path / "x.csv"), {})
    (tmp_path / "x.csv").write_text("user_id,rank,item_id\nu1,0,c\n")
    with pytest.raises(ValueError, match="`rank` of `b`: expected ranks from 1, found 0 in row 1"):
        make(MakeConfig(runs[0], tmp_path / "x.csv"), {})


def test_a_run_without_lists_is_refused(runs, tmp_path):
    (tmp_path / "ranker" / "evaluation").mkdir(parents=True)
    (tmp_path / "ranker" / "config.yaml").touch()
    lists_of(tmp_path / "ranker" / "evaluation" / "predictions.parquet", ["c"])
    with pytest.raises(ValueError, match=r"for `b`, found no `evaluation/rec.*ranking models make none"):
        make(MakeConfig(runs[0], tmp_path / "ranker"), {})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("r1,c,1", "expected `a` or `b`, found `c` in row 2"),
        ("r1,b,", "`reward` of `log`: expected a number .* row 2"),
    ],
)
def test_clicks_that_say_nothing_are_refused(tmp_path, row, message):
    (tmp_path / "clicks.csv").write_text(f"request_id,team,reward\nr1,a,1\n{row}\n")
    with pytest.raises(ValueError, match=message):
        read(ReadConfig(tmp_path / "clicks.csv"), {})


def test_options_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`k` must be at least 1, got 0"):
        MakeConfig(tmp_path, tmp_path, k=0)
    with pytest.raises(ValueError, match="`confidence` must lie between 0 and 1, got 1"):
        ReadConfig(tmp_path, confidence=1)
