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
from recsys.data.blocks import Block, RowFilter, RowGroup, SplitRows, blocks
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
        wanted: which rows.
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
        wanted: RowFilter = RowFilter(),  # noqa: B008 (frozen)
        seed: int = 0,
        ranks: Ranks = ALONE,
        memory_budget: float = 0.0,
        prefetch_batches: int = 0,
    ) -> None:
        self.rows = SplitRows(files, schema, wanted, memory_budget=memory_budget)
        self.to_batch = to_batch
        self.batch_size = batch_size
        self.shuffle_rows = shuffle_rows
        self.position = Position(seed)
        self.ranks = ranks
        self.prefetch_batches = prefetch_batches

    def __len__(self) -> int:
        return math.ceil(self.rows.num_rows / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self.position.begin()
        # What is not shuffled is the same each time.
        numbered = self._numbered(Draws(self.position.seed, epoch if self.shuffle_rows else 0), first)
        if self.prefetch_batches:
            numbered = ahead(numbered, self.prefetch_batches)
        for number, batch in numbered:
            self.position.next_batch = number + 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch the loader stands: the global batches handed out so far."""
        return self.position.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken, by any number of ranks."""
        self.position.load_state_dict(state, num_batches=len(self))

    def _numbered(self, draws: Draws, first: int) -> Iterator[tuple[int, Batch]]:
        for number, (events, part) in enumerate(self._parts(draws, first * self.batch_size), start=first):
            yield number, part.mark(self.to_batch(events, part, draws("batch", number)))

    def _parts(self, draws: Draws, skip: int) -> Iterator[tuple[Events, Part]]:
        """This rank's events of each global batch, without the first `skip` rows."""
        waiting: Events | None = None
        for events, order, following in self._ordered(draws, skip):
            # What a block leaves over begins the next batch, so that only an epoch's last batch is smaller.
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
                    # As large a part of the next block as is used up of this one: reading costs each batch
                    # alike, and no more than two blocks are ever held.
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
        own = events.select(positions[part.begin : part.end])
        if own.weights is not None and events.weights is not None and part.num_ranks > 1:
            weight = float(own.weights.sum() / events.weights[positions].sum())
            part = dataclasses.replace(part, weight=weight)
        return own, part

    def _ordered(self, draws: Draws, skip: int) -> Iterator[tuple[Events, torch.Tensor, Block | None]]:
        """Events, the order of a block's rows among them, and the block that follows."""
        blocks_left: deque[tuple[int, Block]] = deque()
        for number, groups in enumerate(self._drawn(draws)):
            block = self.rows.open(groups)
            # A block that was used up before the interruption is not read again; of the first that was not,
            # the rows used up are skipped in its shuffled order.
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

    def _drawn(self, draws: Draws) -> Iterator[list[RowGroup]]:
        groups = self.rows.row_groups
        if self.shuffle_rows:
            order = torch.randperm(len(groups), generator=draws("row groups", 0))
            groups = [groups[i] for i in order.tolist()]
        return blocks(groups, self.shuffle_rows)


@dataclasses.dataclass
class Position:
    """Where a loader stands: the global batches handed out so far in which epoch, and the seed of its order.

    Args:
        seed: of the order.
        epoch: from 0; -1 before the first.
        next_batch: number of the batch that comes next.
    """

    seed: int
    epoch: int = -1
    next_batch: int = 0
    _resumed: bool = False

    def begin(self) -> tuple[int, int]:
        """Epoch and number of the batch to begin with: a new epoch, or where one was broken off."""
        if not self._resumed:
            self.epoch, self.next_batch = self.epoch + 1, 0
        self._resumed = False
        return self.epoch, self.next_batch

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"epoch": self.epoch, "next_batch": self.next_batch, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any], *, num_batches: int) -> None:
        """Goes on where `state_dict` was taken, in an epoch of `num_batches` batches."""
        self.epoch, self.next_batch, self.seed = state["epoch"], state["next_batch"], state["seed"]
        self._resumed = self.next_batch < num_batches  # an epoch that was over is followed by the next one


@dataclasses.dataclass(frozen=True)
class Draws:
    """Generators of an epoch, each for one purpose alone, so that no draw depends on the ones before."""

    seed: int
    epoch: int

    def __call__(self, purpose: str, number: int) -> torch.Generator:
        """The generator of the `number`-th draw for this purpose."""
        # By 2^64 over the golden ratio neighbouring seeds, epochs and numbers become ones far apart.
        mixed = 0
        for part in (self.seed, self.epoch, number, sum(purpose.encode())):
            mixed = (mixed * 0x9E3779B97F4A7C15 + part + 1) % 2**63
        return torch.Generator().manual_seed(mixed)
