"""BatchLoader: a split's rows as batches, shuffled reproducibly; stops and goes on at any batch."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from recsys.data.ahead import ahead
from recsys.data.blocks import Block, RowGroup, SplitRows, Wanted, blocks
from recsys.data.events import Events
from recsys.data.parts import ALONE, Part, Ranks
from recsys.schema.batch import Batch
from recsys.schema.features import FeatureSchema

ToBatch = Callable[[Events, Part, torch.Generator], Batch]


class BatchLoader:
    """Iterates over a split once an epoch.

    Row groups are drawn in random order and read whole; those of a block of up to `shuffle_rows` rows are
    shuffled among one another. The order depends on `seed` and the epoch alone: not on the number of ranks,
    nor on whether the split is held in memory or streamed. Two blocks are in memory at most, as the next one
    is read little by little while batches are made of the one before.

    Args:
        files: Parquet files of the split.
        schema: the features.
        to_batch: makes this rank's batch of the events of its part; its generator's state depends on seed,
            epoch and batch alone.
        batch_size: examples a batch of all ranks together; the last one of an epoch may be smaller.
        shuffle_rows: rows of a block; 0 keeps the order on disk.
        only_positives: leave out rows that are not positives.
        since: leave out rows before this instant, in microseconds since 1970 (UTC).
        seed: of the order.
        ranks: this process among those that share each batch.
        memory_budget: bytes; a split that fits is read once and held.
        prefetch_batches: batches made ahead in a thread; 0 makes each when it is asked for.
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
        ranks: Ranks = ALONE,
        memory_budget: float = 0.0,
        prefetch_batches: int = 0,
    ) -> None:
        self.rows = SplitRows(files, schema, Wanted(only_positives, since), memory_budget=memory_budget)
        self.to_batch = to_batch
        self.batch_size = batch_size
        self.shuffle_rows = shuffle_rows
        self.seed = seed
        self.ranks = ranks
        self.prefetch_batches = prefetch_batches
        self.epoch = -1
        self.next_batch = 0
        self._resumed = False

    def __len__(self) -> int:
        return math.ceil(self.rows.num_rows / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if not self._resumed:
            # What is not shuffled is the same each time.
            self.epoch, self.next_batch = self.epoch + 1 if self.shuffle_rows else 0, 0
        self._resumed = False
        numbered = self._numbered(_Draws(self.seed, self.epoch), self.next_batch)
        if self.prefetch_batches:
            numbered = ahead(numbered, self.prefetch_batches)
        for number, batch in numbered:
            self.next_batch = number + 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch the loader stands: the global batches handed out so far."""
        return {"epoch": self.epoch, "next_batch": self.next_batch, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken, by any number of ranks."""
        self.epoch, self.next_batch, self.seed = state["epoch"], state["next_batch"], state["seed"]
        self._resumed = self.next_batch < len(self)  # an epoch that was over is followed by the next one

    def _numbered(self, draws: _Draws, first: int) -> Iterator[tuple[int, Batch]]:
        for number, (events, part) in enumerate(self._parts(draws, first * self.batch_size), start=first):
            yield number, part.mark(self.to_batch(events, part, draws("batch", number)))

    def _parts(self, draws: _Draws, skip: int) -> Iterator[tuple[Events, Part]]:
        """This rank's events of each global batch, without the first `skip` rows."""
        waiting: Events | None = None
        for events, order, following in self._ordered(draws, skip):
            if waiting is not None:
                head = self.batch_size - len(waiting)
                waiting = waiting.join(events.select(order[:head]))
                order = order[head:]
                if len(waiting) < self.batch_size:
                    continue
                yield self._cut(waiting, torch.arange(len(waiting)))
                waiting = None
            for begin in range(0, len(order), self.batch_size):
                if following is not None:
                    following.read_ahead(begin / len(order))
                chosen = order[begin : begin + self.batch_size]
                if len(chosen) < self.batch_size:
                    waiting = events.select(chosen)
                else:
                    yield self._cut(events, chosen)
        if waiting is not None:
            yield self._cut(waiting, torch.arange(len(waiting)))

    def _cut(self, events: Events, positions: torch.Tensor) -> tuple[Events, Part]:
        part = self.ranks.part(len(positions))
        return events.select(positions[part.begin : part.end]), part

    def _ordered(self, draws: _Draws, skip: int) -> Iterator[tuple[Events, torch.Tensor, Block | None]]:
        """Events, the order of a block's rows among them, and the block that follows."""
        blocks_left: deque[tuple[int, Block]] = deque()
        for number, groups in enumerate(self._drawn(draws)):
            block = self.rows.open(groups)
            if skip >= block.num_rows and not blocks_left:
                skip -= block.num_rows
            else:
                blocks_left.append((number, block))
        while blocks_left:
            number, block = blocks_left.popleft()
            order = block.positions
            if self.shuffle_rows:
                order = order[torch.randperm(len(order), generator=draws("block", number))]
            yield block.events(), order[skip:], blocks_left[0][1] if blocks_left else None
            skip = 0

    def _drawn(self, draws: _Draws) -> Iterator[list[RowGroup]]:
        groups = self.rows.row_groups
        if self.shuffle_rows:
            order = torch.randperm(len(groups), generator=draws("row groups", 0))
            groups = [groups[i] for i in order.tolist()]
        return blocks(groups, self.shuffle_rows)


@dataclasses.dataclass(frozen=True)
class _Draws:
    """Generators of an epoch, each for one purpose alone, so that no draw depends on the ones before."""

    seed: int
    epoch: int

    def __call__(self, purpose: str, number: int) -> torch.Generator:
        mixed = 0
        for part in (self.seed, self.epoch, number, sum(purpose.encode())):
            mixed = (mixed * 0x9E3779B97F4A7C15 + part + 1) % 2**63
        return torch.Generator().manual_seed(mixed)
