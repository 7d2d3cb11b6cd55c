"""A small prepared dataset: 60 users, 40 films in four genres, each user fond of two of them."""

import numpy as np
import pandas as pd
import pytest

from recsys.data.options import DataOptions, InteractionsTable, Label, SideTable
from recsys.data.prepare import prepare

GENRES = ["crime", "comedy", "drama", "western"]


@pytest.fixture(scope="session")
def options(tmp_path_factory) -> DataOptions:
    """Options of the dataset, prepared."""
    folder = tmp_path_factory.mktemp("raw")
    random = np.random.default_rng(0)
    users = np.arange(1, 61)
    items = np.arange(101, 141)
    rows = []
    for user in users:
        for item in random.permutation(items)[:25]:
            liked = (item % 4) in (user % 4, (user + 1) % 4)
            rows.append((user, item, 5.0 if liked else 2.0))
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "rating"])
    table = table.sample(frac=1, random_state=0)
    table["timestamp"] = 1_000_000_000 + 600 * np.arange(len(table))
    table.to_parquet(folder / "interactions.parquet")
    pd.DataFrame({"item_id": items, "genre": [GENRES[i % 4] for i in items]}).to_csv(
        folder / "items.csv", index=False
    )
    options = DataOptions(
        name="small",
        interactions=InteractionsTable(path=str(folder / "interactions.parquet")),
        items=SideTable(path=str(folder / "items.csv")),
        label=Label(column="rating", positive_at_least=4),
        split="leave_last_out",
        cache_dir=str(tmp_path_factory.mktemp("cache")),
        batch_size=64,
        shuffle_rows=1000,
    )
    prepare(options)
    return options
