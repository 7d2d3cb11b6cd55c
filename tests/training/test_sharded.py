"""Several processes train as one does: torchrun starts them, gloo connects them."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training.runs import Case, checkpoint, differences, run

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.distributed


def sharded(case: Case) -> Case:
    return dataclasses.replace(case, trainer=dataclasses.replace(case.trainer, strategy="sharded"))


def torchrun(
    jobs, folder, *, num_ranks: int = 2, flags=(), check: bool = True
) -> list[list[float]] | subprocess.CompletedProcess:
    """Runs jobs (case, options, run_dir, resume) one after the other in `num_ranks` processes."""
    (folder / "jobs").write_bytes(pickle.dumps(jobs))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(num_ranks)),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", *flags),
        *("-m", "tests.training.runs", str(folder / "jobs"), str(folder / "losses")),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if not check:
        return done
    assert done.returncode == 0, done.stderr[-4000:]
    return pickle.loads((folder / "losses").read_bytes())


CASES = {
    "ranking": Case(model="wide_deep"),
    "ranking, tables moved by AdamW": Case(model="wide_deep", tables="adamw"),
    "DeepFM": Case(model="deep_fm"),
    "full softmax": Case(),
    "in-batch softmax": Case(loss="in_batch_softmax"),
    "sampled softmax": Case(loss="sampled_softmax"),
    "BPR": Case(loss="bpr"),
    "sequences, full softmax": Case(model="sequence_two_tower"),
    "sequences, sampled softmax": Case(model="sequence_two_tower", loss="sampled_softmax"),
    "matrix factorization, fused alone": Case(model="matrix_factorization", tables="adagrad"),
}


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(options, tmp_path):
    # 63 does not divide by two, nor the rows of an epoch by 63: parts are uneven.
    options = dataclasses.replace(options, batch_size=63)  # of sequences: one batch an epoch
    trainer = dataclasses.replace(Case().trainer, max_epochs=200, max_steps=200, validate_every_epochs=5)
    cases = {name: dataclasses.replace(case, trainer=trainer) for name, case in CASES.items()}
    jobs = [(sharded(case), options, tmp_path / f"two-{name}", False) for name, case in cases.items()]
    together = torchrun(jobs, tmp_path)
    for (name, case), two in zip(cases.items(), together, strict=True):
        one = run(case, options, tmp_path / f"one-{name}")
        assert len(one) == len(two) >= 200, name
        # A transformer amplifies float32's rounding: equal to 1e-7 for 20 steps, to 2e-3 after 200.
        size = 40 if name.startswith("sequences") else 200
        two, one = torch.tensor(two[:size]), torch.tensor(one[:size])
        torch.testing.assert_close(two, one, rtol=1e-4, atol=0, msg=name)


@pytest.mark.slow
def test_same_processes_and_seed_give_the_same_weights_twice(options, tmp_path):
    case = sharded(Case(dropout=0.2))
    torchrun([(case, options, tmp_path / name, False) for name in ("a", "b")], tmp_path)
    assert differences(checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b")) == []


@pytest.mark.slow
@pytest.mark.parametrize("model", ["wide_deep", "two_tower"])
def test_run_of_two_processes_resumes_on_one_and_the_other_way_round(options, tmp_path, model):
    trainer = dataclasses.replace(Case().trainer, max_epochs=4)
    case = Case(model=model, trainer=trainer)
    whole = run(case, options, tmp_path / "whole")
    # Killed in the middle of the second epoch, at the step after one at which a checkpoint is written.
    stop = len(whole) // 4 + 2
    broken = dataclasses.replace(
        case, trainer=dataclasses.replace(trainer, checkpoint_every_steps=stop), kill_at=stop
    )
    torchrun([(sharded(broken), options, tmp_path / "two", False)], tmp_path, check=False)
    rest = run(case, options, tmp_path / "two", resume=True)
    torch.testing.assert_close(torch.tensor(rest), torch.tensor(whole[stop:]), rtol=1e-4, atol=0)

    short = dataclasses.replace(trainer, max_epochs=2)
    run(dataclasses.replace(case, trainer=short), options, tmp_path / "one")
    before = checkpoint(tmp_path / "one")
    [rest] = torchrun(
        [(sharded(dataclasses.replace(case, trainer=short)), options, tmp_path / "one", True)], tmp_path
    )
    assert rest == []  # nothing left to do: what was read is written again as it was
    assert differences(before["state_dict"], checkpoint(tmp_path / "one")["state_dict"]) == []


@pytest.mark.slow
def test_rank_that_dies_ends_the_job_at_once_and_it_resumes(options, tmp_path):
    trainer = dataclasses.replace(Case().trainer, checkpoint_every_steps=1)
    case = sharded(Case(trainer=trainer))
    [whole] = torchrun([(case, options, tmp_path / "whole", False)], tmp_path)
    broken = dataclasses.replace(case, kill_at=len(whole) // 2, kill_rank=1)
    started = time.monotonic()
    done = torchrun([(broken, options, tmp_path / "broken", False)], tmp_path, check=False)
    assert done.returncode != 0
    assert "Signal 9 (SIGKILL) received" in done.stderr
    assert time.monotonic() - started < 120  # start-up included; a collective's time-out is two hours
    [rest] = torchrun([(case, options, tmp_path / "broken", True)], tmp_path)
    assert rest == whole[-len(rest) :]
    assert len(rest) == len(whole) - len(whole) // 2
    found = differences(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "broken"))
    assert found == []


@pytest.mark.slow
def test_torchrun_starts_killed_processes_again_and_they_finish_the_run(options, tmp_path):
    """The command as users give it; one of its processes is killed from outside once `last` is there."""
    overrides = [
        *("trainer=sharded", "optimizer.tables=rowwise_adagrad", "data=synthetic", "model=wide_deep"),
        *("trainer.max_epochs=3", "trainer.checkpoint_every_steps=5", "trainer.patience=null"),
        *(f"data.cache_dir={tmp_path / 'cache'}", "data.source.num_interactions=20000", "data.batch_size=64"),
    ]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "train.py", *overrides]
    run_dir = tmp_path / "run"
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [*command, f"run_dir={run_dir}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=log
        ) as job,
    ):
        try:
            _wait_for(run_dir / "checkpoints" / "last", job)
            victim = next(pid for pid in _children(job.pid) if _environment(pid).get("RANK") == "1")
            os.kill(victim, signal.SIGKILL)
            stdout, _ = job.communicate(timeout=240)
        finally:
            job.kill()
    text = (tmp_path / "log").read_text()
    assert job.returncode == 0, text[-4000:]
    assert stdout.decode().splitlines()[-1] == str(run_dir)
    assert (run_dir / "metrics.json").is_file()
    assert "resumed_from" in (run_dir / "environment.json").read_text()


def _wait_for(path: Path, job: subprocess.Popen) -> None:
    for _ in range(2400):
        if path.exists():
            return
        assert job.poll() is None, "ended early"
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _environment(pid: int) -> dict[str, str]:
    parts = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(part.split("=", 1) for part in parts if "=" in part)
