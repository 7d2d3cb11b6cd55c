"""Recommendations of a retrieval model for the queries of a split, and the table of them.

Legend: Q queries, B queries of a batch, K length of the lists.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Queries
from recsys.models.encoding import catalogue_scorer
from recsys.models.protocols import RetrievalModel, popularity_windows
from recsys.schema import tables
from recsys.schema.errors import InputError
from recsys.schema.progress import progress

Mask = npt.NDArray[np.bool_]

# Column of the table of queries.
RELEVANT = "relevant"


@dataclasses.dataclass(frozen=True)
class Lists:
    """Ranked lists of Q queries; where a list is shorter than K it ends in row 0 with minus infinity.

    Args:
        item_rows: [Q, K] int64 catalogue rows, best first.
        scores: [Q, K] float32, descending.
    """

    item_rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    @staticmethod
    def empty(num_queries: int, k: int) -> Lists:
        """Lists of nothing, to be filled."""
        return Lists(
            item_rows=np.zeros((num_queries, k), dtype=np.int64),
            scores=np.full((num_queries, k), -np.inf, dtype=np.float32),
        )

    def only(self, candidates_I: Mask) -> Lists:
        """The lists without what is no candidate; what follows moves up."""
        kept_QK = candidates_I[self.item_rows]
        order_QK = np.argsort(~kept_QK, axis=1, kind="stable")
        rows_QK = np.where(kept_QK, self.item_rows, 0)
        scores_QK = np.where(kept_QK, self.scores, -np.inf).astype(np.float32)
        return Lists(
            np.take_along_axis(rows_QK, order_QK, axis=1), np.take_along_axis(scores_QK, order_QK, axis=1)
        )

    def part(self, queries: npt.NDArray[np.int64]) -> Lists:
        """The lists of the queries at these positions."""
        return Lists(self.item_rows[queries], self.scores[queries])

    def put(self, queries: torch.Tensor, scores_BK: torch.Tensor, item_rows_BK: torch.Tensor) -> None:
        """Fills in the lists of the queries at these positions ([B] int64)."""
        self.scores[queries.numpy()] = scores_BK.float().cpu().numpy()
        self.item_rows[queries.numpy()] = item_rows_BK.cpu().numpy()


def recommend(
    model: nn.Module,
    dataset: PreparedDataset,
    queries: Queries,
    *,
    k: int,
    batch_size: int,
    candidates_I: Mask | None = None,
) -> Lists:
    """The k best candidates for each query, without what it excludes.

    Args:
        model: a trained `RetrievalModel`, in evaluation mode.
        dataset: holds the catalogue.
        queries: of one split.
        k: length of the lists.
        batch_size: queries at a time.
        candidates_I: [I] bool; the whole catalogue when None.

    Raises:
        ValueError: the model does not encode queries and candidates, or its scores are not numbers.
    """
    if not isinstance(model, RetrievalModel):
        raise InputError(
            "a retrieval task needs a model with `encode_queries` and `encode_candidates`, "
            f"got `{type(model).__name__}`"
        )
    popularity = dataset.popularity("test", popularity_windows(model))
    lists = Lists.empty(len(queries), k)
    scorer = catalogue_scorer(model, dataset.items, popularity)
    device = scorer.device
    excluded_I = None if candidates_I is None else torch.from_numpy(~candidates_I).to(device)
    with torch.no_grad():  # FBGEMM has no kernel of its fused tables for inference mode
        parts = torch.split(torch.arange(len(queries)), batch_size)
        for positions in progress(parts, f"scoring {len(queries):,} queries"):
            batch = queries.batch(positions).to(device)
            best = scorer.best(model.encode_queries(batch), k, batch=batch, excluded_I=excluded_I)
            lists.put(positions, *best)
    return lists


def recommendations_table(dataset: PreparedDataset, queries: Queries, lists: Lists) -> pa.Table:
    """The lists as the table Recommendations: a row per recommended item, raw ids, rank from 1."""
    query, place = np.nonzero(lists.item_rows)
    items = dataset.raw_items[tables.ITEM_ID].combine_chunks()
    asked = asked_of(dataset, queries)
    return pa.table(
        {
            tables.USER_ID: asked[tables.USER_ID].take(pa.array(query)),
            tables.TIMESTAMP: asked[tables.TIMESTAMP].take(pa.array(query)),
            tables.RANK: pa.array(place + 1, type=pa.int32()),
            tables.ITEM_ID: items.take(pa.array(lists.item_rows[query, place])),
            tables.SCORE: pa.array(lists.scores[query, place], type=pa.float32()),
        }
    )


def queries_table(
    dataset: PreparedDataset,
    queries: Queries,
    values: Mapping[str, npt.NDArray[Any]],
    *,
    described: pa.Table | None = None,
) -> pa.Table:
    """A row per query: who asked when, how much was known, what was relevant, and every metric's value.

    `relevant` holds raw ids, null for an item outside the catalogue; with user and timestamp it says which
    question this is, whatever the order of the rows.

    Args:
        dataset: the prepared dataset.
        queries: Q of them.
        values: [Q] for each further column; NaN becomes null.
        described: Q rows that say more of each query; of columns of the same name the others are kept.
    """
    more = {} if described is None else dict(zip(described.column_names, described.columns, strict=True))
    items = dataset.raw_items[tables.ITEM_ID].combine_chunks()
    offsets = pa.array(queries.relevant.offsets.numpy(), type=pa.int32())
    columns = {
        **asked_of(dataset, queries),
        tables.TIMESTAMP_US: pa.array(queries.timestamps_us),
        "history_length": pa.array(queries.histories.lengths.numpy()),
        "num_relevant": pa.array(queries.relevant.lengths.numpy()),
        RELEVANT: pa.ListArray.from_arrays(offsets, items.take(pa.array(queries.relevant.values.numpy()))),
    }
    measured = {name: pa.array(value, from_pandas=True) for name, value in values.items()}
    others = {name: column for name, column in more.items() if name not in columns | measured}
    return pa.table({**columns, **others, **measured})


def asked_of(dataset: PreparedDataset, queries: Queries) -> dict[str, pa.Array]:
    """User id and timestamp of each query, typed as in the raw table; null without timestamps."""
    raw = pq.read_schema(dataset.files("test")[0])
    timestamps = pa.nulls(len(queries), pa.int64())
    if queries.timestamps is not None:
        timestamps = pa.array(queries.timestamps, type=raw.field(tables.RAW_PREFIX + tables.TIMESTAMP).type)
    return {
        tables.USER_ID: pa.array(queries.user_ids, type=raw.field(tables.USER_ID).type),
        tables.TIMESTAMP: timestamps,
    }
