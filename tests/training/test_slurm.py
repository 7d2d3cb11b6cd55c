"""The SLURM file of docs/how_to/many_processes.md, run by a SLURM of two nodes on this machine."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.runs import checkpoint, differences

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how_to" / "many_processes.md"
NODES = ("node1", "node2")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.distributed,
    pytest.mark.skipif(
        os.geteuid() != 0
        or not all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch", "srun")),
        reason="needs root and SLURM (Debian: slurmctld slurmd slurm-client)",
    ),
]

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SelectType=select/linear
ReturnToService=2
RequeueExit=250
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port=17001 CPUs=1
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port=17002 CPUs=1
PartitionName=all Nodes=node1,node2 Default=YES State=UP
"""


@pytest.fixture
def slurm(tmp_path):
    """Runs a command among SLURM's daemons, in namespaces that take them along when they end."""
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (tmp_path / name).mkdir()
    host = os.uname().nodename
    (tmp_path / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=tmp_path))
    hosts = Path("/etc/hosts").read_text()
    (tmp_path / "hosts").write_text(f"{hosts}\n127.0.0.1 {' '.join(NODES)}\n")
    daemons = " && ".join(["slurmctld", *(f"slurmd -N {node}" for node in NODES)])
    inner = f'mount --bind {tmp_path}/hosts /etc/hosts && {daemons} && exec "$@"'
    enter = ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c", inner, "sh"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "SLURM_CONF": str(tmp_path / "slurm.conf"), "PATH": path}

    def run(script: str) -> subprocess.CompletedProcess:
        command = [*enter, "sh", "-ec", script]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)

    return run


def job_file(tmp_path) -> str:
    """The file of the page, on two nodes without GPUs, with data of its own."""
    text = re.search(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    overrides = (
        "model=wide_deep data=synthetic data.source.num_interactions=20000 data.batch_size=64 "
        "trainer.max_epochs=2 trainer.checkpoint_every_steps=5 trainer.patience=null "
        f"data.cache_dir={tmp_path}/cache"
    )
    for written, here in (
        (" --gpus-per-node=8 --cpus-per-task=32", ""),
        ("--nproc-per-node 8", "--nproc-per-node 1"),
        (" trainer.accelerator=gpu", f" {overrides}"),
        ("run_dir=runs/", f"run_dir={tmp_path}/runs/"),
    ):
        assert written in text
        text = text.replace(written, here)
    return text


def test_file_of_the_page_trains_on_two_nodes_and_a_requeued_job_goes_on_with_its_run(slurm, tmp_path):
    (tmp_path / "job.sh").write_text(job_file(tmp_path))
    whole, requeued = tmp_path / "runs" / "1", tmp_path / "runs" / "2"
    script = f"""
        until sinfo --noheader --states=idle | grep -q ' 2 '; do sleep .2; done
        sbatch --wait --output={tmp_path}/out-%j.txt {tmp_path}/job.sh
        sbatch --output={tmp_path}/out-%j.txt {tmp_path}/job.sh
        until test -e {requeued}/checkpoints/last; do sleep .05; done
        scontrol requeue 2
        sleep 3
        scontrol update JobId=2 StartTime=now
        until test -e {requeued}/metrics.json || ! squeue --noheader | grep -q .; do sleep .2; done
    """
    started = time.monotonic()
    done = slurm(script)
    said = [file.read_text()[-3000:] for file in sorted(tmp_path.glob("out-*.txt"))]
    assert done.returncode == 0, (done.stderr, said, time.monotonic() - started)
    assert (requeued / "metrics.json").is_file(), said
    assert "resumed_from" in (requeued / "environment.json").read_text()
    assert differences(checkpoint(whole), checkpoint(requeued)) == []
