"""`python train.py` from disk against other ways to train the same model, by rows a table.

Run as `python -m benchmarks.peers LOOP`, it prints the rate of one loop. DeepCTR-Torch and torch-rechub come
with the extra `bench`; what is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.criteo import criteo
from benchmarks.harness import Figure, Settings, alternate, best_rate, ratios
from benchmarks.train import MODEL, train_rate

LOOPS = (
    "torch, dense Adam",
    "torch, SparseAdam",
    "torch, sparse Adagrad",
    "torchrec DMP",
    "DeepCTR-Torch",
    "torch-rechub",
)
_PACKAGES = {"DeepCTR-Torch": ("deepctr_torch", "requests"), "torch-rechub": ("torch_rechub",)}
# Enough for some seconds; what moves whole tables takes seconds a step with large ones.
_STEPS = {10_000: 60, 100_000: 30, 1_000_000: 4}
_MOVE_ROWS = ("torch, SparseAdam", "torch, sparse Adagrad", "torchrec DMP")
_STEPS_OF_ROWS = 64


def run(settings: Settings) -> list[Figure]:
    """Ratio of our rate to each loop's, by rows a table."""
    figures: list[Figure] = []
    missing = [name for name, needed in _PACKAGES.items() if None in map(importlib.util.find_spec, needed)]
    settled: dict[str, Mapping[str, str]] = {}
    for name in missing:
        print(f"  left out: {name} is not installed; pip install -e '.[bench]'", file=sys.stderr)
    sizes = [1000] if settings.toy else settings.rows or list(_STEPS)
    for rows in sizes:
        steps = 3 if settings.toy else _STEPS.get(rows, min(_STEPS.values()))
        found = alternate(_sides(settings, rows, steps, missing, settled), repeats=settings.repeats)
        figures += [
            Figure(
                f"train.py to {name}, {rows:,} rows",
                ratios(found["train.py"], rates),
                notes={"rows": rows, "peer": name, "a_second": {"ours": found["train.py"], "peer": rates}},
            )
            for name, rates in found.items()
            if name != "train.py"
        ]
    return figures


def _sides(
    settings: Settings, rows: int, steps: int, missing: list[str], settled: dict[str, Mapping[str, str]]
) -> dict[str, Callable[[], float]]:
    batch_size, examples, our_steps = (512, 30_000, 40) if settings.toy else (4096, 2_000_000, 300)
    data = criteo(settings.cache, rows=rows, examples=examples)
    overrides = [*MODEL, *data, f"data.batch_size={batch_size}"]
    sides: dict[str, Callable[[], float]] = {
        "train.py": partial(train_rate, settings, overrides, steps=our_steps, batch_size=batch_size)
    }
    for name in LOOPS:
        if name not in missing:
            number = steps if settings.toy or name not in _MOVE_ROWS else _STEPS_OF_ROWS
            asked = [name, f"--rows={rows}", f"--steps={number}", f"--batch-size={batch_size}"]
            command = ["-m", "benchmarks.peers", *asked]
            sides[name] = partial(best_rate, command, name=name, settled=settled)
    return sides


def main() -> None:
    """Prints {"rate": examples a second} of one loop."""
    from benchmarks import peer_loops
    from benchmarks.workload import Workload

    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=4096)
    asked = parser.parse_args()
    workload = Workload(asked.rows, batch_size=asked.batch_size, num_batches=min(asked.steps, 64))
    with contextlib.redirect_stdout(sys.stderr):  # the libraries print
        rate = peer_loops.LOOPS[asked.loop](workload, asked.steps)
    print(json.dumps({"rate": rate}))


if __name__ == "__main__":
    main()
