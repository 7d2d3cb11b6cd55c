"""Queries: what is asked of a retrieval model, and what would have been a right answer.

Legend: Q queries.
"""

from __future__ import annotations

import dataclasses
import functools
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
Seen = Literal["exclude", "keep"]
# Answers that are looked for in their histories at a time.
_BLOCK = 8192
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
        seen: whether items of a history may be recommended again: `exclude` or `keep`.
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
    seen: Seen = "exclude"

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
        # What a model has read of is no new answer either, liked or not.
        batch.seen = self.excluded(self.past(positions)).long()
        if self.sequences is None or self.read is None:
            return batch
        instants = self.events.timestamps[positions]
        return self.collator.with_sequences(batch, self.sequences, self.read.at(positions), instants)

    def past(self, positions: torch.Tensor) -> JaggedColumn:
        """The items that the model reads of the queries at `positions`, oldest first."""
        return (self.histories if self.read is None else self.read).select(positions)

    def excluded(self, past: JaggedColumn) -> JaggedColumn:
        """The items of these pasts that may not be recommended: all, or none where what was seen is kept."""
        return past if self.seen == "exclude" else JaggedColumn.of_lists([[]] * len(past))

    @functools.cached_property
    def unreachable(self) -> dict[str, int]:
        """Counts of queries, and of right answers, that no list can hold.

        Returns:
            `queries` none of whose answers a list can hold; `answers_in_history`, which are excluded;
            `answers_outside_catalogue`.
        """
        relevant = self.relevant.compact()
        query_V, rows_V, is_excluded_V = relevant.rows, relevant.values, relevant.values < 0
        for block in torch.split(torch.arange(len(rows_V) if self.seen == "exclude" else 0), _BLOCK):
            past = self.histories.select(query_V[block])
            is_excluded_V[block[past.rows[past.values == rows_V[block][past.rows]]]] = True
        is_outside_V = rows_V == 0
        is_excluded_V &= ~is_outside_V
        reachable_Q = torch.bincount(query_V[~is_excluded_V & ~is_outside_V], minlength=len(self))
        return {
            "queries": int((reachable_Q == 0).sum()),
            "answers_in_history": int(is_excluded_V.sum()),
            "answers_outside_catalogue": int(is_outside_V.sum()),
        }


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


def queries_of(
    table: pa.Table,
    mode: QueryMode,
    *,
    histories: Histories,
    sequences: Histories | None,
    collator: Collator,
    split_number: int,
    has_timestamps: bool,
    seen: Seen,
) -> Queries:
    """The queries on the positives of a split.

    Args:
        table: the positives.
        mode: `event`, one for every positive event, whose history is the user's positives strictly before it;
            `user`, one a user: all of its positives are relevant, the history is the earlier splits.
        histories: positives of the split's users.
        sequences: events of them, for a model that reads them event by event.
        collator: builds the batches.
        split_number: of the split.
        has_timestamps: whether the raw table has them.
        seen: which items are excluded from the answers.
    """
    events = Events.from_arrow(table, collator.schema)
    if mode == "event":
        relevant = JaggedColumn.of_offsets(events.item_rows, torch.arange(len(events) + 1))
        before, read = histories.before(events), sequences.before(events) if sequences else None
    else:
        users, first, relevant = _by_user(events, table[tables.ITEM_ID].combine_chunks())
        table, events = table.take(pa.array(first.numpy())), events.select(first)
        sequences = sequences.earlier_than(split_number) if sequences else None
        before = histories.earlier_than(split_number).items.at(users)
        read = sequences.items.at(users) if sequences else None
    return Queries(
        mode=mode,
        user_ids=_raw(table, tables.USER_ID),
        timestamps=_raw(table, tables.RAW_PREFIX + tables.TIMESTAMP) if has_timestamps else None,
        events=events,
        histories=before,
        relevant=relevant,
        collator=collator,
        sequences=sequences,
        read=read,
        seen=seen,
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
