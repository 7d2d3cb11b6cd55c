"""Ranks: which of several training processes this is, and its part of each global batch."""

from __future__ import annotations

import dataclasses

import torch

from recsys.schema.batch import Batch
from recsys.schema.errors import InputError


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows `begin` to `end` of a global batch of `whole` rows.

    Where there are fewer rows than ranks, a rank without any gets the batch's first row to stand in
    (`is_empty`), so that all ranks take the same number of steps. Of rows that are weighed `weight` is this
    part's share of the batch's weights; None where all weigh the same.
    """

    begin: int
    end: int
    whole: int
    num_ranks: int = 1
    is_empty: bool = False
    weight: float | None = None

    @property
    def positions(self) -> torch.Tensor:
        """[end - begin] int64, within the global batch."""
        return torch.arange(self.begin, self.end)

    def mark(self, batch: Batch) -> Batch:
        """Sets `share` and, where the rows only stand in, `weights` of 0."""
        if self.is_empty:
            batch.weights, batch.share = torch.zeros(len(batch)), 0.0
        elif self.weight is None:
            batch.share = self.num_ranks * (self.end - self.begin) / self.whole
        else:
            batch.share = self.num_ranks * self.weight
        return batch


@dataclasses.dataclass(frozen=True)
class Ranks:
    """This process and how many there are.

    Args:
        rank: this one, from 0.
        num_ranks: all of them.

    Raises:
        ValueError: `rank` is not one of them.
    """

    rank: int = 0
    num_ranks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.num_ranks:
            raise InputError(f"`rank` must be between 0 and {self.num_ranks - 1}, got {self.rank}")

    def part(self, size: int) -> Part:
        """This rank's part of `size` rows: contiguous, and as even as can be, the first ones longer.

        >>> [(part.begin, part.end) for part in (Ranks(0, 2).part(7), Ranks(1, 2).part(7))]
        [(0, 4), (4, 7)]
        """
        each, longer = divmod(size, self.num_ranks)
        begin = self.rank * each + min(self.rank, longer)
        end = begin + each + (self.rank < longer)
        if begin == end and size:
            return Part(0, 1, whole=size, num_ranks=self.num_ranks, is_empty=True)
        return Part(begin, end, whole=size, num_ranks=self.num_ranks)


ALONE = Ranks()
