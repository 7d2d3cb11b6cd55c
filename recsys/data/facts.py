"""facts_of: counts how large a train split is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.dataset import PreparedDataset
from recsys.schema.facts import DataFacts
from recsys.schema.feature_kinds import HistoryFeature
from recsys.schema.tables import POSITIVE, USER_ROW


def facts_of(dataset: PreparedDataset) -> DataFacts:
    """The facts of a dataset's train split."""
    rows = [pq.read_table(file, columns=[USER_ROW, POSITIVE]) for file in dataset.files("train")]
    table = pa.concat_tables(rows)
    counts_U = np.bincount(table.filter(table[POSITIVE])[USER_ROW].to_numpy(), minlength=1)
    lengths = counts_U[1:][counts_U[1:] > 0]
    median, long = np.quantile(lengths, [0.5, 0.9], method="lower") if len(lengths) else (0, 0)
    return DataFacts(
        num_users=len(lengths),
        num_items=dataset.num_items - 1,
        num_rows=table.num_rows,
        num_positives=int(counts_U.sum()),
        num_features=sum(not isinstance(feature, HistoryFeature) for feature in dataset.schema.embedded()),
        median_history=float(median),
        long_history=float(long),
    )
