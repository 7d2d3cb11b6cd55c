"""Histories: what the users of a split did, in the order of time, and the part of it that an event may see.

Legend: U users, N events of all of them that are kept, M events of all of them as prepared, Q events that
ask, V elements of jagged columns.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.data.events import Events, bags
from recsys.schema import tables
from recsys.schema.batch import HistoryEvents
from recsys.schema.jagged import JaggedColumn


@dataclasses.dataclass
class Histories:
    """Events of users in the order of time, one user after the other; an event's history is a prefix.

    prepared    user 0: a+ b- c+ d+     user 1: e- f+        + is a positive
    kept        user 0: a  c  d         user 1: f            `events="positives"`, N = 4 of M = 6
    before d    a c                                          what the model sees, and is not asked for again

    Args:
        user_rows: [U] int64, rows of the users; 0 is unknown.
        items: catalogue rows of the kept events, int32, a list a user.
        positives: [N] bool.
        splits: [N] int8, 0 train, 1 validation, 2 test.
        timestamps: [N] int64, microseconds since 1970 (UTC); empty where they were not asked for.
        kept_before: [M + 1], how many kept events stand before each prepared one; int32 where they fit.
        prepared_offsets: [U + 1] int64, where each user's prepared events begin.
        ties_by_item: whether of two events at one instant the one with the lower item id is the earlier;
            otherwise neither is before the other.
        has_times: false where the raw table has no timestamps, and row order stands in for time.
        weights: [N] float32, labels, which are what positives count in the loss; empty where they were not
            asked for.
    """

    user_rows: torch.Tensor
    items: JaggedColumn
    positives: torch.Tensor
    splits: torch.Tensor
    timestamps: torch.Tensor
    kept_before: torch.Tensor
    prepared_offsets: torch.Tensor
    ties_by_item: bool
    has_times: bool
    weights: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0))

    def __len__(self) -> int:
        return len(self.user_rows)

    @staticmethod
    def read(
        path: Path,
        *,
        events: HistoryEvents,
        with_timestamps: bool,
        ties_by_item: bool,
        has_times: bool,
        with_weights: bool = False,
    ) -> Histories:
        """The histories in a prepared file.

        Args:
            path: of the file.
            events: `positives` leaves out those that are not.
            with_timestamps: whether to hold them, at 8 bytes an event.
            ties_by_item: see the class.
            has_times: see the class.
            with_weights: whether to hold them, at 4 bytes an event.
        """
        file = pq.ParquetFile(path)
        asked = [*([_TIMESTAMPS] if with_timestamps else []), *([_LABELS] if with_weights else [])]
        columns = [_ITEMS, _POSITIVES, _SPLITS, *asked, tables.USER_ROW]
        # A row group at a time: the lists of all users at once take several times what is kept of them.
        groups = [
            _columns(file.read_row_group(number, columns=columns, use_threads=False), events)
            for number in range(file.num_row_groups)
        ] or [_columns(file.schema_arrow.empty_table().select(columns), events)]
        whole = {name: torch.cat([group[name] for group in groups]) for name in groups[0]}
        kept_before = _cumulated(whole["is_kept"])
        prepared_offsets = _cumulated(whole["num_events"]).long()
        return Histories(
            user_rows=whole[tables.USER_ROW],
            items=JaggedColumn.of_offsets(whole[_ITEMS], kept_before[prepared_offsets].long()),
            positives=whole[_POSITIVES],
            splits=whole[_SPLITS],
            timestamps=whole.get(_TIMESTAMPS, torch.zeros(0, dtype=torch.int64)),
            kept_before=kept_before,
            prepared_offsets=prepared_offsets,
            ties_by_item=ties_by_item,
            has_times=has_times,
            weights=whole.get(_LABELS, torch.zeros(0)),
        )

    def before(self, events: Events) -> JaggedColumn:
        """Items of what the user did strictly before each event, oldest first; as many lists as events."""
        rows = events.history_rows
        last = self.prepared_offsets.index_select(0, rows) + events.history_lengths
        ends = self.kept_before.index_select(0, last).long()
        return JaggedColumn(self.items.values, starts=self.items.starts.index_select(0, rows), ends=ends)

    def others(self, events: Events, drawn: torch.Tensor) -> JaggedColumn:
        """Other items of each event's user, earlier and later ones, where order means nothing.

        Args:
            events: Q events.
            drawn: [Q, H] from 0 to 1; of users with more than H items as many are drawn, with repetition.
        """
        of_users = self.items.at(events.history_rows)
        sizes = of_users.lengths
        picked = JaggedColumn.of_lengths(drawn, sizes.clamp(max=drawn.shape[1]))
        event_V = picked.rows
        place_V = torch.arange(len(event_V)) - picked.starts[event_V]
        is_drawn_V = (sizes > picked.lengths)[event_V]
        chance_V = drawn[event_V, place_V].double() * sizes[event_V]
        place_V = torch.where(is_drawn_V, chance_V.long(), place_V)
        values = self.items.values[of_users.starts[event_V] + place_V].long()
        kept_V = values != events.item_rows[event_V]
        lengths = torch.bincount(event_V[kept_V], minlength=len(events))
        return JaggedColumn.of_lengths(values[kept_V], lengths)

    def earlier_than(self, split: int) -> Histories:
        """These histories without the events of `split` and later ones."""
        kept = self.splits < split
        before = _cumulated(kept)
        return dataclasses.replace(
            self,
            items=JaggedColumn(
                self.items.values[kept],
                starts=before[self.items.starts].long(),
                ends=before[self.items.ends].long(),
            ),
            positives=self.positives[kept],
            splits=self.splits[kept],
            timestamps=self.timestamps[kept] if len(self.timestamps) else self.timestamps,
            weights=self.weights[kept] if len(self.weights) else self.weights,
            kept_before=before[self.kept_before.long()],
        )

    def num_before(self) -> torch.Tensor:
        """[N] int64, how many of a user's events are strictly before each of its events."""
        places = torch.arange(len(self.items.values))
        user = self.items.rows
        if not self.ties_by_item and len(places):
            # Of events at one instant none has seen another: each counts from the first of them.
            begins = torch.ones(len(places), dtype=torch.bool)
            begins[1:] = (user[1:] != user[:-1]) | (self.timestamps[1:] != self.timestamps[:-1])
            places = places[begins][torch.cumsum(begins, 0) - 1]
        return places - self.items.starts[user]


_ITEMS, _POSITIVES, _SPLITS = "item_rows", "positives", "splits"
_TIMESTAMPS, _LABELS = "timestamps", "labels"
HISTORY_COLUMNS = (_ITEMS, _POSITIVES, _SPLITS)


def _columns(table: pa.Table, events: HistoryEvents) -> dict[str, torch.Tensor]:
    """The kept events of a row group's users, column by column."""
    lists = {name: bags(table[name]) for name in table.column_names if name != tables.USER_ROW}
    positives = lists[_POSITIVES].values.bool()
    kept = positives if events == "positives" else torch.ones_like(positives)
    return {
        **{name: column.values[kept] for name, column in lists.items()},
        _POSITIVES: positives[kept],
        tables.USER_ROW: torch.from_numpy(table[tables.USER_ROW].to_numpy().copy()).long(),
        "num_events": lists[_ITEMS].lengths,
        "is_kept": kept,
    }


def _cumulated(counts: torch.Tensor) -> torch.Tensor:
    """[N + 1] sums of the counts before each position, int32 where the last one fits: memory is halved."""
    sums = torch.zeros(len(counts) + 1, dtype=torch.int32 if int(counts.sum()) < 2**31 else torch.int64)
    torch.cumsum(counts, 0, out=sums[1:])
    return sums
