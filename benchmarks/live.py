"""The server as it is asked: latency, saturation, durable feedback, freshness, exchange of bundles, regret.

Run as `make bench-live`, or `python -m benchmarks.live [--items N] [--bundle DIR]`. Load comes from
processes of its own; on a machine of two cores, one is the server's. Every figure is printed beside its goal.
What takes hours is shortened unless told otherwise, and each line says to what: the whole of it is

    make bench-live ARGS="--regret-requests 200000 --memory-requests 1000000"
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import live_world
from benchmarks.live_world import Row
from recsys.serving.client import Client, ServerError
from recsys.serving.messages import FeedbackEvent
from recsys.serving.options import ServeOptions
from recsys.serving.server import OPTIONS, options_to_json

_K, _CONNECTIONS = 10, 4
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_SHARE_OF_SATURATION = 0.6
_Floats = np.ndarray[Any, np.dtype[np.float64]]


@contextlib.contextmanager
def served(bundle: Path, **changes: Any) -> Iterator[str]:
    """URL of a server of its own, with an empty log."""
    folder = Path(tempfile.mkdtemp(prefix="recsys-live-"))
    port = 8700 + os.getpid() % 1000
    options = ServeOptions(bundle=bundle, folder=folder, port=port, **changes)
    environment = {**os.environ, **_ONE_THREAD, OPTIONS: options_to_json(options)}
    process = subprocess.Popen([sys.executable, "-m", "recsys.serving.server"], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        with Client(url, attempts=600) as client:
            client.ready()
        yield url
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def requests_of(bundle: Path) -> list[dict[str, Any]]:
    """Users of the bundle's own recorded requests, each with a history."""
    recorded = json.loads((bundle / "requests.json").read_text())
    return [one["arguments"] for one in recorded if one["method"] == "recommend"]


def _asks(url: str, asked: Sequence[dict[str, Any]], starts: _Floats | None, seconds: float) -> list[float]:
    """Milliseconds of requests, from when each was due; one after the other where none is due."""
    took, begin = [], time.perf_counter()
    with Client(url, attempts=1) as client:
        for n in range(10**9):
            if starts is not None and n >= len(starts):
                break
            due = begin + starts[n] if starts is not None else time.perf_counter()
            if due > begin + seconds:
                break
            time.sleep(max(due - time.perf_counter(), 0))
            one = asked[n % len(asked)]
            with contextlib.suppress(ServerError):
                client.recommend({**one["user"]}, _K, history=one["history"])
                took.append(1000 * (time.perf_counter() - due))
    return took


def _in_processes(work: Any, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    with multiprocessing.get_context("spawn").Pool(len(arguments)) as pool:
        return pool.starmap(work, arguments)


def latency(bundle: Path, seconds: float) -> list[Row]:
    """Saturation, and latency at a share of it, with arrivals by chance."""
    asked = requests_of(bundle)
    rows = []
    with served(bundle) as url:
        _asks(url, asked, None, 3)
        parts = _in_processes(_asks, [(url, asked, None, seconds)] * _CONNECTIONS)
        rate = sum(map(len, parts)) / seconds
        rows.append(("saturation, requests a second a core", f"{rate:.0f}", "200"))
        rng = np.random.default_rng(0)
        each = _SHARE_OF_SATURATION * rate / _CONNECTIONS
        starts = [np.cumsum(rng.exponential(1 / each, int(each * seconds))) for _ in range(_CONNECTIONS)]
        parts = _in_processes(_asks, [(url, asked, one, 2 * seconds) for one in starts])
        took = np.concatenate(parts)
        p50, p99 = np.percentile(took, [50, 99])
        said = f"{p50:.1f} / {p99:.1f} ms ({len(took)} requests)"
        rows.append((f"request at {_SHARE_OF_SATURATION:.0%} of saturation, p50 / p99", said, "6 / 12 ms"))
        rows += _freshness(url, "same process", "5 ms")
    with served(bundle, workers=2) as url:
        rows += _freshness(url, "any of two processes", "50 ms")
    return rows


def _freshness(url: str, where: str, goal: str) -> list[Row]:
    """From the acknowledgement of an event to an answer that knows it, new connections each time."""
    waits = []
    for n in range(100):
        with Client(url) as client:
            client.feedback([FeedbackEvent(f"fresh-{n}", "click", user_id=f"reader-{n}")])
        acknowledged = time.perf_counter()
        while True:
            with Client(url) as client:
                if client.user(f"reader-{n}").history:
                    break
        waits.append(1000 * (time.perf_counter() - acknowledged))
    said = f"{np.percentile(waits, 50):.1f} / {np.percentile(waits, 99):.1f} ms"
    return [(f"acknowledged feedback seen, {where}, p50 / p99", said, goal)]


def _tells(url: str, name: str, batch: int, seconds: float) -> int:
    told, begin = 0, time.perf_counter()
    with Client(url) as client:
        while time.perf_counter() < begin + seconds:
            events = [FeedbackEvent(f"i{n}", "click", user_id=f"{name}-{told + n}") for n in range(batch)]
            told += client.feedback(events).accepted
    return told


def feedback(bundle: Path, seconds: float) -> list[Row]:
    """Durable events a second, one and twenty to a request."""
    rows = []
    with served(bundle) as url:
        for batch in (1, 20):
            told = _in_processes(
                _tells, [(url, f"{batch}-{n}", batch, seconds) for n in range(2 * _CONNECTIONS)]
            )
            rows.append(
                (f"durable events a second, {batch} a request", f"{sum(told) / seconds:.0f}", "3,000")
            )
    return rows


def exchange(bundle: Path, other: Path, times: int) -> list[Row]:
    """Bundles exchanged under load."""
    asked = requests_of(bundle)
    took: dict[str, list[float]] = {"before": [], "during": []}
    failed, phase, stop = [], ["before"], threading.Event()

    def ask() -> None:
        with Client(url, attempts=1) as client:
            while not stop.is_set():
                begin = time.perf_counter()
                try:
                    client.recommend(asked[0]["user"], _K)
                    took[phase[0]].append(1000 * (time.perf_counter() - begin))
                except Exception as error:
                    failed.append(error)
                time.sleep(0.01)

    with served(bundle) as url:
        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(5)
        phase[0] = "during"
        with Client(url, timeout_seconds=300) as client:
            for n in range(times):
                client.exchange_bundle(str((other, bundle)[n % 2]))
        stop.set()
        thread.join()
    before, during = (np.percentile(took[one], 99) for one in ("before", "during"))
    said = f"{len(failed)} failed, p99 {during:.0f} ms where it was {before:.0f}"
    return [(f"bundle exchanged {times} times under load", said, "0 failed, below twice")]


def main() -> None:
    """Measures what is asked for, and prints it as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/recsys/bench"))
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--bundle", type=Path, help="in place of one that is trained for it")
    parser.add_argument("--world-seed", type=int, default=0, help="of the world for regret and intervals")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--exchanges", type=int, default=20)
    parser.add_argument("--regret-requests", type=int, default=20_000, help="of each policy; 0: none")
    parser.add_argument("--memory-requests", type=int, default=48_000, help="in 24 simulated hours; 0: none")
    parser.add_argument("--pair-requests", type=int, default=2_000, help="of each of ten logs; 0: none")
    parser.add_argument("--parts", default="http,world", help="http, world or both")
    asked = parser.parse_args()
    rows: list[Row] = []
    if "http" in asked.parts:
        bundle = asked.bundle or _market_bundle(asked)
        copy = Path(tempfile.mkdtemp()) / "bundle"
        shutil.copytree(bundle, copy)
        rows += latency(bundle, asked.seconds)
        rows += feedback(bundle, asked.seconds / 4)
        rows += exchange(bundle, copy, asked.exchanges)
        shutil.rmtree(copy.parent)
    if "world" in asked.parts:
        world, its_bundle = live_world.world_and_bundle(asked.cache.expanduser(), asked.world_seed)
        for measure, requests in (
            (live_world.regret, asked.regret_requests),
            (live_world.coverage, asked.pair_requests),
            (live_world.memory, asked.memory_requests),
        ):
            rows += measure(world, its_bundle, requests) if requests else []
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")
    width = max(len(name) for name, *_ in rows)
    for name, said, goal in rows:
        print(f"{name:{width}}  {said:45}  goal {goal}")


def _market_bundle(asked: argparse.Namespace) -> Path:
    """The bundle of two stages of a market, trained and exported when it is missing."""
    from benchmarks.harness import run_command
    from benchmarks.serve_world import prepared, trained

    cache = asked.cache.expanduser()
    data = prepared(cache, items=asked.items, users=asked.users)
    run = trained(cache, data, items=asked.items, users=asked.users)
    bundle = cache / f"live-{asked.items}"
    run_command(["-m", "benchmarks.serve_world", str(run), str(bundle)])
    return bundle


if __name__ == "__main__":
    main()
