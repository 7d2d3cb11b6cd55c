"""Sequences: histories event by event, for models that read them in their order.

    user 7 asks at t4     a b c d   with instants t0 t1 t2 t3     one state is asked: the one after d

    user 8, in training   a b c d   asked after every event that another one follows

    states                0 1 2 3 4     state 0 has seen no event, state j the first j of them

Legend: B sequences, V events of all of them, U distinct items, T states that are asked.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from recsys.schema.batch import Batch

# Which events of a history a model reads one by one.
HistoryEvents = Literal["positives", "all"]


@dataclasses.dataclass
class Sequences:
    """B histories, oldest event first, and which of their states are asked.

    Args:
        items: features of the U distinct items that occur.
        positions: [V] int64, which of `items` each event is of.
        lengths: [B] int64, events of each sequence.
        positives: [V] bool, whether each event is a positive.
        timestamps: [V] int64, microseconds since 1970 (UTC).
        ends: [B] int64, the instant after each sequence's last event: of the request, or of the event that
            follows.
        times_known: [B] bool, whether `timestamps` and `ends` of a sequence mean anything.
        asked_sequences: [T] int64, which sequence each asked state is of.
        asked_states: [T] int64, which state of it: the number of events seen.
        asked_instants: [T] int64, when it is asked.
    """

    items: Batch
    positions: torch.Tensor
    lengths: torch.Tensor
    positives: torch.Tensor
    timestamps: torch.Tensor
    ends: torch.Tensor
    times_known: torch.Tensor
    asked_sequences: torch.Tensor
    asked_states: torch.Tensor
    asked_instants: torch.Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Sequences:
        """These sequences on `device`."""
        moved = {
            field.name: getattr(self, field.name).to(device, non_blocking=non_blocking)
            for field in dataclasses.fields(self)
        }
        return Sequences(**moved)

    def pin_memory(self) -> Sequences:
        """These sequences in page-locked memory."""
        return Sequences(
            **{field.name: getattr(self, field.name).pin_memory() for field in dataclasses.fields(self)}
        )

    def record_stream(self, stream: torch.Stream) -> None:
        """Tells the caching allocator that `stream` uses these sequences."""
        for field in dataclasses.fields(self):
            getattr(self, field.name).record_stream(stream)

    def padded(self, values_V: torch.Tensor) -> torch.Tensor:
        """[B, L, ...] values of the events, L the longest sequence; zeros behind the end of a shorter one."""
        longest = int(self.lengths.max()) if len(self) else 0
        mask_BL = torch.arange(longest, device=values_V.device) < self.lengths[:, None]
        padded = values_V.new_zeros(len(self), longest, *values_V.shape[1:])
        padded[mask_BL] = values_V
        return padded
