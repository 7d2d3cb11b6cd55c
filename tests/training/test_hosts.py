"""Two hosts train together over gloo; one is cut off, slowed, killed and comes back, and nothing is lost.

What is compared is the last checkpoint, bit for bit, with that of two hosts that nothing befell.
"""

import sys
import time

import pytest

from tests.training.hosts import can_make_hosts, two_hosts, wait_for
from tests.training.runs import checkpoint, differences

pytestmark = [
    pytest.mark.slow,
    pytest.mark.distributed,
    pytest.mark.skipif(not can_make_hosts(), reason="needs root, and a kernel with network namespaces"),
]


def command(folder, run_dir) -> list[str]:
    """The command of docs/how_to/many_processes.md, on data of its own."""
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
        *("--max-restarts", "3", "--rdzv-id", run_dir.name, "--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", "first:29500", "train.py", "trainer=sharded", "model=wide_deep"),
        *("optimizer.tables=rowwise_adagrad", "data=synthetic", "data.source.num_interactions=20000"),
        *("data.batch_size=64", "trainer.max_epochs=2", "trainer.checkpoint_every_steps=5"),
        *("trainer.patience=null", f"data.cache_dir={folder / 'cache'}", f"run_dir={run_dir}"),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the hosts share: the data, and the run `whole` that nothing befell."""
    shared = tmp_path_factory.mktemp("shared")
    logs = [shared / "first.log", shared / "second.log"]
    with two_hosts() as hosts:
        jobs = [
            host.start(command(shared, shared / "whole"), log) for host, log in zip(hosts, logs, strict=True)
        ]
        assert [job.wait(timeout=240) for job in jobs] == [0, 0], logs[0].read_text()[-4000:]
    assert (shared / "whole" / "metrics.json").is_file()
    return shared


def train_on(hosts, folder, run_dir):
    """Starts the command on both hosts and waits for the first checkpoint."""
    jobs = [host.start(command(folder, run_dir), folder / f"{run_dir.name}.log") for host in hosts]
    wait_for((run_dir / "checkpoints" / "last").exists, jobs[0], folder / f"{run_dir.name}.log")
    return jobs


def written(run_dir) -> float:
    """When the last checkpoint was written."""
    return (run_dir / "checkpoints" / "last").stat().st_mtime


def assert_same(folder, run_dir) -> None:
    for name in ("last", "best"):
        assert differences(checkpoint(folder / "whole", name), checkpoint(run_dir, name)) == []


def test_host_cut_off_slowed_and_killed_comes_back_and_the_run_ends_as_if_nothing_had_been(folder):
    run_dir, log = folder / "disturbed", folder / "disturbed.log"
    with two_hosts() as (first, second):
        job, _ = train_on((first, second), folder, run_dir)

        second.cut()
        time.sleep(1)
        before = written(run_dir)
        time.sleep(4)  # less than the 15 s after which torchrun gives a host up
        assert written(run_dir) == before, "trained on without the other host"
        second.mend()
        first.slow("20mbit")
        second.slow("20mbit")
        wait_for(lambda: written(run_dir) > before, job, log)
        assert "resumed_from" not in (run_dir / "environment.json").read_text()

        second.die()
        time.sleep(1)
        second.mend()
        back = second.start(command(folder, run_dir), log)
        assert [job.wait(timeout=240), back.wait(timeout=60)] == [0, 0], log.read_text()[-4000:]
    assert "resumed_from" in (run_dir / "environment.json").read_text()
    assert "holds something" not in log.read_text()
    assert_same(folder, run_dir)


def test_host_where_all_meet_dies_and_the_same_commands_go_on_with_the_run(folder):
    run_dir, log = folder / "leaderless", folder / "leaderless.log"
    with two_hosts() as (first, second):
        _, left = train_on((first, second), folder, run_dir)
        first.die()
        first.mend()
        assert left.wait(timeout=200) != 0, "torchrun has nobody to meet, and must end"
        jobs = [host.start(command(folder, run_dir), log) for host in (first, second)]
        assert [job.wait(timeout=240) for job in jobs] == [0, 0], log.read_text()[-4000:]
    assert_same(folder, run_dir)
