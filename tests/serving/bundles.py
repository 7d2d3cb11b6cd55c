"""Bundles of a small market with items of three shelves, made once."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.dataset import PreparedDataset
from recsys.data.options import Columns, DataOptions, InteractionsTable, Label, SideTable
from recsys.data.prepare import prepare
from recsys.data.sources.synthetic import Synthetic
from tests.exporting.conftest import export, export_both, stage, two_tower, wide_deep

NUM_ITEMS = 60
SHELVES = ["a", "b", "c"]


def market(folder, *, integer_ids=False):
    """Users and items of text ids, or of whole numbers; a label, a price and a shelf."""
    rng = np.random.default_rng(5)
    users = [n if integer_ids else f"u{n}" for n in range(20)]
    items = [n if integer_ids else f"i{n}" for n in range(NUM_ITEMS)]
    pq.write_table(
        pa.table(
            {
                "item_id": items,
                "shelf": [SHELVES[n % 3] for n in range(NUM_ITEMS)],
                "price": rng.lognormal(1, 1, NUM_ITEMS),
            }
        ),
        folder / "items.parquet",
    )
    count = 600
    pq.write_table(
        pa.table(
            {
                "user_id": [users[n] for n in rng.integers(0, 20, count)],
                "item_id": [items[n] for n in rng.integers(0, NUM_ITEMS, count)],
                "rating": rng.integers(1, 6, count).astype(float),
                "timestamp": np.sort(rng.integers(1_600_000_000, 1_610_000_000, count)),
            }
        ),
        folder / "events.parquet",
    )
    options = DataOptions(
        name="market",
        interactions=InteractionsTable(
            path=str(folder / "events.parquet"),
            columns=Columns(),
            features={"hour": {"kind": "time", "part": "hour"}},
        ),
        items=SideTable(
            path=str(folder / "items.parquet"),
            features={"shelf": {"kind": "id"}, "price": {"kind": "numeric", "transform": "log"}},
        ),
        label=Label(column="rating", positive_at_least=4),
        cache_dir=str(folder / "cache"),
    )
    return PreparedDataset.open(prepare(options))


def two_stage_bundle(folder, dataset):
    both = stage(two_tower(dataset), dataset), stage(wide_deep(dataset), dataset)
    return export_both(*both, folder, num_candidates=30).folder


def retrieval_bundle(folder, dataset):
    return export(two_tower(dataset), dataset, folder).folder


def ranking_bundle(folder, dataset):
    return export(wide_deep(dataset), dataset, folder).folder


def synthetic_world(folder):
    """Folder of a small synthetic world, and what is prepared from it."""
    source = Synthetic(num_users=60, num_items=80, num_interactions=1100, days=30.0)
    raw = source.tables(folder)
    options = DataOptions(
        name="world",
        interactions=InteractionsTable(path=str(raw.interactions), columns=Columns()),
        items=SideTable(
            path=str(raw.items), features={"categories": {"kind": "multi_id"}, "price": {"kind": "numeric"}}
        ),
        label=Label(column="rating", positive_at_least=4),
        cache_dir=str(folder / "cache"),
    )
    return raw.items.parent, PreparedDataset.open(prepare(options))
