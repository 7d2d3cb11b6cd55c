"""Columns: one feature of B examples, from what requests give or, where they give nothing, what is stored.

A field that a record holds overrides what is stored of a known user or item, None too: it says that the value
is not known. A field that a record lacks is looked up.

Legend: B examples, N given values, R stored rows (row 0 is the unknown user or item), V rows of bags.
"""
# ruff: noqa: UP006, UP035 (scripted)
# mypy: no-warn-return-any

from typing import Any, List, Sequence, Tuple, cast

import torch
from torch import nn

from recsys.exporting.program.interfaces import BagEncoder, NumberEncoder
from recsys.exporting.program.types import Bag, Record


class StoredBags(nn.Module):
    """A sparse feature of all users or items.

    Args:
        values: [V] rows of the feature's embedding table.
        lengths: [R] how many of them each user or item has.
    """

    values: torch.Tensor
    offsets: torch.Tensor

    def __init__(self, values: torch.Tensor, lengths: torch.Tensor) -> None:
        super().__init__()
        offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64)
        torch.cumsum(lengths, 0, out=offsets[1:])
        self.is_single = bool((lengths == 1).all())
        self.register_buffer("values", values.int())
        self.register_buffer("offsets", torch.zeros(0, dtype=torch.int64) if self.is_single else offsets)

    def forward(self, rows: torch.Tensor) -> Bag:
        """Values and lengths [B] of the bags of users or items [B]."""
        if self.is_single:
            return self.values.index_select(0, rows).long(), torch.ones_like(rows)
        # Half as long as `offsets[rows]`; the more so of values that lie far apart.
        starts = self.offsets.index_select(0, rows)
        lengths = self.offsets.index_select(0, rows + 1) - starts
        return gather(self.values, starts, lengths).long(), lengths

    def append(self, values: torch.Tensor, lengths: torch.Tensor) -> None:
        """Stores bags behind the others."""
        if self.is_single and not bool((lengths == 1).all()):
            self.offsets = torch.arange(self.values.size(0) + 1)
            self.is_single = False
        self.values = torch.cat([self.values, values.int()])
        if not self.is_single:
            self.offsets = torch.cat([self.offsets, self.offsets[-1] + torch.cumsum(lengths, 0)])


class GivenOrStored(nn.Module):
    """A sparse feature that requests may give.

    Args:
        fields: names under which a record may hold its raw value, in order of precedence.
        encoder: from raw values to bags of rows.
        stored: bags of known users or items.
    """

    fields: List[str]
    encoder: BagEncoder

    def __init__(self, *, fields: Sequence[str], encoder: nn.Module, stored: StoredBags) -> None:
        super().__init__()
        self.fields = list(fields)
        self.encoder = cast(BagEncoder, encoder)
        self.stored = stored

    def forward(self, records: List[Record], rows: torch.Tensor) -> Bag:
        """Values and lengths [B] of the bags of B records, whose users or items stand in `rows` [B]."""
        given, positions = pick(records, self.fields)
        if len(given) == 0:
            return self.stored(rows)
        given_values, given_lengths = self.encoder.forward(given)
        if len(given) == len(records):
            return given_values, given_lengths
        values, lengths = self.stored(rows)
        source = torch.arange(len(records))
        source[torch.tensor(positions, dtype=torch.int64)] = torch.arange(len(given)) + len(records)
        all_lengths = torch.cat([lengths, given_lengths])
        starts = torch.cumsum(all_lengths, 0) - all_lengths
        return gather(torch.cat([values, given_values]), starts[source], all_lengths[source]), all_lengths[
            source
        ]

    @torch.jit.export
    def append(self, values: torch.Tensor, lengths: torch.Tensor) -> None:
        """Stores bags behind the others."""
        self.stored.append(values, lengths)


class VectorColumn(nn.Module):
    """An embedding made elsewhere; arguments as of `GivenOrStored`, `stored` being [R, S] float16.

    Its bags are vectors: S numbers each.
    """

    fields: List[str]
    encoder: BagEncoder
    stored: torch.Tensor

    def __init__(self, *, fields: Sequence[str], encoder: nn.Module, stored: torch.Tensor) -> None:
        super().__init__()
        self.fields = list(fields)
        self.encoder = cast(BagEncoder, encoder)
        self.register_buffer("stored", stored)

    def forward(self, records: List[Record], rows: torch.Tensor) -> Bag:
        """Values [B x S] and lengths [B]."""
        size = self.stored.size(1)
        result = self.stored.index_select(0, rows).float()
        given, positions = pick(records, self.fields)
        if len(given) > 0:
            values, _ = self.encoder.forward(given)
            result[torch.tensor(positions, dtype=torch.int64)] = values.view(-1, size)
        return result.flatten(), torch.full([result.size(0)], size, dtype=torch.int64)

    @torch.jit.export
    def append(self, values: torch.Tensor, lengths: torch.Tensor) -> None:
        """Stores vectors behind the others."""
        self.stored = torch.cat([self.stored, values.view(-1, self.stored.size(1)).to(self.stored.dtype)])


class AlwaysStored(nn.Module):
    """The feature that is the id itself: its row is stored with the user or item that the id belongs to."""

    def __init__(self, stored: StoredBags) -> None:
        super().__init__()
        self.stored = stored

    def forward(self, records: List[Record], rows: torch.Tensor) -> Bag:
        """Values and lengths [B]."""
        return self.stored(rows)

    @torch.jit.export
    def append(self, values: torch.Tensor, lengths: torch.Tensor) -> None:
        """Stores bags behind the others."""
        self.stored.append(values, lengths)


class DenseColumn(nn.Module):
    """A dense feature; arguments as of `GivenOrStored`, `stored` being [R] floats."""

    fields: List[str]
    encoder: NumberEncoder
    stored: torch.Tensor

    def __init__(self, *, fields: Sequence[str], encoder: nn.Module, stored: torch.Tensor) -> None:
        super().__init__()
        self.fields = list(fields)
        self.encoder = cast(NumberEncoder, encoder)
        self.register_buffer("stored", stored.float())

    def forward(self, records: List[Record], rows: torch.Tensor) -> torch.Tensor:
        """[B] float32."""
        result = self.stored.index_select(0, rows)
        given, positions = pick(records, self.fields)
        if len(given) > 0:
            result[torch.tensor(positions, dtype=torch.int64)] = self.encoder.forward(given)
        return result

    @torch.jit.export
    def append(self, numbers: torch.Tensor) -> None:
        """Stores numbers behind the others."""
        self.stored = torch.cat([self.stored, numbers])


def pick(records: List[Record], fields: List[str]) -> Tuple[List[Any], List[int]]:
    """Values that records hold under one of the names, and the positions of those records."""
    given: List[Any] = []
    positions: List[int] = []
    for position, record in enumerate(records):
        for field in fields:
            if field in record:
                given.append(record[field])
                positions.append(position)
                break
    return given, positions


def gather(values: torch.Tensor, starts: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Concatenates values[starts[i] : starts[i] + lengths[i]] over i."""
    ends = torch.cumsum(lengths, 0)
    shift = torch.repeat_interleave(starts - (ends - lengths), lengths)
    return values.index_select(0, torch.arange(shift.numel()) + shift)
