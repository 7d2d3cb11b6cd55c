"""_Packing: sequences of many lengths as one long row of positions, with little padding.

Sequences of about one length form a group, padded to the longest of it; the groups lie end to end:

    shapes = [(2, 4), (3, 2)]        a b c d | e f g .   h i | j k | l .

Legend: B sequences, S states of the longest of a group, P positions.
"""

import dataclasses
from typing import List, Tuple  # noqa: UP035 (scripted)

import torch

# Groups as (number of sequences, states of each).
Shapes = List[Tuple[int, int]]  # noqa: UP006

# Padding that is cheaper than another group: a position costs some 12 microseconds of a CPU's arithmetic, a
# group 300 of starting operations; a GPU does thousands of positions in that time.
_SPARE_POSITIONS = {"cpu": 32}
_SPARE_POSITIONS_ELSEWHERE = 8192


@dataclasses.dataclass
class _Packing:
    """Where the states of B sequences stand among P positions.

    Args:
        shapes: groups, the longest sequences first.
        sequences_P: which sequence each position is of.
        states_P: which state of it; numbers beyond the last one are padding.
        starts_B: position of each sequence's state 0; the others follow it.
    """

    shapes: Shapes
    sequences_P: torch.Tensor
    states_P: torch.Tensor
    starts_B: torch.Tensor


def pack(sizes_B: torch.Tensor) -> _Packing:
    """Packs sequences of these numbers of states, at least 1 each, into groups of about one size.

    Example:
        >>> pack(torch.tensor([2, 90, 2, 1, 88])).shapes
        [(2, 90), (3, 2)]
    """
    spare = _SPARE_POSITIONS.get(sizes_B.device.type, _SPARE_POSITIONS_ELSEWHERE)
    order_B = torch.argsort(sizes_B, descending=True, stable=True)
    shapes: Shapes = []
    padding = 0
    for size in sizes_B[order_B].tolist():
        if shapes:
            count, longest = shapes[-1]
            padding += longest - size
        if not shapes or padding > spare:
            shapes.append((1, size))
            padding = 0
        else:
            shapes[-1] = (count + 1, longest)
    counts, widths = torch.tensor(shapes, device=sizes_B.device).view(-1, 2).unbind(1)
    widths_B = torch.repeat_interleave(widths, counts)
    begins_B = widths_B.cumsum(0) - widths_B
    starts_B = torch.empty_like(order_B)
    starts_B[order_B] = begins_B
    sequences_P = torch.repeat_interleave(order_B, widths_B)
    states_P = torch.arange(len(sequences_P), device=sizes_B.device) - starts_B[sequences_P]
    return _Packing(shapes, sequences_P=sequences_P, states_P=states_P, starts_B=starts_B)


def groups_of(x: torch.Tensor, shapes: Shapes) -> List[torch.Tensor]:  # noqa: UP006
    """The values [P, ...] as a tensor [B, S, ...] for each group."""
    tail = list(x.shape[1:])
    if len(shapes) == 1:
        return [x.view([shapes[0][0], shapes[0][1]] + tail)]  # noqa: RUF005 (scripted)
    # One split, whose gradient is one concatenation; that of a slice is as large as x, and zero elsewhere.
    parts = x.split_with_sizes([count * size for count, size in shapes])
    results: List[torch.Tensor] = []  # noqa: UP006
    for part, (count, size) in zip(parts, shapes):  # noqa: B905 (scripted)
        results.append(part.view([count, size] + tail))  # noqa: RUF005 (scripted)
    return results
