"""Queries: what is asked of a retrieval model, and what would have been a right answer.

Legend: Q queries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from recsys.data.collate import Collator
from recsys.data.events import Events
from recsys.data.histories import Histories
from recsys.data.parts import ALONE, Ranks
from recsys.schema import tables
from recsys.schema.batch import Batch
from recsys.schema.jagged import JaggedColumn

QueryMode = Literal["event", "user"]
Known = Literal["all", "train"]
# `auto` asks every query as long as that is no more work, in scores of a query and an item.
QueryLimit = int | Literal["auto"] | None


def queries_within(limit: QueryLimit, *, num_items: int, auto_scores: float) -> int | None:
    """Largest number of queries; None for all.

    Args:
        limit: a number; None asks all of them, `auto` as many as make `auto_scores` scores.
        num_items: candidates of each query.
        auto_scores: about 10^8 are computed a second on one core.
    """
    return max(1, int(auto_scores / max(num_items, 1))) if limit == "auto" else limit


@dataclasses.dataclass
class Queries:
    """Q queries of a split, in its order.

    Args:
        mode: `event` or `user`.
        user_ids: [Q] raw ids.
        timestamps: [Q] as in the raw table; None where it has none. Of a user's first event in mode `user`.
        events: the events whose user and context features the model sees.
        histories: all of the user's positives before the query (catalogue rows, oldest first).
        relevant: catalogue rows of the right answers; 0, an item outside the catalogue, can't be hit but
            counts.
        collator: builds the batches.
        sequences: histories of the split, for a model that reads them event by event.
        read: the items of these that each query's model reads, liked or not.
    """

    mode: QueryMode
    user_ids: npt.NDArray[Any]
    timestamps: npt.NDArray[Any] | None
    events: Events
    histories: JaggedColumn
    relevant: JaggedColumn
    collator: Collator
    sequences: Histories | None = None
    read: JaggedColumn | None = None

    def __len__(self) -> int:
        return len(self.events)

    def part(self, positions: torch.Tensor) -> Queries:
        """The queries at `positions`."""
        chosen = positions.numpy()
        return dataclasses.replace(
            self,
            user_ids=self.user_ids[chosen],
            timestamps=None if self.timestamps is None else self.timestamps[chosen],
            events=self.events.select(positions),
            histories=self.histories.at(positions),
            relevant=self.relevant.select(positions),
            read=None if self.read is None else self.read.at(positions),
        )

    def draw(self, number: int, *, seed: int) -> Queries:
        """So many queries at random, in their order; all of them where there are no more."""
        if len(self) <= number:
            return self
        drawn = np.random.default_rng(seed).permutation(len(self))[:number]
        return self.part(torch.from_numpy(np.sort(drawn)))

    @property
    def user_rows(self) -> torch.Tensor:
        """[Q], 0 for a user unknown to train and to the users' table."""
        return self.events.user_rows

    @property
    def timestamps_us(self) -> npt.NDArray[np.int64]:
        """[Q] microseconds since 1970 (UTC); row numbers where the raw table has no timestamps."""
        return self.events.timestamps.numpy()

    def batch(self, positions: torch.Tensor) -> Batch:
        """The queries at `positions`, with `relevant` and `seen`."""
        visible = None
        if self.collator.needs_history:
            visible = self.histories.at(positions)
        batch = self.collator.queries(self.events.select(positions), visible)
        batch.relevant = self.relevant.select(positions)
        if self.sequences is None or self.read is None:
            batch.seen = self.histories.select(positions).long()
            return batch
        read = self.read.at(positions)
        # What a model has read of is not its answer either, liked or not.
        batch.seen = read.compact().long()
        instants = self.events.timestamps[positions]
        return self.collator.with_sequences(batch, self.sequences, read, instants)


@dataclasses.dataclass(frozen=True)
class QueryLoader:
    """The batches of `queries`, in order, as often as asked; of each, this rank's part."""

    queries: Queries
    batch_size: int
    ranks: Ranks = ALONE

    def __len__(self) -> int:
        return -(-len(self.queries) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for positions in torch.split(torch.arange(len(self.queries)), self.batch_size):
            part = self.ranks.part(len(positions))
            yield part.mark(self.queries.batch(positions[part.begin : part.end]))


def event_queries(
    table: pa.Table,
    *,
    histories: Histories,
    collator: Collator,
    sequences: Histories | None,
    split_number: int,
    has_timestamps: bool,
) -> Queries:
    """One query for every positive event; its history is the user's positives strictly before it."""
    events = Events.from_arrow(table, collator.schema)
    return Queries(
        mode="event",
        user_ids=_raw(table, tables.USER_ID),
        timestamps=_raw(table, tables.RAW_PREFIX + tables.TIMESTAMP) if has_timestamps else None,
        events=events,
        histories=histories.before(events),
        relevant=JaggedColumn.of_offsets(events.item_rows, torch.arange(len(events) + 1)),
        collator=collator,
        sequences=sequences,
        read=sequences.before(events) if sequences else None,
    )


def user_queries(
    table: pa.Table,
    *,
    histories: Histories,
    collator: Collator,
    sequences: Histories | None,
    split_number: int,
    has_timestamps: bool,
) -> Queries:
    """One query a user: all of its positives are relevant, the history is the earlier splits."""
    events = Events.from_arrow(table, collator.schema)
    users, first, relevant = _by_user(events, table[tables.ITEM_ID].combine_chunks())
    earlier = sequences.earlier_than(split_number) if sequences else None
    chosen = table.take(pa.array(first.numpy()))
    return Queries(
        mode="user",
        user_ids=_raw(chosen, tables.USER_ID),
        timestamps=_raw(chosen, tables.RAW_PREFIX + tables.TIMESTAMP) if has_timestamps else None,
        events=events.select(first),
        histories=histories.earlier_than(split_number).items.at(users),
        relevant=relevant,
        collator=collator,
        sequences=earlier,
        read=earlier.items.at(users) if earlier else None,
    )


def _by_user(events: Events, item_ids: pa.Array) -> tuple[torch.Tensor, torch.Tensor, JaggedColumn]:
    """Users in the order of their keys, each one's first event, and the items each has, every item once.

    Items outside the catalogue all have row 0 and are told apart by their raw ids.
    """
    codes = torch.from_numpy(item_ids.dictionary_encode().indices.to_numpy().astype(np.int64))
    items = torch.where(events.item_rows > 0, events.item_rows.long(), -1 - codes)
    pairs = torch.unique(torch.stack([events.history_rows.long(), items], dim=1), dim=0)
    users, counts = torch.unique_consecutive(pairs[:, 0], return_counts=True)
    order = torch.argsort(events.history_rows, stable=True)
    _, rows = torch.unique_consecutive(events.history_rows[order], return_counts=True)
    first = order[torch.cumsum(rows, 0) - rows]
    return users, first, JaggedColumn.of_lengths(pairs[:, 1].clamp(min=0), counts)


def _raw(table: pa.Table, column: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = table[column].combine_chunks().to_numpy(zero_copy_only=False)
    return values
