"""The whole of `python evaluate.py` on data of the size of MovieLens-1M, in proportion to 30 seconds.

Made-up ratings of 6,000 users and 3,700 items, a million of them, with attributes on both sides: all metrics,
slices, intervals and baselines, and the report. The models have seen one batch: what is timed does not depend
on how good they are. The seconds are those of the command, its start included.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.criteo import zipf
from benchmarks.harness import Figure, Settings, alternate, run_command
from recsys.runs.trained import TrainedRun

_SECONDS = 30.0
_TASKS = {"retrieval": "two_tower", "ranking": "wide_deep"}


def run(settings: Settings) -> list[Figure]:
    """Ratios of the seconds of both tasks to those allowed."""
    number = 5000 if settings.toy else 1_000_000
    sides: dict[str, Callable[[], float]] = {}
    for task in _TASKS:
        sides[task] = partial(_seconds, evaluated_run(settings, task).path)
    found = alternate(sides, repeats=settings.repeats)
    return [
        Figure(
            f"seconds of evaluating {number:,} ratings to 30, {task}",
            [seconds / _SECONDS for seconds in found[task]],
            "at most 1",
            {"seconds": found[task]},
        )
        for task in _TASKS
    ]


def evaluated_run(settings: Settings, task: str) -> TrainedRun:
    """A run of one batch on the made-up ratings."""
    users, items, number = (200, 100, 5000) if settings.toy else (6000, 3700, 1_000_000)
    data = _data(settings.cache, users=users, items=items, number=number)
    folder = settings.cache / f"evaluated-{task}"
    shutil.rmtree(folder, ignore_errors=True)
    few = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1"]
    run_command(["train.py", f"model={_TASKS[task]}", *data, *few, f"run_dir={folder}"])
    return TrainedRun.open(folder)


def _seconds(folder: Path) -> float:
    started = time.perf_counter()
    run_command(["evaluate.py", f"run={folder}"])
    return time.perf_counter() - started


def _data(folder: Path, *, users: int, items: int, number: int) -> list[str]:
    raw = folder / f"ratings-{users}-{items}-{number}"
    if not (raw / "items.parquet").exists():
        raw.mkdir(parents=True, exist_ok=True)
        for name, table in _tables(users, items, number).items():
            pq.write_table(table, raw / f"{name}.parquet")
    return [
        "data=table",
        f"data.name=ratings-{number}",
        f"data.cache_dir={folder}",
        *(f"data.{name}.path={raw / name}.parquet" for name in ("interactions", "users", "items")),
        "data.label={column:rating,positive_at_least:4}",
    ]


def _tables(users: int, items: int, number: int) -> dict[str, pa.Table]:
    random = np.random.default_rng(0)
    genres = np.array([f"g{i:02d}" for i in range(18)])
    return {
        "interactions": pa.table(
            {
                "user_id": random.integers(0, users, number),
                "item_id": zipf(random, number, items, 1),
                "rating": random.integers(1, 6, number),
                "timestamp": 1_000_000_000 + random.integers(0, 300 * 86_400, number),
            }
        ),
        "users": pa.table(
            {
                "user_id": np.arange(users),
                "gender": random.choice(["F", "M"], users),
                "age": random.choice(["18", "25", "35", "45", "50"], users),
                "occupation": random.choice([f"o{i:02d}" for i in range(21)], users),
            }
        ),
        "items": pa.table(
            {
                "item_id": np.arange(items),
                "genres": ["|".join(random.choice(genres, 1 + i % 3, replace=False)) for i in range(items)],
            }
        ),
    }
