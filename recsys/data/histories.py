"""Histories: every user's own positives, and the part of them that an event may see."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.data.events import Bags, Events, bags, select_spans


@dataclasses.dataclass
class Spans:
    """Bags that are parts of one list and may overlap: bag i is values[starts[i] : ends[i]]."""

    values: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> torch.Tensor:
        """[N] int64."""
        return self.ends - self.starts

    def part(self, positions: torch.Tensor) -> Spans:
        """The bags at `positions`, not yet gathered."""
        return Spans(self.values, starts=self.starts[positions], ends=self.ends[positions])

    def select(self, positions: torch.Tensor, *, at_most: int | None = None) -> Bags:
        """The bags at `positions`, values as int64; with `at_most`, only their last so many values."""
        return self.part(positions).bags(at_most=at_most)

    def bags(self, *, at_most: int | None = None) -> Bags:
        """All bags, values as int64; with `at_most`, only their last so many values."""
        found = select_spans(self.values, self.starts, self.ends, at_most=at_most)
        return Bags(values=found.values.long(), offsets=found.offsets)


@dataclasses.dataclass
class Histories:
    """Events of a split's users in time order, one bag a user; an event's history is a prefix of a bag.

    Args:
        items: catalogue rows of the positives, int32, one bag a user.
        positives_before: [V + 1], how many positives stand before each event in the flat list of all events;
            int32 where they fit.
        event_offsets: [U + 1], where each user's events begin in that list.
        split_of_positives: split (0 train, 1 validation, 2 test) of each value of `items`, int8.
    """

    items: Bags
    positives_before: torch.Tensor
    event_offsets: torch.Tensor
    split_of_positives: torch.Tensor

    @staticmethod
    def read(path: Path) -> Histories:
        """The histories of a split, as prepared."""
        # A row group at a time: the lists of all users at once take several times what is kept of them.
        file = pq.ParquetFile(path)
        parts = [
            _Part.of(file.read_row_group(number, columns=list(_LISTS), use_threads=False))
            for number in range(file.num_row_groups)
        ] or [_Part.of(file.schema_arrow.empty_table())]
        before = _cumulated(torch.cat([part.is_positive for part in parts]))
        event_offsets = _cumulated(torch.cat([part.num_events for part in parts])).long()
        return Histories(
            items=Bags(torch.cat([part.items for part in parts]), offsets=before[event_offsets].long()),
            positives_before=before,
            event_offsets=event_offsets,
            split_of_positives=torch.cat([part.splits for part in parts]),
        )

    def spans(self, events: Events) -> Spans:
        """Positives strictly before each event, oldest first."""
        rows = events.history_rows
        last = self.event_offsets.index_select(0, rows) + events.history_lengths
        ends = self.positives_before.index_select(0, last).long()
        return Spans(self.items.values, starts=self.items.offsets.index_select(0, rows), ends=ends)

    def before(self, events: Events, *, at_most: int | None = None) -> Bags:
        """Positives strictly before each event, oldest first; with `at_most`, only the latest so many."""
        return self.spans(events).bags(at_most=at_most)

    def others(self, events: Events, drawn: torch.Tensor) -> Bags:
        """Other positives of each event's user, earlier and later ones, where order means nothing.

        Args:
            events: N events.
            drawn: [N, H] from 0 to 1; of users with more than H positives as many are drawn, with repetition.
        """
        rows = events.history_rows
        starts = self.items.offsets.index_select(0, rows)
        sizes = self.items.offsets.index_select(0, rows + 1) - starts
        counts = sizes.clamp(max=drawn.shape[1])
        event_V = torch.repeat_interleave(torch.arange(len(rows)), counts)
        place_V = torch.arange(len(event_V)) - (counts.cumsum(0) - counts)[event_V]
        is_drawn_V = (sizes > counts)[event_V]
        chance_V = drawn[event_V, place_V].double() * sizes[event_V]
        place_V = torch.where(is_drawn_V, chance_V.long(), place_V)
        values = self.items.values[starts[event_V] + place_V].long()
        kept_V = values != events.item_rows[event_V]
        offsets = torch.zeros(len(rows) + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(event_V[kept_V], minlength=len(rows)), 0, out=offsets[1:])
        return Bags(values=values[kept_V], offsets=offsets)

    def before_split(self, history_rows: torch.Tensor, split: int) -> Spans:
        """Positives of the splits before `split`, for queries that are users and not events."""
        earlier = self.split_of_positives < split
        offsets = _cumulated(earlier)[self.items.offsets].long()
        return Spans(self.items.values[earlier], starts=offsets[history_rows], ends=offsets[history_rows + 1])


_LISTS = ("item_rows", "positives", "splits")


@dataclasses.dataclass
class _Part:
    """Users of one row group: their events, and of the positives among these the item and the split."""

    num_events: torch.Tensor
    is_positive: torch.Tensor
    items: torch.Tensor
    splits: torch.Tensor

    @staticmethod
    def of(table: pa.Table) -> _Part:
        items, positives, splits = (bags(table[name]) for name in _LISTS)
        kept = positives.values.bool()
        return _Part(
            num_events=items.lengths,
            is_positive=kept,
            items=items.values[kept],
            splits=splits.values[kept],
        )


def _cumulated(counts: torch.Tensor) -> torch.Tensor:
    """[N + 1] sums of the counts before each position, int32 where the last one fits."""
    kind = torch.int32 if int(counts.sum()) < 2**31 else torch.int64
    sums = torch.zeros(len(counts) + 1, dtype=kind)
    torch.cumsum(counts, 0, out=sums[1:])
    return sums
