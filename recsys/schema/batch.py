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
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torchrec import JaggedTensor, KeyedJaggedTensor

from recsys.schema.sequences import Sequences

Part: TypeAlias = torch.Tensor | KeyedJaggedTensor | JaggedTensor | Sequences


@dataclasses.dataclass
class Batch:
    """Examples of any task; a field that a task does not need is None.

    With `sequences`, an example is an asked state of one, and B counts the sequences in `ids` and `dense` and
    the asked states elsewhere.

    Args:
        ids: [B] bags of table rows for every sparse feature, in the order of `FeatureSchema.sparse`.
        dense: [B, D_dense] float32, in the order of `FeatureSchema.dense`.
        labels: [B] float32, 1 for a positive and 0 for a negative.
        weights: [B] float32, weight of each example in the loss.
        auxiliary_labels: [B, number of labels] float32, in the order of `FeatureSchema.labels`; NaN is
            unknown.
        item_rows: [B] int64, catalogue row of the example's item.
        user_keys: [B] int64, equal for rows of the same user, known to train or not.
        relevant: [B] bags of catalogue rows that count as hits, when evaluating.
        seen: [B] bags of catalogue rows that must not be recommended, when evaluating.
        sequences: histories event by event, for models that read them so.
        share: what this rank's mean over the batch weighs in the mean over all ranks: their number times this
            part's examples over the global batch's; 0 where the examples only stand in for an empty part,
            with `weights` of 0.
    """

    ids: KeyedJaggedTensor
    dense: torch.Tensor
    labels: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    auxiliary_labels: torch.Tensor | None = None
    item_rows: torch.Tensor | None = None
    user_keys: torch.Tensor | None = None
    relevant: JaggedTensor | None = None
    seen: JaggedTensor | None = None
    sequences: Sequences | None = None
    share: float = 1.0

    def __len__(self) -> int:
        return int(self.dense.shape[0]) if self.sequences is None else len(self.sequences.asked_states)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Batch:
        """This batch on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=non_blocking) for name, value in self._tensors()
        }
        return dataclasses.replace(self, **moved)

    def pin_memory(self) -> Batch:
        """This batch in page-locked memory, so that its copy to a GPU can overlap with work there."""
        pinned: dict[str, Any] = {name: _pin(value) for name, value in self._tensors()}
        return dataclasses.replace(self, **pinned)

    def record_stream(self, stream: torch.Stream) -> None:
        """Tells the caching allocator that `stream` uses this batch."""
        for _, value in self._tensors():
            value.record_stream(stream)

    def select(self, rows: torch.Tensor) -> Batch:
        """The examples at `rows` ([N] int64, repeats allowed), in that order; ids and dense values only.

        A whole table held as one Batch (the catalogue) is a feature store: `catalogue.select(item_rows)`.
        """
        values, lengths = self.gather(rows)
        if lengths is None:
            lengths = self.ids.lengths().new_ones(len(values))
        ids = KeyedJaggedTensor(keys=self.ids.keys(), values=values, lengths=lengths)
        return Batch(ids=ids, dense=self.dense[rows])

    def gather(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Values and lengths of the bags of the examples at `rows` ([N] int64), key by key.

        The lengths are None where every bag of this batch holds one row.

        NOTE: fbgemm's keyed_jagged_index_select_dim1 does this on a GPU only; one gather serves both devices.
        """
        num_keys, stride = len(self.ids.keys()), self.ids.stride()
        if self._is_single_valued:
            return self.ids.values().view(num_keys, stride).index_select(1, rows).view(-1), None
        positions = (torch.arange(num_keys, device=rows.device)[:, None] * stride + rows).view(-1)
        lengths = self.ids.lengths().index_select(0, positions)
        starts = self.ids.offsets().index_select(0, positions)
        return gather_bags(self.ids.values(), starts=starts, lengths=lengths), lengths

    @cached_property
    def _is_single_valued(self) -> bool:
        """True when every bag holds one row; looked at once, for a feature store is asked often."""
        return bool((self.ids.lengths() == 1).all())

    def _tensors(self) -> list[tuple[str, Part]]:
        fields = [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]
        return [(name, value) for name, value in fields if value is not None and name != "share"]


def gather_bags(values: torch.Tensor, *, starts: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Concatenates values[starts[i] : starts[i] + lengths[i]] over i; starts and lengths are [N] integers."""
    ends = torch.cumsum(lengths, 0)
    total = int(ends[-1]) if len(ends) else 0
    shift = torch.repeat_interleave(starts - (ends - lengths), lengths, output_size=total)
    # Indexing by a tensor, values[...], takes five times as long on a CPU.
    return values.index_select(0, shift.add_(torch.arange(total, device=values.device)))


def _pin(value: Part) -> Part:
    if isinstance(value, JaggedTensor):
        return JaggedTensor(values=value.values().pin_memory(), lengths=value.lengths().pin_memory())
    return value.pin_memory()
