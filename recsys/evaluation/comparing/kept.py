"""Makes the tables by which an evaluation is compared later without being made again.

`baselines.parquet` of a retrieval task has a row for each baseline and query; `probabilities.parquet` of a
ranking task a row for each judged row, drawn negatives included, and a column for each system;
`slice_members.parquet` says which queries or rows are in which slice.

Legend: N queries or rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.data.dataset import PreparedDataset
from recsys.data.events import Events
from recsys.evaluation.predictions import predictions_table
from recsys.evaluation.scoring import SystemScores
from recsys.evaluation.slices import Slice
from recsys.schema import tables

BASELINES = "baselines.parquet"
PROBABILITIES = "probabilities.parquet"
MEMBERS = "slice_members.parquet"

# Columns: a baseline's name, the number from 0 of a row of the table of queries or rows, a slice's names.
BASELINE, QUERY = "baseline", "query"
GROUP, NAME, DESCRIPTION = "group", "name", "description"


def kept_of_queries(
    slices: Sequence[Slice], baselines: Mapping[str, SystemScores | str]
) -> dict[str, pa.Table]:
    """Tables of a retrieval task by file name; `query` is the row of `queries.parquet`.

    Args:
        slices: of the judge.
        baselines: judged, or the reason why one could not be had.
    """
    parts = []
    for name, scores in baselines.items():
        if isinstance(scores, SystemScores):
            size = len(next(iter(scores.values.values())))
            parts.append(pa.table({BASELINE: _repeated(name, size), QUERY: np.arange(size), **scores.values}))
    empty = pa.table({BASELINE: _repeated("", 0), QUERY: np.arange(0)})
    return {BASELINES: pa.concat_tables(parts) if parts else empty, MEMBERS: _members(slices)}


def kept_of_rows(
    dataset: PreparedDataset,
    rows: pa.Table,
    *,
    events: Events,
    slices: Sequence[Slice],
    probabilities: Mapping[str, npt.NDArray[np.float64]],
) -> dict[str, pa.Table]:
    """Tables of a ranking task by file name; `query` is the row of `probabilities.parquet`.

    Args:
        dataset: holds the raw ids.
        rows: of the test split.
        events: the same, and perhaps copies of them with drawn items behind.
        slices: of the judge.
        probabilities: [N] of each system by name, `model` first.
    """
    copies = np.tile(np.arange(len(rows)), len(events) // len(rows))
    drawn = pa.array(events.item_rows.numpy()[len(rows) :])
    table = predictions_table(rows.take(pa.array(copies)), probabilities["model"]).drop_columns(
        [tables.PROBABILITY]
    )
    items = pa.chunked_array(
        [
            *rows[tables.ITEM_ID].chunks,
            *dataset.raw_items[tables.ITEM_ID].take(drawn).cast(rows[tables.ITEM_ID].type).chunks,
        ],
        type=rows[tables.ITEM_ID].type,
    )
    table = table.append_column(tables.TIMESTAMP_US, pa.array(events.timestamps.numpy()))
    labels = pa.array(events.positives.numpy().astype(np.int8))
    for name, column in ((tables.ITEM_ID, items), (tables.LABEL, labels)):
        table = table.set_column(table.column_names.index(name), name, column)
    for name, values in probabilities.items():
        table = table.append_column(name, pa.array(values))
    return {PROBABILITIES: table, MEMBERS: _members(slices)}


def _members(slices: Sequence[Slice]) -> pa.Table:
    rows = [np.flatnonzero(piece.mask) for piece in slices]
    columns: dict[str, Any] = {
        column: pa.chunked_array(
            [_repeated(getattr(piece, column), len(its)) for piece, its in zip(slices, rows, strict=True)],
            type=_repeated("", 0).type,
        )
        for column in (GROUP, NAME, DESCRIPTION)
    }
    return pa.table({**columns, QUERY: np.concatenate([*rows, np.arange(0)])})


def _repeated(text: str, times: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([text]))
