"""PackageTensors: bags and dense values -> the plain tensors that a compiled package takes, in its order.

Legend: G requests, B rows, V rows of bags, L longest bag.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)

import dataclasses
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from recsys.exporting.program.inputs import crossed
from recsys.exporting.program.types import Bag

# A package is compiled for sizes from here on; what is shorter ends in padding.
_SHORTEST = 2


@dataclasses.dataclass(frozen=True)
class Entry:
    """One feature or cross as a package is given it.

    Args:
        name: of the feature or the cross.
        form: `rows`, one row an example; `bags`, values [V] and lengths of the bags; `padded`, rows with
            zeros behind the end of each bag and lengths; `crossed`, like `bags` and made here.
        is_of_request: whether a request has one bag for all its rows.
        parts: of a cross.
        num_rows: of the table of a cross.
    """

    name: str
    form: str
    is_of_request: bool
    parts: Tuple[str, ...] = ()
    num_rows: int = 0


class PackageTensors(nn.Module):
    """Turns bags of features into the tensors of a package.

    The tensors are: the dense values; where rows of several requests are told apart, [B] which request each
    row belongs to; and those of every entry.

    Args:
        entries: in the order of the package; None where there is none, see `recsys.exporting.compiled`.
        has_requests: whether B rows may belong to fewer requests G, whose history is one of G bags.
    """

    names: List[str]
    forms: List[str]
    parts: List[List[str]]
    num_rows: List[int]

    def __init__(self, entries: Optional[Sequence[Entry]], *, has_requests: bool) -> None:
        super().__init__()
        self.is_there = entries is not None
        entries = entries or []
        self.names = [entry.name for entry in entries]
        self.forms = [entry.form for entry in entries]
        self.parts = [list(entry.parts) for entry in entries]
        self.num_rows = [entry.num_rows for entry in entries]
        self.has_requests = has_requests

    def forward(self, bags: Dict[str, Bag], dense: torch.Tensor) -> List[torch.Tensor]:
        """The tensors for B rows; bags of one request stand for all of them."""
        if not self.is_there:
            raise ValueError(
                "this bundle has no compiled package to make tensors for; export it with `export.format=aoti`"
            )
        size = dense.size(0)
        tensors = [dense]
        if self.has_requests:
            num_requests = bags["history"][1].numel()
            rows = torch.arange(size)
            tensors.append(rows if num_requests == size else torch.zeros_like(rows))
        for position, name in enumerate(self.names):
            form = self.forms[position]
            if form == "crossed":
                values, lengths = crossed(bags, self.parts[position], size, self.num_rows[position])
            else:
                values, lengths = bags[name]
            tensors.append(padded(values, lengths) if form == "padded" else values)
            if form != "rows":
                tensors.append(lengths)
        return tensors


def padded(values: torch.Tensor, lengths: torch.Tensor, shortest: int = _SHORTEST) -> torch.Tensor:
    """Rows [G, L] of G bags, zeros behind their ends."""
    longest = shortest
    if lengths.numel() > 0:
        longest = max(longest, int(lengths.max()))
    rows = torch.zeros(lengths.numel(), longest, dtype=torch.int64)
    rows[torch.arange(longest) < lengths[:, None]] = values
    return rows


def padded_events(tensors: List[torch.Tensor], shortest: int = _SHORTEST) -> List[torch.Tensor]:
    """Pads the histories that a query tower reads to the length that a package wants.

    Nothing before the end of a history can see what stands behind it.
    """
    if len(tensors) < 5:  # nothing, or means of histories, which have no length
        return tensors
    lacking = max(shortest - tensors[0].size(1), 0)
    return [
        torch.nn.functional.pad(tensors[0], [0, 0, 0, lacking]),
        torch.nn.functional.pad(tensors[1], [0, lacking]),
        torch.nn.functional.pad(tensors[2], [0, lacking]),
        tensors[3],
        tensors[4],
    ]
