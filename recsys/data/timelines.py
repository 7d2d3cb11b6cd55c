"""Timelines: the events of a split's users one by one, for models that read histories in their order.

Legend: U users, N events of all of them, Q queries, T targets.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.data.events import Events, bags
from recsys.schema.sequences import HistoryEvents

_LISTS = ("item_rows", "timestamps", "positives", "splits")


@dataclasses.dataclass
class Timelines:
    """Events of users in the order of time, one user after the other.

    Args:
        user_rows: [U] int64, rows of the users; 0 is unknown.
        offsets: [U + 1] int64, where each user's events begin.
        items: [N] int32, catalogue rows.
        timestamps: [N] int64, microseconds since 1970 (UTC).
        positives: [N] bool.
        splits: [N] int8, 0 train, 1 validation, 2 test.
        kept_before: [M + 1], how many of the N events stand before each of the M events in the prepared
            histories, of which only positives may have been kept.
        prepared_offsets: [U + 1] int64, where each user's events begin in those.
        ties_by_item: whether of two events at one instant the one with the lower item id is the earlier;
            otherwise neither is before the other.
        has_times: false where the raw table has no timestamps, and row order stands in for time.
    """

    user_rows: torch.Tensor
    offsets: torch.Tensor
    items: torch.Tensor
    timestamps: torch.Tensor
    positives: torch.Tensor
    splits: torch.Tensor
    kept_before: torch.Tensor
    prepared_offsets: torch.Tensor
    ties_by_item: bool
    has_times: bool = True

    def __len__(self) -> int:
        return len(self.user_rows)

    @staticmethod
    def read(path: Path, *, events: HistoryEvents, ties_by_item: bool, has_times: bool) -> Timelines:
        """The timelines in a prepared file of histories.

        Args:
            path: of the file.
            events: `positives` leaves out those that are not.
            ties_by_item: see the class.
            has_times: see the class.
        """
        file = pq.ParquetFile(path)
        # A row group at a time: the lists of all users at once take several times what is kept of them.
        groups = [
            _columns(file.read_row_group(number, columns=["user_row", *_LISTS], use_threads=False))
            for number in range(file.num_row_groups)
        ] or [_columns(file.schema_arrow.empty_table())]
        columns = {name: torch.cat([group[name] for group in groups]) for name in groups[0]}
        prepared_offsets = _cumulated(columns["num_events"])
        kept = columns["positives"] if events == "positives" else torch.ones_like(columns["positives"])
        kept_before = _cumulated(kept)
        return Timelines(
            user_rows=columns["user_rows"],
            offsets=kept_before[prepared_offsets],
            items=columns["item_rows"][kept],
            timestamps=columns["timestamps"][kept],
            positives=columns["positives"][kept],
            splits=columns["splits"][kept],
            kept_before=kept_before,
            prepared_offsets=prepared_offsets,
            ties_by_item=ties_by_item,
            has_times=has_times,
        )

    @property
    def user_of_event(self) -> torch.Tensor:
        """[N] int64, whose each event is."""
        return torch.repeat_interleave(torch.arange(len(self)), self.offsets[1:] - self.offsets[:-1])

    def before_event(self, events: Events) -> tuple[torch.Tensor, torch.Tensor]:
        """Where each query's history begins and ends: the events strictly before it ([Q] each)."""
        users = events.history_rows
        ends = self.kept_before[self.prepared_offsets[users] + events.history_lengths]
        return self.offsets[users], ends

    def earlier_than(self, split: int) -> Timelines:
        """These timelines without the events of `split` and later ones."""
        kept = self.splits < split
        before = _cumulated(kept)
        return dataclasses.replace(
            self,
            offsets=before[self.offsets],
            items=self.items[kept],
            timestamps=self.timestamps[kept],
            positives=self.positives[kept],
            splits=self.splits[kept],
            kept_before=before[self.kept_before],
        )

    def whole(self, events: Events) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the timelines of the queries' users begin and end ([Q] each)."""
        return self.offsets[events.history_rows], self.offsets[events.history_rows + 1]

    def num_before(self) -> torch.Tensor:
        """[N] int64, how many of a user's events are strictly before each of its events."""
        places = torch.arange(len(self.items))
        user = self.user_of_event
        if not self.ties_by_item and len(places):
            begins = torch.ones(len(places), dtype=torch.bool)
            begins[1:] = (user[1:] != user[:-1]) | (self.timestamps[1:] != self.timestamps[:-1])
            places = places[begins][torch.cumsum(begins, 0) - 1]
        return places - self.offsets[user]


def _columns(table: pa.Table) -> dict[str, torch.Tensor]:
    lists = {name: bags(table[name]) for name in _LISTS}
    return {
        "user_rows": torch.from_numpy(table["user_row"].to_numpy().copy()).long(),
        "num_events": lists["item_rows"].lengths,
        "item_rows": lists["item_rows"].values,
        "timestamps": lists["timestamps"].values,
        "positives": lists["positives"].values.bool(),
        "splits": lists["splits"].values,
    }


def _cumulated(counts: torch.Tensor) -> torch.Tensor:
    """[N + 1] int64 sums of the counts before each position."""
    sums = torch.zeros(len(counts) + 1, dtype=torch.int64)
    torch.cumsum(counts, 0, out=sums[1:])
    return sums
