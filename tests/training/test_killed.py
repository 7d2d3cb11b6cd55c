"""SIGKILL loses nothing but the steps since the last checkpoint, and those come out the same."""

import dataclasses
import multiprocessing
import random
import threading
import time

import pytest

from tests.training.runs import Case, checkpoint, differences, run

TRAINER = dataclasses.replace(Case().trainer, patience=2, checkpoint_every_steps=3, max_epochs=6)


@pytest.fixture(scope="module")
def processes():
    """Starts processes by fork from one that has run nothing: OpenMP's threads do not survive it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.runs"])
    return context


def run_in(processes, case, options, run_dir, *, resume=False, kill_after=None) -> int:
    """Trains in a process of its own, killed after `kill_after` seconds, and returns its exit code."""
    job = processes.Process(target=run, args=(case, options, run_dir), kwargs={"resume": resume})
    job.start()
    if kill_after is not None:
        threading.Timer(kill_after, job.kill).start()
    job.join(timeout=240)
    assert job.exitcode is not None, "hangs"
    return job.exitcode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "average_decay"),
    [("wide_deep", None), ("two_tower", None), ("sequence_two_tower", None), ("final_mlp", 0.9)],
)
@pytest.mark.parametrize("tables", ["adamw", "rowwise_adagrad"])
def test_killed_at_any_step_and_resumed_equals_not_killed(
    processes, options, tmp_path, model, average_decay, tables
):
    trainer = dataclasses.replace(TRAINER, average_decay=average_decay)
    if model == "sequence_two_tower":  # a window is learnt in one pass: a few users make an epoch of one step
        options = dataclasses.replace(options, batch_size=4)
    case = Case(model=model, tables=tables, dropout=0.2, trainer=trainer)
    assert run_in(processes, case, options, tmp_path / "whole") == 0
    expected = {name: checkpoint(tmp_path / "whole", name) for name in ("best", "last")}
    num_steps = expected["last"]["global_step"]
    for kill_at in random.Random(f"{model} {tables}").sample(range(1, num_steps), 5):
        run_dir = tmp_path / f"killed-{kill_at}"
        broken = dataclasses.replace(case, kill_at=kill_at)
        assert run_in(processes, broken, options, run_dir) == -9
        assert run_in(processes, case, options, run_dir, resume=True) == 0
        for name, whole in expected.items():
            assert differences(whole, checkpoint(run_dir, name)) == [], f"killed at {kill_at}: {name}"


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written_leaves_a_whole_one(processes, options, tmp_path):
    """`last` is written after every step; whenever the process dies, what is there can be resumed from."""
    trainer = dataclasses.replace(TRAINER, checkpoint_every_steps=1, max_epochs=40, patience=None)
    case = Case(trainer=trainer)
    started = time.monotonic()
    assert run_in(processes, case, options, tmp_path / "whole") == 0
    seconds = time.monotonic() - started
    expected = checkpoint(tmp_path / "whole")
    draw = random.Random(0)
    run_dir = tmp_path / "killed"
    for _ in range(3):
        run_in(processes, case, options, run_dir, resume=True, kill_after=draw.uniform(0.3, 0.9) * seconds)
        if (run_dir / "checkpoints" / "last").exists():
            assert checkpoint(run_dir)["global_step"] > 0
    assert run_in(processes, case, options, run_dir, resume=True) == 0
    assert differences(expected, checkpoint(run_dir)) == []
