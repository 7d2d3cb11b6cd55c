"""Histories: every user's own positives, and the part of them that an event may see."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import torch

from recsys.data.events import Bags, Events, bags, select_spans


@dataclasses.dataclass
class Histories:
    """Events of a split's users in time order, one bag a user; an event's history is a prefix of a bag.

    Args:
        items: catalogue rows of the positives, one bag a user.
        positives_before: [V + 1], how many positives stand before each event in the flat list of all events.
        event_offsets: [U + 1], where each user's events begin in that list.
        split_of_positives: split (0 train, 1 validation, 2 test) of each value of `items`.
    """

    items: Bags
    positives_before: torch.Tensor
    event_offsets: torch.Tensor
    split_of_positives: torch.Tensor

    @staticmethod
    def read(path: Path) -> Histories:
        """The histories of a split, as prepared."""
        table = pq.read_table(path, columns=["item_rows", "positives", "splits"])
        items, positive, splits = (bags(table[name]) for name in ("item_rows", "positives", "splits"))
        keep = positive.values.bool()
        before = torch.zeros(len(keep) + 1, dtype=torch.int64)
        torch.cumsum(keep, 0, out=before[1:])
        return Histories(
            items=Bags(values=items.values[keep], offsets=before[items.offsets]),
            positives_before=before,
            event_offsets=items.offsets,
            split_of_positives=splits.values[keep],
        )

    def before(self, events: Events, *, at_most: int | None = None) -> Bags:
        """Positives strictly before each event, oldest first; with `at_most`, only the latest so many."""
        starts = self.items.offsets[events.history_rows]
        ends = self.positives_before[self.event_offsets[events.history_rows] + events.history_lengths]
        return select_spans(self.items.values, starts, ends, at_most=at_most)

    def before_split(self, history_rows: torch.Tensor, split: int) -> Bags:
        """Positives of the splits before `split`, for queries that are users and not events."""
        earlier = self.split_of_positives < split
        counts = torch.zeros(len(earlier) + 1, dtype=torch.int64)
        torch.cumsum(earlier, 0, out=counts[1:])
        kept = Bags(values=self.items.values[earlier], offsets=counts[self.items.offsets])
        return kept.select(history_rows)
