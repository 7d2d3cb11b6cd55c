"""BatchLoader: a split's rows as batches, shuffled reproducibly; stops and goes on at any batch."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from recsys.data.events import Events, columns_of
from recsys.schema import tables
from recsys.schema.batch import Batch
from recsys.schema.features import FeatureSchema

ToBatch = Callable[[Events, torch.Generator], Batch]


@dataclasses.dataclass(frozen=True)
class RowGroup:
    """A row group of a Parquet file and how many of its rows are wanted."""

    file: Path
    index: int
    num_rows: int


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which rows of a split are wanted: positives only, or those from an instant on, or both."""

    only_positives: bool = False
    since: int | None = None

    @property
    def columns(self) -> list[str]:
        """What has to be read to tell; empty when every row is wanted."""
        by_time = [] if self.since is None else [tables.TIMESTAMP]
        return [*([tables.POSITIVE] if self.only_positives else []), *by_time]

    def mask(self, table: pa.Table) -> pa.ChunkedArray:
        """True for each wanted row."""
        kept = [table[tables.POSITIVE]] if self.only_positives else []
        if self.since is not None:
            kept.append(pc.greater_equal(table[tables.TIMESTAMP], self.since))
        return functools.reduce(pc.and_, kept)


class BatchLoader:
    """Iterates over a split once an epoch.

    Row groups are drawn in random order and read whole; those of a block of up to `shuffle_rows` rows are
    shuffled among one another. The order depends on `seed` and the epoch alone. A split that fits one block
    is read once.

    Args:
        files: Parquet files of the split.
        schema: the features.
        to_batch: makes a batch of events; its generator's state depends on seed, epoch and batch alone.
        batch_size: examples a batch; the last one of an epoch may be smaller.
        shuffle_rows: rows of a block; 0 keeps the order on disk.
        only_positives: leave out rows that are not positives.
        since: leave out rows before this instant, in microseconds since 1970 (UTC).
        seed: of the order.
    """

    def __init__(
        self,
        files: list[Path],
        schema: FeatureSchema,
        to_batch: ToBatch,
        *,
        batch_size: int,
        shuffle_rows: int = 0,
        only_positives: bool = False,
        since: int | None = None,
        seed: int = 0,
    ) -> None:
        self.schema = schema
        self.to_batch = to_batch
        self.batch_size = batch_size
        self.shuffle_rows = shuffle_rows
        self.wanted = Wanted(only_positives, since)
        self.seed = seed
        self.row_groups = [group for file in files for group in _row_groups(file, self.wanted)]
        self.num_rows = sum(group.num_rows for group in self.row_groups)
        self.epoch = -1
        self.next_batch = 0
        self._resumed = False
        self._only_block: Events | None = None

    def __len__(self) -> int:
        return math.ceil(self.num_rows / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if not self._resumed:
            # What is not shuffled is the same each time.
            self.epoch, self.next_batch = self.epoch + 1 if self.shuffle_rows else 0, 0
        self._resumed = False
        skip = self.next_batch * self.batch_size
        for position, rows in enumerate(self._chunks(skip), start=self.next_batch):
            self.next_batch = position + 1
            yield self.to_batch(rows, self._generator("batch", position))

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch the loader stands: the batches handed out so far."""
        return {"epoch": self.epoch, "next_batch": self.next_batch, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        self.epoch, self.next_batch, self.seed = state["epoch"], state["next_batch"], state["seed"]
        self._resumed = self.next_batch < len(self)  # an epoch that was over is followed by the next one

    def _chunks(self, skip: int) -> Iterator[Events]:
        """Batches of events across blocks, without the first `skip` rows."""
        waiting: Events | None = None
        for block_number, block in enumerate(self._blocks()):
            size = sum(group.num_rows for group in block)
            if skip >= size:
                skip -= size
                continue
            events = self._read(block, is_only=size == self.num_rows)
            order = torch.arange(len(events))
            if self.shuffle_rows:
                order = torch.randperm(len(events), generator=self._generator("block", block_number))
            order, skip = order[skip:], 0
            if waiting is not None:
                head = self.batch_size - len(waiting)
                merged = _concatenate(waiting, events.select(order[:head]))
                order, waiting = order[head:], None
                if len(merged) < self.batch_size:
                    waiting = merged
                    continue
                yield merged
            for begin in range(0, len(order), self.batch_size):
                chosen = events.select(order[begin : begin + self.batch_size])
                if len(chosen) < self.batch_size:
                    waiting = chosen
                else:
                    yield chosen
        if waiting is not None:
            yield waiting

    def _blocks(self) -> Iterator[list[RowGroup]]:
        groups = self.row_groups
        if self.shuffle_rows:
            order = torch.randperm(len(groups), generator=self._generator("row groups", 0))
            groups = [groups[i] for i in order.tolist()]
        block: list[RowGroup] = []
        for group in groups:
            if block and sum(g.num_rows for g in block) + group.num_rows > max(self.shuffle_rows, 1):
                yield block
                block = []
            block.append(group)
        if block:
            yield block

    def _read(self, block: list[RowGroup], *, is_only: bool) -> Events:
        if is_only and self._only_block is not None:
            return self._only_block
        # In the order on disk, so that a block's rows do not depend on the order its groups were drawn in.
        groups = sorted(block, key=lambda group: (group.file, group.index))
        columns = columns_of(self.schema)
        table = pa.concat_tables(
            pq.ParquetFile(g.file).read_row_group(g.index, columns=columns) for g in groups
        )
        if self.wanted.columns:
            table = table.filter(self.wanted.mask(table))
        events = Events.from_arrow(table, self.schema)
        if is_only:
            self._only_block = events
        return events

    def _generator(self, purpose: str, number: int) -> torch.Generator:
        parts = (self.seed, self.epoch, number, sum(purpose.encode()))
        mixed = 0
        for part in parts:
            mixed = (mixed * 0x9E3779B97F4A7C15 + part + 1) % 2**63
        return torch.Generator().manual_seed(mixed)


def _row_groups(file: Path, wanted: Wanted) -> list[RowGroup]:
    parquet = pq.ParquetFile(file)
    groups = []
    for index in range(parquet.num_row_groups):
        num_rows = parquet.metadata.row_group(index).num_rows
        if wanted.columns:
            num_rows = int(
                wanted.mask(parquet.read_row_group(index, columns=wanted.columns)).to_numpy().sum()
            )
        if num_rows:
            groups.append(RowGroup(file, index, num_rows))
    return groups


def _concatenate(first: Events, second: Events) -> Events:
    joined: dict[str, Any] = {}
    for field in dataclasses.fields(Events):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if isinstance(a, dict):
            joined[field.name] = {name: a[name].join(b[name]) for name in a}
        else:
            joined[field.name] = torch.cat([a, b])
    return Events(**joined)
