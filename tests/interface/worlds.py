"""Readers who go through shelves of books in order: what comes next can be told from what came before."""

import numpy as np
import pandas as pd

NUM_BOOKS = 40


def events(num_readers=60, seed=0):
    generator = np.random.default_rng(seed)
    rows = []
    for reader in range(num_readers):
        start, length = int(generator.integers(NUM_BOOKS)), int(generator.integers(5, 12))
        rows += [
            (
                f"reader{reader}",
                f"book{(start + step) % NUM_BOOKS}",
                1_600_000_000 + 1000 * reader + 3600 * step,
            )
            for step in range(length)
        ]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def books():
    ids = [f"book{number}" for number in range(NUM_BOOKS)]
    return pd.DataFrame(
        {"item_id": ids, "genre": [["crime", "poetry"][number % 2] for number in range(NUM_BOOKS)]}
    )
