import json

import numpy as np
import pandas as pd
import pytest

from recsys.commands.pilot import main
from recsys.experiments.pilot_plan import PlanConfig, plan
from recsys.experiments.pilot_results import Guardrail, ReadConfig, read
from tests.experiments.logs import pilot_log, traffic_log


def figures_of(folder):
    return json.loads((folder / "pilot" / "pilot.json").read_text())


@pytest.fixture
def before(tmp_path):
    return traffic_log(tmp_path)


def test_plan_says_how_long(before, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", f"log={before}", "lift=0.3"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines() == [str(before.parent / "pilot")]
    figures = figures_of(before.parent)
    # 2 (1.96 + .8416)^2 .25 .75 / .075^2 = 523 users in each arm: on the sixth day 600 are.
    assert figures["needed"][5] == pytest.approx(523.3, abs=2)
    assert (figures["duration_days"], figures["weeks"]) == (6, 1)
    assert (
        "Run for 7 days (6 would do, as seen in the log; whole weeks, as weekdays differ): finding a"
        in figures["sentence"]
    )


def test_plan_beyond_the_log_says_so(before):
    plan(PlanConfig(before, lift=0.1), {})
    figures = figures_of(before.parent)
    assert not figures["in_log"]
    assert "beyond the log" in figures["warnings"][0]


def test_read_says_what_came_of_it(tmp_path, capsys):
    log = pilot_log(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "read",
                f"log={log}",
                "control=old",
                "guardrails.speed={column: latency_ms, good: lower, margin: 0.02}",
            ]
        )
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "pilot")]
    figures = figures_of(tmp_path)
    table = pd.read_parquet(log)
    means = table.groupby("arm")["reward"].mean()
    new = figures["arms"]["new"]
    assert new["difference"]["value"] == pytest.approx(means["new"] - means["old"])
    assert new["lift"]["interval"][0] < 0.5 < new["lift"]["interval"][1]
    assert new["guardrails"]["speed"]["verdict"] == "kept"
    assert len(new["days"]) == 7
    assert figures["users"] == {"new": 1000, "old": 1000}
    assert figures["warnings"] == []
    assert "`new` is better than `old`" in figures["sentence"]
    page = (tmp_path / "pilot" / "pilot.html").read_text()
    assert "<code>new</code> is better than <code>old</code>" in page
    assert "column: latency_ms; good: lower; margin: 0.02" in page  # as it was asked


@pytest.mark.parametrize(
    ("world", "keys", "warning"),
    [
        ({"treated_share": 0.55}, {}, "Sample-ratio mismatch"),
        (
            {"harm": 0.1},
            {"guardrails": {"speed": Guardrail("latency_ms", "lower", 0.02)}},
            "speed of `new` is broken",
        ),
        ({"lift": 0.9, "wearing": 0.15}, {}, "The difference of `new` moves by -0.0"),
    ],
)
def test_what_a_pilot_must_not_hide_is_a_warning(tmp_path, world, keys, warning):
    read(ReadConfig(pilot_log(tmp_path, **world), control="old", **keys), {})
    [said] = figures_of(tmp_path)["warnings"]
    assert warning in said


def test_planned_shares_are_those_that_count(tmp_path):
    log = pilot_log(tmp_path, treated_share=0.55)
    read(ReadConfig(log, control="old", shares={"new": 55, "old": 45}), {})
    assert figures_of(tmp_path)["sample_ratio_p_value"] == 1


@pytest.mark.parametrize(
    ("edit", "keys", "message"),
    [
        (lambda t: t.assign(arm=np.where(t.index == 3, "old", t["arm"])), {}, "user `3` in .* 1 such users"),
        (lambda t: t, {"control": "none"}, "`control=none`: expected it and another arm .* found new, old"),
        (lambda t: t, {"shares": {"new": 1}}, "`shares` must name a share above 0 for each arm, new, old"),
        (
            lambda t: t.assign(reward=t["reward"].where(t.index != 5)),
            {},
            "expected a number in every row, found none in row 6",
        ),
        (
            lambda t: t.assign(timestamp="soon"),
            {},
            "`timestamp` of `log`: expected an instant in every row, found `soon`",
        ),
        (lambda t: t.drop(columns="arm"), {}, "lacks `arm`"),
    ],
)
def test_a_pilot_that_cannot_be_read_is_refused(tmp_path, edit, keys, message):
    log = pilot_log(tmp_path)
    edit(pd.read_parquet(log)).to_parquet(log)
    with pytest.raises(ValueError, match=message):
        read(ReadConfig(log, **({"control": "old"} | keys)), {})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"power": 1}, "`power` must lie between 0 and 1, got 1"),
        ({"lift": 0}, "`lift` must not be 0"),
        ({"num_arms": 1}, "`num_arms` must be at least 2, got 1"),
        ({"share": 0}, r"`share` must lie in \(0, 1\], got 0"),
    ],
)
def test_an_aim_that_is_none_is_refused(before, keys, message):
    with pytest.raises(ValueError, match=message):
        PlanConfig(before, **({"lift": 0.1} | keys))


def test_neither_plan_nor_read_is_explained(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["show"])
    assert ended.value.code == 2
    assert "pilot plan ...` or `recsys pilot read ...`, got `show`" in capsys.readouterr().err
