"""The data path alone, from Parquet on disk to `Batch`, against what training consumes.

Rows a second of `RecDataModule.train_dataloader()`, a whole epoch in a process of its own, to the examples a
second of `python train.py` on the same data. Run as `python -m benchmarks.data`, it prints its rate.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path

from benchmarks.criteo import criteo
from benchmarks.harness import Figure, Settings, alternate, ratios, run_command
from benchmarks.train import MODEL, PRECISIONS, train_rate

_ROWS = 100_000


def run(settings: Settings) -> list[Figure]:
    """Ratio of rows read to examples trained on, by precision."""
    rows, examples, batch_size, steps = (
        (1000, 30_000, 512, 40) if settings.toy else (_ROWS, 2_000_000, 4096, 400)
    )
    data = criteo(settings.cache, rows=rows, examples=examples)
    overrides = [*MODEL, *data, f"data.batch_size={batch_size}"]
    prepared = data[-1].partition("=")[2]
    train = partial(train_rate, settings, steps=steps, batch_size=batch_size)
    sides = {"reading": partial(read_rate, Path(prepared), batch_size=batch_size)}
    for name, precision in PRECISIONS.items():
        sides[name] = partial(train, [*overrides, f"trainer.precision={precision}"])
    found = alternate(sides, repeats=settings.repeats)
    return [
        Figure(
            f"rows read to examples trained on, {name}",
            ratios(found["reading"], found[name]),
            "at least 4",
            {"a_second": {"reading": found["reading"], "training": found[name]}},
        )
        for name in PRECISIONS
    ]


def read_rate(prepared: Path, *, batch_size: int) -> float:
    """Rows a second of one epoch, the opening of the dataset left out."""
    said = run_command(["-m", "benchmarks.data", str(prepared), f"--batch-size={batch_size}"])
    return float(json.loads(said)["rate"])


def main() -> None:
    """Prints {"rate": rows a second} of one epoch of the train split."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data")
    parser.add_argument("prepared")
    parser.add_argument("--batch-size", type=int, default=4096)
    asked = parser.parse_args()
    from recsys.commands.installation import importing

    with importing():  # threads as in train.py
        from recsys.data.datamodule import RecDataModule
        from recsys.data.options import DataOptions
    options = DataOptions(prepared=asked.prepared, batch_size=asked.batch_size, history_length=0)
    loader = RecDataModule(options, task="ranking").train_dataloader()
    started = time.perf_counter()
    num_rows = sum(len(batch) for batch in loader)
    print(json.dumps({"rate": num_rows / (time.perf_counter() - started)}))


if __name__ == "__main__":
    main()
