"""Every benchmark runs at toy size, its figures being sane and meaning nothing."""

import json
import subprocess
import sys

import pytest

from benchmarks import peer_loops, peers
from benchmarks.__main__ import NAMES
from benchmarks.harness import PROJECT
from benchmarks.terminal import run_on_terminal
from benchmarks.workload import Workload


def bench(name, cache):
    subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--toy", "--repeats", "1", f"--cache={cache}"],
        cwd=PROJECT,
        check=True,
    )
    figures = json.loads((cache / f"{name}.json").read_text())["figures"]
    assert figures
    for figure in figures:
        assert 0 < figure["ratio"]["min"] <= figure["ratio"]["median"] <= figure["ratio"]["max"]
    return figures


def test_top_k_runs(tmp_path):
    assert len(bench("top_k", tmp_path)) == 1


def test_an_unknown_name_is_answered_with_the_known_ones():
    asked = [sys.executable, "-m", "benchmarks", "trian"]
    done = subprocess.run(asked, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no benchmark `trian`; there are train, peak" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "top_k"])
def test_the_others_run(tmp_path_factory, name):
    bench(name, tmp_path_factory.getbasetemp())  # they share prepared data


def test_peers_are_the_loops_that_exist():
    assert tuple(peer_loops.LOOPS) == peers.LOOPS


@pytest.mark.parametrize("name", ["torch, dense Adam", "torch, SparseAdam"])
def test_plain_loops_train(name):
    assert peer_loops.LOOPS[name](Workload(rows=20, batch_size=8, num_batches=2), 2) > 0


def test_a_command_sees_a_terminal_on_stderr():
    code = "import sys; print(sys.stdout.isatty()); print(sys.stderr.isatty(), file=sys.stderr)"
    shown = run_on_terminal(["-c", code])
    assert (shown.stdout.strip(), shown.terminal.strip()) == ("False", "True")
