"""Sweeps whose runs are handed to another process: by submitit (the way to SLURM) and by Ray."""

import csv
import importlib.util
import json
import os
import subprocess
import sys

import pytest

import train
from recsys.runs.environment import PROJECT


def missing(plugin):
    found = importlib.util.find_spec("hydra_plugins")
    return found is None or importlib.util.find_spec(f"hydra_plugins.{plugin}") is None


SUBMITIT, RAY = "hydra_submitit_launcher", "hydra_ray_launcher"


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A command line for a table of 30 users and 12 items; the folder of the command is its own."""
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp"])
        rows.writerows(
            (f"u{user}", f"p{(7 * step + user) % 12}", 1_700_000_000 + 3600 * step)
            for user in range(30)
            for step in range(9)
        )
    return [
        "data=table",
        "data.interactions.path=events.csv",
        "data.split=leave_last_out",
        "data.cache_dir=cache",
        "trainer.max_epochs=1",
        "trainer.log_every_n_steps=1",
        "evaluation=fast",
    ]


def swept(folder, *arguments):
    """Runs the command in a process of its own, and returns its stdout and the rows of the table it made."""
    command = [sys.executable, str(PROJECT / "train.py"), *arguments, "run_dir=several"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    with (folder / "several" / "results.csv").open() as file:
        return ended.stdout, list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.skipif(missing(SUBMITIT), reason="the extra `slurm` is not installed")
def test_runs_of_a_sweep_go_through_submitit(words, tmp_path):
    # A dimension of 6 is refused when the model is built, within the run's own process.
    widths = "model.embedding_dim=8,6"
    out, rows = swept(tmp_path, "-m", *words, widths, "hydra/launcher=submitit_local")
    assert out.splitlines()[-1] == "several"
    assert [(row["model.embedding_dim"], row["status"]) for row in rows] == [
        ("8", "complete"),
        ("6", "failed"),
    ]
    assert "must be a positive multiple of 4, got 6" in rows[1]["error"]
    assert rows[0]["path"] == "several/0"
    assert (tmp_path / "several" / "0" / "checkpoints" / "best").is_file()
    assert len(list((tmp_path / "several" / ".submitit").rglob("*_result.pkl"))) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "events.csv", "several"}


@pytest.mark.slow
@pytest.mark.skipif(missing(SUBMITIT), reason="the extra `slurm` is not installed")
def test_trials_of_a_search_go_through_submitit(words, tmp_path):
    search = ["sweep=two_tower", "sweep.num_trials=2", "sweep.parallel=2", "hydra/launcher=submitit_local"]
    _, rows = swept(tmp_path, *words, *search, "sweep.rerank={top: 1, seeds: [1]}")
    assert [row["status"] for row in rows] == ["complete", "complete"]
    trials = [json.loads((tmp_path / row["path"] / "trial.json").read_text()) for row in rows]
    assert {trial["number"] for trial in trials} == {0, 1}
    winner = json.loads((tmp_path / "several" / "winner.json").read_text())["winner"]
    assert list(winner["values"]) == ["1"]


@pytest.mark.slow
@pytest.mark.skipif(missing(RAY), reason="the extra `ray` is not installed")
def test_runs_of_a_sweep_go_through_ray(words, tmp_path):
    ray = ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=1"]
    out, rows = swept(tmp_path, "-m", *words, "seed=0,1", *ray)
    assert out.splitlines()[-1] == "several"
    assert [row["status"] for row in rows] == ["complete", "complete"]
    assert rows[0]["path"] == "several/0" or rows[1]["path"] == "several/0"


def end(*arguments):
    with pytest.raises(SystemExit) as ended:
        train.main(arguments)
    return ended.value.code


@pytest.mark.parametrize(
    ("plugin", "launcher", "extra"), [(SUBMITIT, "submitit_slurm", "slurm"), (RAY, "ray", "ray")]
)
def test_launcher_that_is_not_installed_names_the_extra(words, capsys, plugin, launcher, extra):
    if not missing(plugin):
        pytest.skip(f"the extra `{extra}` is installed")
    assert end("-m", "seed=0,1", f"hydra/launcher={launcher}") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: `hydra/launcher={launcher}` is not there; there are: basic; "
        f"install it with `pip install --editable '.[{extra}]'`"
    )


def test_mistyped_launcher_names_those_there_are(words, capsys):
    assert end("-m", "seed=0,1", "hydra/launcher=basik") == 2
    assert "`hydra/launcher=basik` is not there; there are: basic" in capsys.readouterr().err


@pytest.mark.skipif(missing(SUBMITIT), reason="the extra `slurm` is not installed")
def test_slurm_is_refused_where_there_is_none(words, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert end("-m", "seed=0,1", "hydra/launcher=submitit_slurm") == 2
    assert "needs SLURM, and there is no `srun` here" in capsys.readouterr().err
