"""Batch: what the data module hands to every task.

B examples of F sparse features are one KeyedJaggedTensor, its lengths laid out feature by feature:

    key        example 0    example 1
    user_id    [17]         [4]
    genres     [2, 5]       []          <- a bag may be empty
    history    [8, 3, 9]    [1]         <- oldest first

Histories event by event, for models that read them in their order, are its `sequences`:

    user 7 asks at t4     a b c d   with instants t0 t1 t2 t3     one query: the state after d

    user 8, in training   a b c d   a query after every event that another one follows

    states                0 1 2 3 4     state 0 has seen no event, state j the first j of them

Legend: B examples, D_dense dense features; of sequences: B of them, V events of all of them, U distinct
items, Q queries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torchrec import KeyedJaggedTensor

from recsys.schema.jagged import JaggedColumn

# Which events of a history a model reads: one by one, or (`content`) the positives as a bag of items with
# their features.
HistoryEvents = Literal["positives", "all", "content"]


@dataclasses.dataclass
class Batch:
    """Examples of any task; a field that a task does not need is None.

    With `sequences`, an example is a query of one, and B counts the sequences in `ids` and `dense` and the
    queries elsewhere.

    Args:
        ids: [B] bags of table rows for every sparse feature, in the order of `FeatureSchema.sparse`.
        dense: [B, D_dense] float32, in the order of `FeatureSchema.dense`.
        vectors: embeddings made elsewhere, by feature.
        labels: [B] float32, 1 for a positive and 0 for a negative.
        weights: [B] float32, weight of each example in the loss.
        auxiliary_labels: [B, number of labels] float32, in the order of `FeatureSchema.labels`; NaN is
            unknown.
        item_rows: [B] int64, catalogue row of the example's item.
        user_keys: [B] int64, equal for rows of the same user, known to train or not.
        relevant: [B] lists of catalogue rows that count as hits, when evaluating.
        seen: [B] lists of catalogue rows that must not be recommended, when evaluating.
        sequences: histories event by event, for models that read them so.
        history: histories as bags of items with their features, for models that read them so.
        share: what this rank's mean over the batch weighs in the mean over all ranks: their number times this
            part's examples over the global batch's; 0 where the examples only stand in for an empty part,
            with `weights` of 0.
    """

    ids: KeyedJaggedTensor
    dense: torch.Tensor
    vectors: VectorColumns | None = None
    labels: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    auxiliary_labels: torch.Tensor | None = None
    item_rows: torch.Tensor | None = None
    user_keys: torch.Tensor | None = None
    relevant: JaggedColumn | None = None
    seen: JaggedColumn | None = None
    sequences: Sequences | None = None
    history: HistoryItems | None = None
    share: float = 1.0

    def __len__(self) -> int:
        return int(self.dense.shape[0]) if self.sequences is None else len(self.sequences.query_states)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Batch:
        """This batch on `device`."""
        return _changed(self, lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """This batch in page-locked memory, so that its copy to a GPU can overlap with work there."""
        return _changed(self, lambda part: part.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Tells the caching allocator that `stream` uses this batch."""
        for _, part in _parts(self):
            part.record_stream(stream)

    def select(self, rows: torch.Tensor) -> Batch:
        """The examples at `rows` ([N] int64, repeats allowed), in that order; ids, dense values and vectors.

        A whole table held as one Batch (the catalogue) is a feature store: `catalogue.select(item_rows)`.
        """
        values, lengths = self.gather(rows)
        if lengths is None:
            lengths = self.ids.lengths().new_ones(len(values))
        ids = KeyedJaggedTensor(keys=self.ids.keys(), values=values, lengths=lengths)
        vectors = self.vectors.select(rows) if self.vectors is not None else None
        return Batch(ids=ids, dense=self.dense[rows], vectors=vectors)

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
        bags = JaggedColumn(self.ids.values(), starts=starts, ends=starts + lengths)
        return self.ids.values().index_select(0, bags.positions), lengths

    @cached_property
    def _is_single_valued(self) -> bool:
        """True when every bag holds one row; looked at once, for a feature store is asked often."""
        return bool((self.ids.lengths() == 1).all())


@dataclasses.dataclass
class VectorColumns:
    """Embeddings of B users or items that were made elsewhere.

    Args:
        columns: [B, size of the feature] float16 by feature, zeros where there is none. A whole table of them
            lies in a file that is mapped into memory, of which `select` reads the rows that are wanted.
    """

    columns: dict[str, torch.Tensor]

    def select(self, rows: torch.Tensor) -> VectorColumns:
        """Those at `rows` ([N] int64)."""
        return self._each(lambda column: column.index_select(0, rows))

    def to(self, device: torch.device, *, non_blocking: bool = False) -> VectorColumns:
        """These vectors on `device`."""
        return self._each(lambda column: column.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> VectorColumns:
        """These vectors in page-locked memory."""
        return self._each(lambda column: column.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Tells the caching allocator that `stream` uses these vectors."""
        for column in self.columns.values():
            column.record_stream(stream)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> VectorColumns:
        return VectorColumns({name: change(column) for name, column in self.columns.items()})


@dataclasses.dataclass
class Sequences:
    """B histories, oldest event first, and the queries made of their states.

    Args:
        items: features of the U distinct items that occur.
        positions: [V] int64, which of `items` each event is of.
        lengths: [B] int64, events of each sequence.
        positives: [V] bool, whether each event is a positive.
        timestamps: [V] int64, microseconds since 1970 (UTC).
        ends: [B] int64, the instant after each sequence's last event: of the request, or of the event that
            follows.
        times_known: [B] bool, whether `timestamps` and `ends` of a sequence mean anything.
        query_sequences: [Q] int64, which sequence each query is made of.
        query_states: [Q] int64, which state of it: the number of events seen.
        query_instants: [Q] int64, when it is asked.
    """

    items: Batch
    positions: torch.Tensor
    lengths: torch.Tensor
    positives: torch.Tensor
    timestamps: torch.Tensor
    ends: torch.Tensor
    times_known: torch.Tensor
    query_sequences: torch.Tensor
    query_states: torch.Tensor
    query_instants: torch.Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Sequences:
        """These sequences on `device`."""
        return _changed(self, lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Sequences:
        """These sequences in page-locked memory."""
        return _changed(self, lambda part: part.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Tells the caching allocator that `stream` uses these sequences."""
        for _, part in _parts(self):
            part.record_stream(stream)


@dataclasses.dataclass
class HistoryItems:
    """B histories as bags of items.

    Args:
        items: features of the U distinct items that occur.
        positions: [V] int64, which of `items` each event is of.
        lengths: [B] int64, events of each history.
    """

    items: Batch
    positions: torch.Tensor
    lengths: torch.Tensor

    def to(self, device: torch.device, *, non_blocking: bool = False) -> HistoryItems:
        """These histories on `device`."""
        return _changed(self, lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> HistoryItems:
        """These histories in page-locked memory."""
        return _changed(self, lambda part: part.pin_memory())

    def record_stream(self, stream: torch.Stream) -> None:
        """Tells the caching allocator that `stream` uses these histories."""
        for _, part in _parts(self):
            part.record_stream(stream)


_Record = TypeVar("_Record", Batch, Sequences, HistoryItems)


def _parts(record: Batch | Sequences | HistoryItems) -> list[tuple[str, Any]]:
    """The fields that hold tensors, jagged ones and batches of them included."""
    fields = [(field.name, getattr(record, field.name)) for field in dataclasses.fields(record)]
    return [(name, value) for name, value in fields if hasattr(value, "record_stream")]


def _changed(record: _Record, change: Callable[[Any], Any]) -> _Record:
    return dataclasses.replace(record, **{name: change(part) for name, part in _parts(record)})
