"""Raw tables with every kind of feature, made from a seed, and what is prepared from them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recsys.data.dataset import PreparedDataset
from recsys.data.options import Columns, DataOptions, InteractionsTable, Label, SideTable
from recsys.data.prepare import prepare

WORDS = ["Toy", "story", "中文", "Amélie", "II", "the", "GOLDEN-eye", "x_y", "😀", "1995"]


def shop(folder: Path, *, seed: int = 0, with_vectors: bool = False, **changes: Any) -> PreparedDataset:
    """Parquet tables: integer users, text items, a second `city`, and every kind, encoder and transform.

    Vectors, which compiled packages don't take, only `with_vectors`.
    """
    rng = np.random.default_rng(seed)
    tables = {"users": _users(rng), "items": _items(rng), "events": _events(rng)}
    for table, column in (("users", "taste"), ("items", "cover")) if with_vectors else ():
        tables[table] = tables[table].append_column(column, _vectors(rng, tables[table].num_rows))
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    options = DataOptions(
        name="shop",
        interactions=InteractionsTable(
            path=str(folder / "events.parquet"),
            columns=Columns(user_id="uid", item_id="sku", timestamp="ts"),
            features={
                "device": {"kind": "id"},
                "hour": {"kind": "time", "part": "hour"},
                "weekday": {"kind": "time", "part": "weekday"},
                "basket": {"kind": "multi_id", "max_length": 2},
                "dwell": {"kind": "numeric", "transform": "log"},
            },
        ),
        users=SideTable(
            path=str(folder / "users.parquet"),
            features={
                "age": {"kind": "numeric"},
                "age_group": {"kind": "numeric", "column": "age", "transform": "bucketise", "num_buckets": 4},
                "zip": {"kind": "id", "prefix": 3},
                "member": {"kind": "id"},
                "city": {"kind": "id", "encoder": "hash", "num_buckets": 50},
                "plan": {"kind": "id", "min_count": 3},
                "interests": {"kind": "multi_id", "max_length": 3},
                **({"taste": {"kind": "vector"}} if with_vectors else {}),
            },
        ),
        items=SideTable(
            path=str(folder / "items.parquet"),
            title_column="title",
            features={
                "title": {
                    "kind": "text",
                    "num_buckets": 200,
                    "ngrams": 2,
                    "max_length": 6,
                    "pooling": "idf",
                },
                "genres": {"kind": "multi_id", "max_length": 2},
                "tags": {"kind": "multi_id", "pooling": "idf"},
                "colours": {"kind": "multi_id", "encoder": "hash", "num_buckets": 20, "delimiter": "::"},
                "price": {"kind": "numeric", "transform": "log"},
                "weight": {"kind": "numeric"},
                "year": {"kind": "id"},
                "maker": {"kind": "id", "encoder": "hash", "num_buckets": 30},
                "maker_city": {"kind": "id", "column": "city"},
                **({"cover": {"kind": "vector", "difference": 0.5}} if with_vectors else {}),
            },
        ),
        label=Label(column="stars", positive_at_least=4),
        cache_dir=str(folder / "cache"),
    )
    return PreparedDataset.open(prepare(dataclasses.replace(options, **changes)))


def newcomer(folder: Path, *, seed: int = 0) -> PreparedDataset:
    """One CSV file as newcomers bring it: `user, product, when, stars`, ISO text for time, no side tables."""
    rng = np.random.default_rng(seed)
    count = 600
    seconds = np.sort(rng.integers(1_600_000_000, 1_700_000_000, count)).astype("datetime64[s]")
    table = pa.table(
        {
            "user": [f"u{n}" for n in rng.integers(0, 25, count)],
            "product": pa.array(rng.integers(-3, 20, count)),
            "when": [str(instant) for instant in seconds],
            "stars": pa.array(rng.integers(1, 6, count)),
        }
    )
    pa_csv.write_csv(table, folder / "events.csv")
    options = DataOptions(
        name="newcomer",
        interactions=InteractionsTable(
            path=str(folder / "events.csv"),
            columns=Columns(user_id="user", item_id="product", timestamp="when"),
            features={"hour": {"kind": "time", "part": "hour"}},
        ),
        label=Label(column="stars", positive_at_least=3),
        split="leave_last_out",
        cache_dir=str(folder / "cache"),
    )
    return PreparedDataset.open(prepare(options))


def clicks(folder: Path, *, seed: int = 0) -> PreparedDataset:
    """A CSV file of positives alone: no labels, no timestamps, no side tables."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, 20, 300), rng.integers(0, 15, 300)
    pa_csv.write_csv(pa.table({"user_id": [f"u{n}" for n in users], "item_id": items}), folder / "clicks.csv")
    options = DataOptions(
        name="clicks",
        interactions=InteractionsTable(path=str(folder / "clicks.csv"), columns=Columns(timestamp=None)),
        split="random",
        cache_dir=str(folder / "cache"),
    )
    return PreparedDataset.open(prepare(options))


def _users(rng: np.random.Generator) -> pa.Table:
    count = 40
    return pa.table(
        {
            "uid": pa.array(range(1, count + 1)),
            "age": _with_nulls(rng, rng.integers(10, 80, count).tolist()),
            "zip": _with_nulls(rng, [f"{n:05d}" for n in rng.integers(0, 3000, count)]),
            "member": rng.integers(0, 2, count).astype(bool),
            "city": _with_nulls(rng, rng.choice(["Zürich", "東京", "Bonn", "bonn", " Bonn"], count).tolist()),
            "plan": rng.choice(["a", "b", "b", "b", "rare"], count),
            "interests": [
                "|".join(rng.choice(["x", " y ", "z", "", "é"], n)) for n in rng.integers(0, 6, count)
            ],
        }
    )


def _items(rng: np.random.Generator) -> pa.Table:
    count = 30
    return pa.table(
        {
            "sku": [f"sku-{n}é" for n in range(count)],
            "title": _with_nulls(rng, [" ".join(rng.choice(WORDS, n)) for n in rng.integers(1, 6, count)]),
            "genres": pa.array(
                [rng.choice(["Drama", "Sci-Fi", "Kids"], n).tolist() for n in rng.integers(0, 4, count)],
                pa.list_(pa.string()),
            ),
            "tags": pa.array(
                [rng.integers(-2, 5, n).tolist() for n in rng.integers(0, 4, count)], pa.list_(pa.int64())
            ),
            "colours": ["::".join(rng.choice(["red", "blau", "vert"], n)) for n in rng.integers(1, 3, count)],
            "price": _with_nulls(rng, np.round(rng.lognormal(2, 1, count) - 1, 2).tolist()),
            "weight": rng.normal(100, 30, count),
            "year": pa.array(
                [float(n) if n % 5 else None for n in rng.integers(1990, 2000, count)], pa.float64()
            ),
            "maker": pa.array(rng.integers(-20, 20, count)),
            "city": rng.choice(["Bonn", "Köln"], count),
        }
    )


def _events(rng: np.random.Generator) -> pa.Table:
    count = 1500
    times = np.sort(rng.integers(1_600_000_000_000, 1_610_000_000_000, count))
    return pa.table(
        {
            # Users and items beyond the side tables occur too.
            "uid": pa.array(rng.integers(1, 46, count)),
            "sku": [f"sku-{n}é" for n in rng.integers(0, 34, count)],
            "ts": pa.array(times),  # milliseconds
            "stars": pa.array(rng.integers(1, 6, count)),
            "device": _with_nulls(rng, rng.choice(["tv", "phone", "日本"], count).tolist()),
            "basket": pa.array([rng.choice(["p", "q", "r"], n).tolist() for n in rng.integers(0, 4, count)]),
            "dwell": _with_nulls(rng, rng.exponential(10, count).tolist()),
        }
    )


def _vectors(rng: np.random.Generator, count: int) -> pa.Array:
    """Vectors of six numbers, one in six of them missing."""
    vectors = rng.normal(size=(count, 6)).astype(np.float32).tolist()
    return pa.array([v if rng.random() > 1 / 6 else None for v in vectors], pa.list_(pa.float32()))


def _with_nulls(rng: np.random.Generator, values: list) -> pa.Array:
    return pa.array([None if rng.random() < 0.15 else value for value in values])
