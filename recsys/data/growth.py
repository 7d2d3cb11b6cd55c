"""Where the rows of a dataset's embedding tables were in an earlier dataset, value by value.

earlier vocabulary   row 0: unknown   1: "a"   2: "b"   3: "c"
vocabulary           row 0: unknown   1: "a"   2: "c"   3: "new"   4: "b"
rows                         [ 0,       1,       3,       0,         2 ]
"""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from recsys.data.dataset import PreparedDataset
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature, HistoryFeature, NumberFeature, difference_name
from recsys.schema.features import ITEM_ID, OUT_OF_VOCABULARY, USER_ID

logger = logging.getLogger(__name__)


def earlier_rows(dataset: PreparedDataset, earlier: PreparedDataset) -> dict[str, torch.Tensor]:
    """For every embedding table the row that each of its rows had; 0, out-of-vocabulary, for a new value.

    A bucket of numbers was where its lower edge fell. Rows of hashes, hours and weekdays never move.

    Args:
        dataset: the newer one, extending `earlier` or prepared on its own.
        earlier: what a model was trained on.

    Returns:
        [rows of the table] int64, by the table's name.

    Raises:
        ValueError: the datasets have other features; all that differ are named.
    """
    differing = dataset.schema.differences(earlier.schema)
    if differing:
        raise InputError(
            f"expected in `{dataset.path}` the features of `{earlier.path}`, which the model was trained on: "
            f"{'; '.join(differing)}; prepare the data with `data.extends={earlier.path}`"
        )
    _warn_of_moved_numbers(dataset, earlier)
    rows: dict[str, torch.Tensor] = {}
    for feature in dataset.schema.sparse():
        if feature.has_vocabulary:
            origins = _by_value(dataset, earlier, table=feature.table)
        elif isinstance(feature, NumberFeature):
            origins = _by_lower_edge(feature, earlier.schema[feature.name])
        else:
            origins = np.arange(feature.num_rows)
        if not isinstance(feature, HistoryFeature):  # reads the items' table
            rows[feature.table] = torch.from_numpy(origins)
    for vector in dataset.schema.vectors():
        if vector.difference > 0:
            of = dataset.schema[USER_ID if vector.role == "user" else ITEM_ID]
            rows[difference_name(vector.name)] = rows[of.table]
    return rows


def _by_value(dataset: PreparedDataset, earlier: PreparedDataset, *, table: str) -> npt.NDArray[np.int64]:
    now, before = (
        pq.read_table(each.path / "vocabularies" / f"{table}.parquet")["value"].combine_chunks()
        for each in (dataset, earlier)
    )
    if now.type != before.type:
        now, before = now.cast(pa.string()), before.cast(pa.string())
    rows = pc.add(pc.index_in(now, value_set=before), 1).fill_null(OUT_OF_VOCABULARY)
    return np.concatenate([[OUT_OF_VOCABULARY], rows.to_numpy(zero_copy_only=False)]).astype(np.int64)


def _by_lower_edge(feature: NumberFeature, before: Feature) -> npt.NDArray[np.int64]:
    """Row 1 has no lower edge, so it was the lowest bucket."""
    assert isinstance(before, NumberFeature), before
    rows = 1 + np.searchsorted(np.asarray(before.boundaries), np.asarray(feature.boundaries), side="right")
    return np.concatenate([[OUT_OF_VOCABULARY, 1], rows]).astype(np.int64)


def _warn_of_moved_numbers(dataset: PreparedDataset, earlier: PreparedDataset) -> None:
    moved = [
        f"`{now.name}` (mean {before.mean:.6g} and deviation {before.std:.6g}, "
        f"now {now.mean:.6g} and {now.std:.6g})"
        for now in dataset.schema.dense()
        if isinstance(before := earlier.schema[now.name], NumberFeature)
        and (now.mean, now.std) != (before.mean, before.std)
    ]
    if moved:
        logger.warning(
            "numbers are scaled otherwise than when the model was trained: %s; data prepared with "
            "`data.extends=%s` keeps the scale",
            ", ".join(moved),
            earlier.path,
        )
