"""Folders of sweeps that somebody else made: their journals and trials run no code and write nowhere else."""

import json
import sys

import pytest

from recsys.commands.sweeps.study import STUDY
from tests import test_sweeps

here, quick = test_sweeps.here, test_sweeps.quick

COMMAND = ["sweep=grid", "sweep.space={model.width: 'choice(1,2)'}", "run_dir=search"]
RERANK = "sweep.rerank={top: 1, seeds: [7]}"
CODE = "from pathlib import Path\nPath('marker').touch()\nclass Model:\n    pass\n"


@pytest.fixture
def journal(here, quick, monkeypatch):
    """Makes a finished sweep, and changes each line of its journal by a function."""
    quick(*COMMAND)
    (here / "payload_of_a_stranger.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(here))
    path = here / "search" / STUDY

    def change(of_line):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(one) + "\n" for line in lines for one in of_line(line)))

    yield change
    assert not (here / "marker").exists()
    assert "payload_of_a_stranger" not in sys.modules


@pytest.mark.parametrize(
    "overrides",
    [
        ["trust=[payload_of_a_stranger]", "model._target_=payload_of_a_stranger.Model"],
        ["hydra/launcher=basic", "hydra.launcher._target_=payload_of_a_stranger.Model"],
        ["run_dir=elsewhere"],
    ],
)
def test_overrides_in_a_journal_are_not_those_of_the_trials_that_run_again(
    journal,
    quick,
    here,
    overrides,
):
    def hostile(line):
        if "overrides" in line.get("user_attr", {}):
            line["user_attr"]["overrides"] = overrides
        return [line]

    journal(hostile)
    quick(*COMMAND, RERANK)
    winner = json.loads((here / "search" / "winner.json").read_text())["winner"]
    assert winner["overrides"] == ["model.width=2"]
    assert "stranger" not in winner["command"]
    again = json.loads((here / "search" / "rerank" / "1-seed7" / "trial.json").read_text())
    assert again["overrides"] == ["model.width=2", "seed=7"]
    assert not (here / "elsewhere").exists()


@pytest.mark.parametrize(
    "distribution",
    [
        {
            "name": "CategoricalDistribution",
            "attributes": {"choices": ["2", "1,trust=[payload_of_a_stranger]"]},
        },
        {"name": "IntDistribution", "attributes": {"log": False, "step": 1, "low": 1, "high": 9}},
    ],
)
def test_values_outside_the_space_are_refused_with_the_file(journal, quick, distribution):
    journal(
        lambda line: [line | {"distribution": json.dumps(distribution)} if "distribution" in line else line]
    )
    _, err = quick(*COMMAND, RERANK, status=2)
    assert "study.log`" in err
    assert "Traceback" not in err


def test_distribution_of_an_unknown_class_is_damage(journal, quick):
    hostile = json.dumps({"name": "payload_of_a_stranger.Model", "attributes": {}})
    journal(lambda line: [line | {"distribution": hostile} if "distribution" in line else line])
    _, err = quick(*COMMAND, RERANK, status=2)
    assert "study.log` is damaged in line" in err


@pytest.mark.parametrize(
    "asked",
    [{"trial": "../../../strange", "seed": 1}, {"trial": 0, "seed": "1"}, {"trial": 99, "seed": 1}, 7],
)
def test_runs_again_lie_in_the_folder(journal, quick, here, asked):
    quick(*COMMAND, "sweep.rerank={top: 1, seeds: [7, 8]}")

    def hostile(line):
        fixed = line.get("system_attrs", {}).get("fixed_params", {})
        if "trial" in fixed:
            line["system_attrs"]["fixed_params"] = asked
        # Nothing that says how these runs ended, nor what they were drawn to be: they are to run again.
        return [] if line["op_code"] in (5, 6, 8) and line["trial_id"] > 1 else [line]

    journal(hostile)
    _, err = quick(*COMMAND, "sweep.rerank={top: 1, seeds: [7, 8]}", status=2)
    assert "study.log`" in err
    assert "Traceback" not in err
    assert not list(here.parent.rglob("strange*"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trial.json", "[]"),
        ("trial.json", "{nonsense"),
        ("trial.json", '{"number": 1, "overrides": [7], "status": "complete", "seconds": 1}'),
        ("metrics.json", "{}"),
        ("metrics.json", '{"validation": {"ndcg@10": "subprocess.run"}, "seed": 0}'),
    ],
)
def test_what_a_trial_has_left_is_damaged_by_name(here, quick, name, content):
    quick(*COMMAND)
    (here / "search" / "1" / name).write_text(content)
    _, err = quick(*COMMAND, status=2)
    assert f"1/{name}` is damaged" in err
    assert "Traceback" not in err
