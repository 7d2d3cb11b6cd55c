"""Criteo-shaped data: 26 categorical features with Zipf ids, 13 numbers, and a label that depends on them.

Written as a user would have it, Parquet in parts, and prepared by `recsys prepare data=table`. The ids
are hashed into `rows` buckets, so that every table has `rows + 1` rows however few ids occur.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.harness import run_command

NUM_DENSE = 13
CATEGORICAL = ("user_id", "item_id", *(f"c{i:02d}" for i in range(24)))
DENSE = tuple(f"n{i:02d}" for i in range(NUM_DENSE))
_PART = 500_000
# Shares of the rows in train and validation; the rest is test. Small, so that a run ends soon after its
# steps.
_TRAIN, _VALIDATION = 0.98, 0.99


def criteo(folder: Path, *, rows: int, examples: int) -> list[str]:
    """Overrides that make `train.py` read the prepared dataset; generated and prepared when it is missing.

    Args:
        folder: where benchmarks keep their data.
        rows: of every table, row 0 not counted.
        examples: in all, validation and test included.
    """
    raw = folder / f"criteo-{rows}-{examples}"
    if not (raw / "features.yaml").exists():
        _write(raw, rows=rows, examples=examples)
    buckets = f"{{encoder:hash,num_buckets:{rows}}}"
    overrides = [
        "data=table",
        f"data.name=criteo-{rows}-{examples}",
        f"data.cache_dir={folder}",
        f"data.interactions.path={raw / 'interactions'}",
        f"data.features_file={raw / 'features.yaml'}",
        f"data.ids={{user_id:{buckets},item_id:{buckets}}}",
        "data.label={column:label,positive_at_least:1}",
        "data.split=predefined",
        "data.interactions.columns.split=split",
        "data.interactions.columns.timestamp=timestamp",
    ]
    prepared = run_command(["-m", "recsys", "prepare", *overrides])
    return ["data=table", f"data.name=criteo-{rows}", f"data.prepared={prepared}"]


def _write(raw: Path, *, rows: int, examples: int) -> None:
    parts = raw / "interactions"
    parts.mkdir(parents=True, exist_ok=True)
    for first in range(0, examples, _PART):
        table = interactions(min(_PART, examples - first), rows=rows, first=first)
        pq.write_table(table, parts / f"{first // _PART:05d}.parquet")
    (raw / "features.yaml").write_text(yaml.safe_dump(_features(rows)))


def _features(rows: int) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    ids = {name: {"kind": "id", "encoder": "hash", "num_buckets": rows} for name in CATEGORICAL[2:]}
    numbers = {name: {"kind": "numeric", "transform": "standardise"} for name in DENSE}
    return {
        "interactions": {"features": {**ids, **numbers}},
        "users": {"features": {}},
        "items": {"features": {}},
    }


def interactions(examples: int, *, rows: int, first: int = 0, seed: int = 0) -> pa.Table:
    """Raw rows `first` to `first + examples`, one a second; the same for the same arguments."""
    random = np.random.default_rng([seed, first])
    ids = {name: zipf(random, examples, rows, feature) for feature, name in enumerate(CATEGORICAL)}
    dense = random.standard_normal((NUM_DENSE, examples)).astype(np.float32)
    # The first four features decide, by a weight per id that looks random, and the first two numbers.
    logits = (
        sum(np.sin(ids[name] * 12.9898 + 1.0) for name in CATEGORICAL[:4]) + dense[0] - 0.5 * dense[1] - 1
    )
    labels = random.random(examples) < 1 / (1 + np.exp(-logits))
    shares = random.random(examples)
    split = np.where(shares < _TRAIN, "train", np.where(shares < _VALIDATION, "validation", "test"))
    columns = {name: pa.array(values, pa.int64()) for name, values in ids.items()}
    columns |= {name: pa.array(values) for name, values in zip(DENSE, dense, strict=True)}
    columns["label"] = pa.array(labels.astype(np.int8))
    columns["timestamp"] = pa.array(1_700_000_000 + first + np.arange(examples))
    columns["split"] = pa.array(split).dictionary_encode()
    return pa.table(columns)


def zipf(random: np.random.Generator, examples: int, rows: int, feature: int) -> npt.NDArray[np.int64]:
    """Ids, the i-th most frequent with a probability in proportion to 1 / i, spread over 0..rows - 1.

    Rank r becomes (r * multiplier) mod rows, a bijection for a multiplier without a common factor, another
    one for each feature, so that frequent ids do not lie side by side.
    """
    ranks = (float(rows) ** random.random(examples)).astype(np.int64) - 1
    multiplier = 2_654_435_761 + 2 * feature
    while np.gcd(multiplier, rows) != 1:
        multiplier += 1
    return ranks % rows * (multiplier % rows) % rows
