"""Preparing, `recsys prepare`: seconds to a minute, peak memory to 4 GB, for 10 million interactions.

Users, items, ratings and instants in Parquet, cut by time. Not a ratio of two sides: measured once, however
many rounds are asked for. `--rows 100000000` prepares as many interactions.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.criteo import zipf
from benchmarks.harness import Figure, Settings
from benchmarks.memory import peak_bytes

_SECONDS, _BYTES, _INTERACTIONS = 60.0, 4e9, 10_000_000
_USERS, _ITEMS, _PART = 200_000, 50_000, 1_000_000


def run(settings: Settings) -> list[Figure]:
    """Ratios of seconds and of peak memory to what is allowed for 10 million interactions."""
    figures: list[Figure] = []
    for number in [20_000] if settings.toy else settings.rows or [_INTERACTIONS]:
        raw, target = _written(settings.cache, number), settings.cache / "preparing"
        shutil.rmtree(target, ignore_errors=True)
        started = time.perf_counter()
        peak = peak_bytes(["-m", "recsys", "prepare", *_overrides(raw, target)])
        seconds = time.perf_counter() - started
        shutil.rmtree(target)
        wanted = "at most 1" if number <= _INTERACTIONS else ""
        notes = {"interactions": number, "seconds": seconds, "peak_gb": peak / 1e9}
        figures += [
            Figure(
                f"seconds of preparing {number:,} interactions to 60", [seconds / _SECONDS], wanted, notes
            ),
            Figure(f"its peak memory to 4 GB, {number:,} interactions", [peak / _BYTES], wanted, notes),
        ]
    return figures


def _overrides(raw: Path, target: Path) -> list[str]:
    return [
        "data=table",
        "data.name=preparing",
        f"data.cache_dir={target}",
        f"data.interactions.path={raw}",
        "data.interactions.features={}",
        "data.label={column:rating,positive_at_least:4}",
        "data.split=global_time",
    ]


def _written(folder: Path, number: int) -> Path:
    """Folder of the raw interactions, written when it is missing."""
    raw = folder / f"interactions-{number}"
    if not raw.exists():
        unfinished = raw.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for first in range(0, number, _PART):
            part = _interactions(min(_PART, number - first), first=first)
            pq.write_table(part, unfinished / f"{first // _PART:05d}.parquet")
        unfinished.rename(raw)
    return raw


def _interactions(number: int, *, first: int) -> pa.Table:
    """Rows `first` to `first + number`, one a second."""
    random = np.random.default_rng([0, first])
    return pa.table(
        {
            "user_id": zipf(random, number, _USERS, 0),
            "item_id": zipf(random, number, _ITEMS, 1),
            "rating": random.integers(1, 6, number).astype(np.int8),
            "timestamp": 1_500_000_000 + first + np.arange(number),
        }
    )
