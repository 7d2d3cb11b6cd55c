"""Batch: what the data module hands to every task.

B examples of F sparse features are one KeyedJaggedTensor, its lengths laid out feature by feature:

    key        example 0    example 1
    user_id    [17]         [4]
    genres     [2, 5]       []          <- a bag may be empty
    history    [8, 3, 9]    [1]         <- oldest first

Legend: B examples, D_dense dense features, V values of a jagged field.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torchrec import JaggedTensor, KeyedJaggedTensor


@dataclasses.dataclass
class Batch:
    """Examples of any task; a field that a task does not need is None.

    Args:
        ids: [B] bags of table rows for every sparse feature, in the order of `FeatureSchema.sparse`.
        dense: [B, D_dense] float32, in the order of `FeatureSchema.dense`.
        labels: [B] float32, 1 for a positive and 0 for a negative.
        weights: [B] float32, weight of each example in the loss.
        item_rows: [B] int64, catalogue row of the example's item.
        user_keys: [B] int64, equal for rows of the same user, known to train or not.
        relevant: [B] bags of catalogue rows that count as hits, when evaluating.
        seen: [B] bags of catalogue rows that must not be recommended, when evaluating.
    """

    ids: KeyedJaggedTensor
    dense: torch.Tensor
    labels: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    item_rows: torch.Tensor | None = None
    user_keys: torch.Tensor | None = None
    relevant: JaggedTensor | None = None
    seen: JaggedTensor | None = None
    share: float = 1.0

    def __len__(self) -> int:
        return int(self.dense.shape[0])

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Batch:
        """This batch on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=non_blocking) if value is not None else None
            for name, value in self._fields()
        }
        return dataclasses.replace(self, **moved)

    def pin_memory(self) -> Batch:
        """This batch in page-locked memory, so that its copy to a GPU can overlap with work there."""
        pinned: dict[str, Any] = {name: _pin(value) for name, value in self._fields()}
        return dataclasses.replace(self, **pinned)

    def record_stream(self, stream: torch.Stream) -> None:
        """Tells the caching allocator that `stream` uses this batch."""
        for _, value in self._fields():
            if value is not None:
                value.record_stream(stream)

    def select(self, rows: torch.Tensor) -> Batch:
        """The examples at `rows` ([N] int64, repeats allowed), in that order; ids and dense values only.

        A whole table held as one Batch (the catalogue) is a feature store: `catalogue.select(item_rows)`.
        """
        return Batch(ids=select_rows(self.ids, rows), dense=self.dense[rows])

    def _fields(self) -> list[tuple[str, torch.Tensor | KeyedJaggedTensor | JaggedTensor | None]]:
        return [
            (field.name, getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "share"
        ]


def select_rows(ids: KeyedJaggedTensor, rows: torch.Tensor) -> KeyedJaggedTensor:
    """The bags of the examples at `rows` ([N] int64), for every key.

    NOTE: fbgemm's keyed_jagged_index_select_dim1 does this on a GPU only; one gather serves both devices.
    """
    stride = ids.stride()
    positions = (torch.arange(len(ids.keys()), device=rows.device)[:, None] * stride + rows).view(-1)
    lengths = ids.lengths()[positions]
    values = gather_bags(ids.values(), starts=ids.offsets()[positions], lengths=lengths)
    return KeyedJaggedTensor(keys=ids.keys(), values=values, lengths=lengths)


def gather_bags(values: torch.Tensor, *, starts: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Concatenates values[starts[i] : starts[i] + lengths[i]] over i; starts and lengths are [N] integers."""
    ends = torch.cumsum(lengths, 0)
    total = int(ends[-1]) if len(ends) else 0
    shift = torch.repeat_interleave(starts - (ends - lengths), lengths, output_size=total)
    return values[torch.arange(total, device=values.device) + shift]


def concatenate_keys(parts: Sequence[KeyedJaggedTensor]) -> KeyedJaggedTensor:
    """One KeyedJaggedTensor with the keys of all parts; every part holds the same B examples."""
    return KeyedJaggedTensor(
        keys=[key for part in parts for key in part.keys()],  # noqa: SIM118 (not a dict)
        values=torch.cat([part.values() for part in parts]),
        lengths=torch.cat([part.lengths() for part in parts]),
    )


def _pin(
    value: torch.Tensor | KeyedJaggedTensor | JaggedTensor | None,
) -> torch.Tensor | KeyedJaggedTensor | JaggedTensor | None:
    if isinstance(value, JaggedTensor):
        return JaggedTensor(values=value.values().pin_memory(), lengths=value.lengths().pin_memory())
    return None if value is None else value.pin_memory()
