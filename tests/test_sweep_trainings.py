"""Sweeps of real trainings, on a small generated world."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recsys.runs.environment import PROJECT

SWEEPS = sorted(path.stem for path in (PROJECT / "configs" / "sweep").glob("*.yaml"))
WORLD = ["data=synthetic", "data.source.num_users=200", "data.source.num_items=80"]
SMALL = [*WORLD, "data.source.num_interactions=4000", "data.cache_dir=cache", "evaluation=fast"]


def start(here, *arguments):
    command = [sys.executable, str(PROJECT / "train.py"), *SMALL, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(
        command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def children(pid):
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in path.read_text().split()]


def validations(folder, num_trials):
    return [
        json.loads((folder / str(number) / "metrics.json").read_text())["validation"]
        for number in range(num_trials)
    ]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found through /proc")
def test_training_whose_worker_is_killed_goes_on_from_last_to_the_same_figures(tmp_path):
    command = ["sweep=two_tower", "sweep.num_trials=2", "sweep.rerank.top=0", "trainer.max_epochs=6"]
    finish(start(tmp_path, *command, "run_dir=whole"))
    process = start(tmp_path, *command, "run_dir=search")
    last = tmp_path / "search" / "1" / "checkpoints" / "last"
    until = time.monotonic() + 120
    while not last.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    [worker] = children(process.pid)
    os.kill(worker, signal.SIGKILL)
    _, err = finish(process)
    assert "a worker died (SIGKILL" in err
    assert "trial 1: goes on in `search/1`" in err
    assert "resumed_from" in json.loads((tmp_path / "search" / "1" / "environment.json").read_text())
    assert validations(tmp_path / "search", 2) == validations(tmp_path / "whole", 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEEPS)
def test_shipped_sweep_ends_with_a_winner_whose_command_trains(tmp_path, name):
    search = [f"sweep={name}", "sweep.num_trials=4", "trainer.max_epochs=3"]
    early = ["sweep.prune={startup_trials: 1, warmup_epochs: 1}", "sweep.rerank={top: 2, seeds: [0, 1]}"]
    out, err = finish(start(tmp_path, *search, *early, "run_dir=search"))
    assert out == "search\n"
    told = json.loads((tmp_path / "search" / "winner.json").read_text())
    assert sum(told["budget"]["trials"].values()) == 4
    assert "fail" not in told["budget"]["trials"]
    winner = told["winner"]
    assert set(winner["values"]) == {"0", "1"}
    assert f"best: {winner['command']}" in err
    # The command, as it is printed, is the run that was measured.
    words = winner["overrides"][len(SMALL) :]
    finish(start(tmp_path, *words, "run_dir=again"))
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert again["validation"][told["metric"].removeprefix("val/")] == winner["values"]["0"]
