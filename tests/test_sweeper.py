import csv
import dataclasses
import json
import subprocess
import sys

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage

from recsys.commands import results
from recsys.commands.entry import command
from recsys.commands.sweeps.options import SweepOptions
from recsys.config.register import trusting
from recsys.config.targets import Factory
from recsys.schema.errors import InputError
from recsys.schema.manifest import write_json


@pytest.fixture(autouse=True)
def _classes_of_tests_may_be_named():
    with trusting(["tests"]):
        yield


class Model:
    def __init__(self, schema: str, *, width: int = 1, drop: float = 0.0, sizes: str = "a") -> None:
        pass


class Task:
    monitor = "val/ndcg@10"


class LossTask:
    monitor = "val/log_loss"


@dataclasses.dataclass(frozen=True)
class Trainer:
    monitor: str | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    model: Factory
    task: Factory
    trainer: Trainer = dataclasses.field(default_factory=Trainer)
    seed: int = 0
    run_dir: str | None = None
    sweep: SweepOptions | None = None


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A training command whose metric is the model's width; a width of 13 fails."""
    files = {
        "train.yaml": "defaults: [_self_, experiment: null, sweep: null]\n"
        f"model: {{_target_: {__name__}.Model, width: 1}}\ntask: {{_target_: {__name__}.Task}}\n"
        "trainer: {monitor: null}\nseed: 0\nrun_dir: null",
        "experiment/loss.yaml": f"# @package _global_\ntask: {{_target_: {__name__}.LossTask}}",
        "sweep/grid.yaml": "space: {model.width: 'choice(4,13,2)'}\nworkers: 0",
        "sweep/wide.yaml": "space: {model.width: 'int(interval(1,100))', model.drop: 'interval(0.0,0.5)'}\n"
        "workers: 0",
        "sweep/wrong.yaml": "space: {model.widht: 'choice(1,2)', seed: 'choice(1,x)', model.drop: '0.5'}",
    }
    for name, text in files.items():
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def work(options, composed):
        path = tmp_path / "here" / options.run_dir
        width = options.model.arguments["width"]
        if width == 13:
            raise InputError("the unlucky table must have the columns b; missing: `b`; found: a")
        if width == 99:
            return {}["a fault of ours"]
        name = options.task.target.monitor
        validation = {name.removeprefix("val/"): float(width), "other": -float(width)}
        test = {name.removeprefix("val/"): width / 2}
        metrics = {"validation": validation, "test": test, "monitor": name, "seed": options.seed}
        write_json(path / "metrics.json", metrics)
        return path

    entry = command("train", Options, repeats=True, configs=tmp_path / "configs")(work)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            entry(arguments)
        return ended.value.code

    run.here = tmp_path / "here"
    return run


def rows(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_each_value_becomes_a_run_and_the_best_comes_first(train, capsys):
    assert train("-m", "model.width=2,7,5", "seed=3", "run_dir=several") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "several"
    table = rows(train.here / "several")
    assert [row["model.width"] for row in table] == ["7", "5", "2"]
    assert [row["validation/ndcg@10"] for row in table] == ["7.0", "5.0", "2.0"]
    assert [row["test/ndcg@10"] for row in table] == ["3.5", "2.5", "1.0"]
    assert "seed" not in table[0]  # the same in all of them
    assert "best: python train.py model.width=7 seed=3" in err


def test_runs_in_a_folder_that_was_named_for_them_go_on(train, capsys):
    assert train("-m", "model.width=2,13") == 0
    folder = capsys.readouterr().out.splitlines()[-1]
    assert train("-m", "model.width=2,13", f"run_dir={folder}") == 0
    err = capsys.readouterr().err
    assert "trial 0 is done already" in err
    assert "trial 1: begins" in err  # what failed is tried again
    assert train("-m", "model.width=2,5", f"run_dir={folder}") == 2


def test_failing_run_is_recorded_and_ends_nothing(train, capsys):
    assert train("-m", "model.width=13,2", "run_dir=several") == 0
    best, failed = rows(train.here / "several")
    assert (best["status"], failed["status"]) == ("complete", "failed")
    assert failed["error"].startswith("InputError: the unlucky table must have the columns b")
    _, err = capsys.readouterr()
    assert "error: the unlucky table must have the columns b" in err
    assert "trial 0 failed: InputError: the unlucky table" in err
    assert "Traceback" not in err


def test_run_that_fails_by_a_fault_of_ours_shows_where(train, capsys):
    assert train("-m", "model.width=99,2", "run_dir=several") == 0
    assert "Traceback" in capsys.readouterr().err
    assert rows(train.here / "several")[1]["error"] == "KeyError: 'a fault of ours'"


def test_sweep_of_which_every_run_fails_by_a_mistake_says_so(train, capsys):
    assert train("-m", "model.width=13", "seed=1,2", "run_dir=several") == 2
    assert len(rows(train.here / "several")) == 2
    err = capsys.readouterr().err
    assert "error: all of 2 trials failed, the first one by: InputError: the unlucky table must have" in err


def test_sweep_of_which_every_run_fails_by_a_fault_of_ours_is_one(train):
    assert train("-m", "model.width=99", "seed=1,2", "run_dir=several") == 1


def test_less_of_a_loss_is_better(train, capsys):
    assert train("-m", "model.width=3,2,5", "experiment=loss", "run_dir=several") == 0
    assert [row["model.width"] for row in rows(train.here / "several")] == ["2", "3", "5"]


def test_search_of_few_values_tries_each_once_without_a_flag(train, capsys):
    assert train("sweep=grid", "run_dir=search", "seed=5") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "search"
    table = rows(train.here / "search")
    assert [row["model.width"] for row in table] == ["4", "2", "13"]
    assert table[-1]["status"] == "failed"
    assert "best: python train.py seed=5 model.width=4" in err
    storage = JournalStorage(JournalFileBackend(str(train.here / "search" / "study.log")))
    study = optuna.load_study(study_name="search", storage=storage)
    assert [trial.state.name for trial in study.trials].count("FAIL") == 1
    assert study.best_params == {"model.width": "4"}
    assert json.loads((train.here / "search" / "0" / "trial.json").read_text())["status"] == "complete"


@pytest.mark.slow
def test_search_finds_better_values_than_it_began_with(train):
    assert train("sweep=wide", "sweep.num_trials=25", "run_dir=search") == 0
    table = rows(train.here / "search")
    assert len(table) == 25
    assert all(1 <= int(row["model.width"]) <= 100 for row in table)
    assert all(0.0 <= float(row["model.drop"]) <= 0.5 for row in table)
    by_trial = sorted(table, key=lambda row: int(row["trial"]))
    first = [float(row["validation/ndcg@10"]) for row in by_trial[:8] if row["validation/ndcg@10"]]
    assert float(table[0]["validation/ndcg@10"]) > max(first)


def test_same_seed_searches_the_same_values(train):
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        assert train("sweep=wide", "sweep.num_trials=4", f"sweep.seed={seed}", f"run_dir={name}") == 0
    drawn = [sorted(row["model.drop"] for row in rows(train.here / name)) for name in ("one", "two", "other")]
    assert drawn[0] == drawn[1] != drawn[2]


def test_key_given_on_the_command_line_is_not_searched(train):
    assert train("sweep=wide", "model.drop=0.25", "sweep.num_trials=3", "run_dir=search") == 0
    assert "model.drop" not in rows(train.here / "search")[0]
    assert train("sweep=grid", "seed=7,8", "model.width=6", "run_dir=more") == 0
    assert sorted(row["seed"] for row in rows(train.here / "more")) == ["7", "8"]


def test_another_metric_can_be_searched(train):
    metric = ["sweep.metric=other", "sweep.direction=maximize"]
    assert train("sweep=grid", *metric, "run_dir=search") == 0
    assert [row["model.width"] for row in rows(train.here / "search")] == ["2", "4", "13"]


def test_metric_that_does_not_exist_names_those_that_do(train, capsys):
    assert train("sweep=grid", "sweep.metric=recall@7", "run_dir=search") == 2
    assert "error: `sweep.metric` must name a validation metric, got `recall@7`" in capsys.readouterr().err


def test_mistakes_of_the_space_are_reported_before_any_run(train, capsys):
    assert train("sweep=wrong", "run_dir=search") == 2
    lines = capsys.readouterr().err.splitlines()
    assert any("takes no `widht`" in line and "did you mean `model.width`?" in line for line in lines)
    assert "error: expected int for `seed`, got 'x'" in " ".join(lines)
    assert any("`sweep.space.model.drop` must be a choice(...)" in line for line in lines)
    assert not (train.here / "search").exists()


def test_folder_that_holds_something_is_not_written_to(train, capsys):
    (train.here / "taken").mkdir()
    (train.here / "taken" / "letter.txt").write_text("mine")
    assert train("-m", "model.width=2,3", "run_dir=taken") == 2
    assert "`taken` holds something" in capsys.readouterr().err
    assert [path.name for path in (train.here / "taken").iterdir()] == ["letter.txt"]


def test_table_of_no_runs_is_empty(tmp_path):
    assert not results.summarise(tmp_path)


def test_metrics_from_before_a_failure_are_not_those_of_the_trial(tmp_path, capsys):
    """A run that was whole, was taken up again and failed: its former metrics still lie there."""
    for number, (status, value) in enumerate([("failed", 0.9), ("complete", 0.1)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        ending = {"number": number, "overrides": [f"model.width={number}"], "status": status, "seconds": 1}
        (folder / "trial.json").write_text(json.dumps(ending))
        metrics = {"validation": {"auc": value}, "seed": 0, "monitor": "val/auc"}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    assert results.summarise(tmp_path)
    assert "best: python train.py model.width=1" in capsys.readouterr().out
    with (tmp_path / "results.csv").open() as file:
        assert [(row["trial"], row["validation/auc"]) for row in csv.DictReader(file)] == [
            ("1", "0.1"),
            ("0", ""),
        ]


def test_nothing_of_hydra_is_left_behind(train):
    assert train("-m", "model.width=2,3") == 0
    [runs] = train.here.iterdir()
    assert runs.name == "runs"
    assert {path.name for path in runs.rglob(".hydra")} == set()
    assert {path.name for path in runs.rglob("*.log")} == set()


@pytest.mark.parametrize("options", [{"num_trials": 0}, {"parallel": 0}])
def test_impossible_sweep_is_refused(options):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        SweepOptions(space={}, **options)


def test_importing_the_sweeper_needs_no_torch():
    program = "import recsys.commands.sweeps.search, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
