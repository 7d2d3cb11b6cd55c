"""Feature crosses: the combination of several features' values, hashed into a table of its own.

Legend: B examples, V values of a bag field.
"""

import dataclasses
from typing import List, Tuple  # noqa: UP035 (scripted)

import torch


@dataclasses.dataclass(frozen=True)
class Cross:
    """The cross of the features `parts`, at most one of them multi-valued, in `num_buckets` hashed rows."""

    parts: tuple[str, ...]
    num_buckets: int

    @property
    def name(self) -> str:
        """`a_x_b`."""
        return "_x_".join(self.parts)

    @property
    def num_rows(self) -> int:
        """Rows of its table; row 0 is never hit, as in every table of hashed values."""
        return self.num_buckets + 1


def cross_ids(
    bags: List[Tuple[torch.Tensor, torch.Tensor]],  # noqa: UP006
    num_rows: int,
) -> Tuple[torch.Tensor, torch.Tensor]:  # noqa: UP006
    """Rows of the crossed feature.

    Every value of the first multi-valued part is paired with the single values of the others; where a part's
    bag is empty the cross is empty.

    Args:
        bags: for each part, values [V] int64 and lengths [B]; at most one part has bags longer than 1.
        num_rows: rows of the crossed table.

    Returns:
        Values in 1 .. num_rows - 1 and lengths [B] of the crossed feature.
    """
    lengths = bags[0][1]
    for _, other in bags:
        lengths = torch.maximum(lengths, other)
    for _, other in bags:
        lengths = lengths * (other > 0).to(lengths.dtype)
    total = int(lengths.sum())
    example = torch.repeat_interleave(torch.arange(lengths.shape[0], device=lengths.device), lengths.long())
    ends = torch.cumsum(lengths, 0)
    within = torch.arange(total, device=lengths.device) - (ends - lengths)[example]
    hashed = torch.zeros(total, dtype=torch.int64, device=lengths.device)
    for values, part_lengths in bags:
        starts = (torch.cumsum(part_lengths, 0) - part_lengths)[example]
        step = torch.where(part_lengths[example] > 1, within, torch.zeros_like(within))
        # The product may wrap around; its low 32 bits are the same either way.
        # The multiplier is 2^32 over the golden ratio: neighbouring rows spread over the table.
        hashed = ((hashed ^ values[starts + step]) * 0x9E3779B1) & 0xFFFFFFFF
        hashed = hashed ^ (hashed >> 15)
    return 1 + hashed % (num_rows - 1), lengths
