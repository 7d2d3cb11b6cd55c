"""Latency of a bundle, raw request in, raw item ids out, one at a time on one core, by size of catalogue.

500 candidates of a two-tower model, ranked by Wide & Deep, for a user with a history of 50. Beside it the
trained models in Python doing the same; the ranker's arithmetic alone in TorchScript, AOTInductor and ONNX
Runtime; and RecTools, which recommends from a fitted matrix factorization without a second stage. Then the
requests a second of two processes, each on a core of its own. `make bench-serve`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import serve_peer
from benchmarks.harness import PROJECT, Figure, Settings, plain_environment, ratios, run_command
from benchmarks.serve_world import prepared, trained

_GOAL_MILLISECONDS = 10
# It takes a tenth of a second for each.
_PEER_REQUESTS = 100
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_RANKERS = ("TorchScript", "AOTInductor", "ONNX Runtime", "eager")


def run(settings: Settings) -> list[Figure]:
    """Ratios by size; milliseconds and their parts in the notes, and in a table of their own."""
    sizes = [2000] if settings.toy else list(settings.rows) or [10_000, 100_000, 1_000_000]
    figures = []
    for items in sizes:
        figures += _figures(settings, items)
    return figures


def _figures(settings: Settings, items: int) -> list[Figure]:
    users, num_requests, seconds = (200, 60, 1.0) if settings.toy else (20_000, 1000, 10.0)
    data = prepared(settings.cache, items=items, users=users)
    bundle = settings.cache / f"served-{items}"
    model = trained(settings.cache, data, items=items, users=users)
    run_command(["-m", "benchmarks.serve_world", str(model), str(bundle), "--format=aoti"])
    asked = [
        *("-m", "benchmarks.serve_sides", str(settings.cache), str(bundle), str(model)),
        *(f"--items={items}", f"--users={users}", f"--requests={num_requests}"),
        f"--rounds={settings.repeats}",
    ]
    measured = json.loads(run_command([*asked, "--core=0"], environment=_ONE_THREAD))
    rounds: list[dict[str, list[float]]] = measured["rounds"]
    raw = settings.cache / f"market-{users}-{items}"
    peer = serve_peer.milliseconds(settings, raw, num_requests=min(num_requests, _PEER_REQUESTS))
    if peer:
        rounds = [{**one, serve_peer.NAME: other} for one, other in zip(rounds, peer, strict=True)]
    loads = [_load(asked, seconds) for _ in range(settings.repeats)]
    notes = {
        "items": items,
        "milliseconds": {name: _quantiles([one[name] for one in rounds]) for name in rounds[0]},
        "processor_milliseconds": _quantiles([measured["processor"]]),
        "parts_milliseconds": {name: statistics.median(found) for name, found in measured["parts"].items()},
        "requests_per_second": {"1 process": [x[0] for x in loads], "2 processes": [x[1] for x in loads]},
        "p99_milliseconds_under_load": [x[2] for x in loads],
        "index": json.loads((bundle / "manifest.json").read_text()).get("index"),
    }
    _show(items, notes)
    return [*_of_requests(items, rounds, notes), *_of_rankers(items, rounds)]


def _of_requests(items: int, rounds: Sequence[dict[str, list[float]]], notes: dict[str, Any]) -> list[Figure]:
    p99 = [float(np.quantile(one["bundle"], 0.99)) for one in rounds]
    goal = f"p99 of a request to {_GOAL_MILLISECONDS} ms, {items:,} items"
    figures = [Figure(goal, ratios(p99, [_GOAL_MILLISECONDS] * len(p99)), "at most 1", notes)]
    p50 = {
        name: [statistics.median(one[name]) for one in rounds] for name in rounds[0] if name not in _RANKERS
    }
    figures += [
        Figure(f"p50 of {name} to the bundle, {items:,} items", ratios(p50[name], p50["bundle"]))
        for name in p50
        if name != "bundle"
    ]
    rates = notes["requests_per_second"]
    return [
        *figures,
        Figure(
            f"requests a second of 2 processes to 1, {items:,} items",
            ratios(rates["2 processes"], rates["1 process"]),
        ),
    ]


def _of_rankers(items: int, rounds: Sequence[dict[str, list[float]]]) -> list[Figure]:
    there = [name for name in _RANKERS if name in rounds[0]]
    p50 = {name: [statistics.median(one[name]) for one in rounds] for name in there}
    return [
        Figure(
            f"p50 of ranking 500 in {name} to TorchScript, {items:,} items",
            ratios(p50[name], p50["TorchScript"]),
        )
        for name in there[1:]
    ]


def _load(asked: Sequence[str], seconds: float) -> tuple[float, float, float]:
    """Requests a second of one process and of two at once, and the 99 % quantile of milliseconds of both."""
    alone, both = (_answered(asked, seconds, processes) for processes in (1, 2))
    return len(alone) / seconds, len(both) / seconds, float(np.quantile(both, 0.99))


def _answered(asked: Sequence[str], seconds: float, processes: int) -> list[float]:
    """Milliseconds of every request that so many processes answered at the same time."""
    running = [
        subprocess.Popen(
            [sys.executable, *asked, f"--core={core}", f"--load={seconds}"],
            cwd=PROJECT,
            env=plain_environment() | _ONE_THREAD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for core in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in running]
    return [one for line in said for one in json.loads(line)["milliseconds"]]


def _quantiles(rounds: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Quantiles of every round."""
    return {f"p{q}": [float(np.quantile(one, q / 100)) for one in rounds] for q in (50, 99)}


def _show(items: int, notes: dict[str, Any]) -> None:
    table = Table(title=f"{items:,} items: milliseconds a request, median of the rounds")
    for column in ("", "p50", "p99"):
        table.add_column(column, justify="right" if column else "left")
    for name, found in notes["milliseconds"].items():
        table.add_row(name, *(f"{statistics.median(found[q]):.2f}" for q in ("p50", "p99")))
    found = notes["processor_milliseconds"]
    table.add_row("bundle, of the processor", *(f"{found[q][0]:.2f}" for q in ("p50", "p99")))
    for name, median in notes["parts_milliseconds"].items():
        table.add_row(f"  of the bundle: {name}", f"{median:.2f}", "")
    Console().print(table)
    for name, rates in notes["requests_per_second"].items():
        Console().print(f"{name}: {statistics.median(rates):,.0f} requests a second")
