"""JaggedColumn: a list of any length for each row, all in one flat tensor.

    row       0          1      2
    list      [8, 3, 9]  []     [1]

    values    8 3 9 1
    starts    0 3 3             list i is values[starts[i] : ends[i]]
    ends      3 3 4

Legend: N rows, V values of all lists.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch


@dataclasses.dataclass
class JaggedColumn:
    """N lists; those that overlap, as the histories of a user's events do, share their values.

    Args:
        values: flat; nothing says that every one of them is in a list.
        starts, ends: [N] int64, where each list begins and ends in `values`.
    """

    values: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor

    @staticmethod
    def of_offsets(values: torch.Tensor, offsets: torch.Tensor) -> JaggedColumn:
        """The lists values[offsets[i] : offsets[i + 1]], of N + 1 offsets."""
        return JaggedColumn(values, starts=offsets[:-1], ends=offsets[1:])

    @staticmethod
    def of_lengths(values: torch.Tensor, lengths: torch.Tensor) -> JaggedColumn:
        """The lists of these lengths, end to end."""
        return JaggedColumn.of_offsets(values, cumulated(lengths))

    @staticmethod
    def of_lists(lists: list[list[int]]) -> JaggedColumn:
        """The lists as a column of int64.

        Example:
            >>> JaggedColumn.of_lists([[8, 3, 9], [], [1]]).select(torch.tensor([2, 0]), at_most=2).lists()
            [[1], [3, 9]]
        """
        values = torch.tensor([*itertools.chain.from_iterable(lists)], dtype=torch.int64)
        return JaggedColumn.of_lengths(values, torch.tensor([*map(len, lists)], dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> torch.Tensor:
        """[N] int64."""
        return self.ends - self.starts

    @property
    def offsets(self) -> torch.Tensor:
        """[N + 1] where each list begins in `values`, and where the last one ends; of lists end to end."""
        offsets = cumulated(self.lengths)
        assert torch.equal(self.starts, offsets[:-1]), "compact first"
        assert len(self.values) == offsets[-1], "compact first"
        return offsets

    @property
    def positions(self) -> torch.Tensor:
        """[V] int64, where the elements of all lists stand in `values`, list by list."""
        ends = torch.cumsum(self.lengths, 0)
        total = int(ends[-1]) if len(ends) else 0
        shift = torch.repeat_interleave(self.ends - ends, self.lengths, output_size=total)
        return shift.add_(torch.arange(total, device=shift.device))

    @property
    def rows(self) -> torch.Tensor:
        """[V] int64, whose each element of `compact().values` is."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.starts.device), self.lengths)

    def at(self, rows: torch.Tensor | slice) -> JaggedColumn:
        """The lists of these rows, over the same values."""
        return JaggedColumn(self.values, starts=self.starts[rows], ends=self.ends[rows])

    def latest(self, count: int) -> JaggedColumn:
        """Only the last `count` elements of each list, over the same values."""
        starts = torch.maximum(self.starts, self.ends - count)
        return JaggedColumn(self.values, starts=starts, ends=self.ends)

    def of(self, values: torch.Tensor) -> JaggedColumn:
        """Lists of what stands in `values` where these have their elements."""
        return JaggedColumn(values, starts=self.starts, ends=self.ends)

    def compact(self) -> JaggedColumn:
        """The same lists end to end, with no other values between them."""
        # Indexing by a tensor, values[...], takes five times as long as index_select on a CPU.
        return JaggedColumn.of_lengths(self.values.index_select(0, self.positions), self.lengths)

    def select(self, rows: torch.Tensor | slice, *, at_most: int | None = None) -> JaggedColumn:
        """The lists of these rows, end to end; with `at_most`, only the last so many elements of each."""
        chosen = self.at(rows)
        return (chosen if at_most is None else chosen.latest(at_most)).compact()

    def lists(self) -> list[list[Any]]:
        """The lists as Python's own."""
        column = self.compact()
        values = column.values.tolist()
        return [values[begin:end] for begin, end in itertools.pairwise(column.offsets.tolist())]

    def long(self) -> JaggedColumn:
        """The same lists with values of int64."""
        return self.of(self.values.long())

    def to(self, device: torch.device, *, non_blocking: bool = False) -> JaggedColumn:
        """This column on `device`."""
        return JaggedColumn(*(part.to(device, non_blocking=non_blocking) for part in self._parts()))

    def pin_memory(self) -> JaggedColumn:
        """This column in page-locked memory."""
        return JaggedColumn(*(part.pin_memory() for part in self._parts()))

    def record_stream(self, stream: torch.Stream) -> None:
        """Tells the caching allocator that `stream` uses this column."""
        for part in self._parts():
            part.record_stream(stream)

    def _parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.values, self.starts, self.ends


def concatenated(columns: Sequence[JaggedColumn]) -> JaggedColumn:
    """The lists of all columns, one column after the other."""
    base = [0, *itertools.accumulate(len(column.values) for column in columns)]
    starts, ends = (
        torch.cat([getattr(column, side) + begin for column, begin in zip(columns, base, strict=False)])
        for side in ("starts", "ends")
    )
    return JaggedColumn(torch.cat([column.values for column in columns]), starts=starts, ends=ends)


def cumulated(counts: torch.Tensor) -> torch.Tensor:
    """[N + 1] int64 sums of the counts before each position.

    Example:
        >>> cumulated(torch.tensor([3, 0, 1])).tolist()
        [0, 3, 3, 4]
    """
    sums = counts.new_zeros(len(counts) + 1, dtype=torch.int64)
    torch.cumsum(counts, 0, out=sums[1:])
    return sums
