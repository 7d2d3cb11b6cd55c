"""Events: rows of a split as arrays, the form between an Arrow record batch and a Batch.

Legend: N events, R integers of an event, C dense features of events.

Features of events are those of a context, then those of a pair of user and candidate (`EVENT_ROLES`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from recsys.schema import tables
from recsys.schema.feature_kinds import Feature
from recsys.schema.features import EVENT_ROLES, FeatureSchema
from recsys.schema.jagged import JaggedColumn, concatenated

Int64Array = npt.NDArray[np.int64]


# Columns of `Events.rows`; those of single-valued features of events follow.
_FIXED = {
    "user_rows": tables.USER_ROW,
    "item_rows": tables.ITEM_ROW,
    "positives": tables.POSITIVE,
    "history_rows": tables.HISTORY_ROW,
    "history_lengths": tables.HISTORY_LENGTH,
}


@dataclasses.dataclass
class Events:
    """Rows of a split.

    All that is one integer a row lies in one matrix, so that picking a row touches a few neighbouring cache
    lines and not one of every column:

        user item positive history_row history_length | hour device ...
           7   31        1          12              4 |   18      2 ...

    Args:
        rows: [N, R] int32, as above.
        timestamps: [N] microseconds since 1970 (UTC).
        dense: [N, C] float32.
        single_valued: names of the features in the columns of `rows` behind the fixed ones.
        bags: bags of table rows of each multi-valued feature, by name.
        labels: [N, number of labels] float32, the auxiliary ones; NaN is unknown.
        weights: [N] float32, of each row in the loss; None where all weigh the same.
    """

    rows: torch.Tensor
    timestamps: torch.Tensor
    dense: torch.Tensor
    single_valued: tuple[str, ...]
    bags: dict[str, JaggedColumn]
    labels: torch.Tensor
    weights: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def user_rows(self) -> torch.Tensor:
        """[N] int64, rows of the users; 0 is unknown."""
        return self._column("user_rows")

    @property
    def item_rows(self) -> torch.Tensor:
        """[N] int64, rows of the catalogue; 0 is unknown."""
        return self._column("item_rows")

    @property
    def positives(self) -> torch.Tensor:
        """[N] bool."""
        return self._column("positives").bool()

    @property
    def history_rows(self) -> torch.Tensor:
        """[N] int64, where the user's earlier events stand in the split's histories."""
        return self._column("history_rows")

    @property
    def history_lengths(self) -> torch.Tensor:
        """[N] int64, how many of these events are earlier than this one."""
        return self._column("history_lengths")

    @property
    def single_rows(self) -> torch.Tensor:
        """[N, number of features] int32, table rows of the single-valued features."""
        return self.rows[:, len(_FIXED) :]

    @staticmethod
    def from_arrow(table: pa.Table, schema: FeatureSchema) -> Events:
        """The rows of a split's Arrow table."""
        writer = EventsWriter(schema, table.num_rows)
        writer.add(table)
        return writer.events()

    def select(self, positions: torch.Tensor) -> Events:
        """The events at `positions`, in that order."""
        return Events(
            rows=_take(self.rows, positions),
            timestamps=self.timestamps[positions],
            dense=_take(self.dense, positions),
            single_valued=self.single_valued,
            bags={name: column.select(positions) for name, column in self.bags.items()},
            labels=_take(self.labels, positions),
            weights=None if self.weights is None else self.weights[positions],
        )

    def join(self, other: Events) -> Events:
        """These events followed by the other's."""
        weights = [part.weights for part in (self, other) if part.weights is not None]
        return Events(
            rows=torch.cat([self.rows, other.rows]),
            timestamps=torch.cat([self.timestamps, other.timestamps]),
            dense=torch.cat([self.dense, other.dense]),
            single_valued=self.single_valued,
            bags={name: concatenated([column, other.bags[name]]) for name, column in self.bags.items()},
            labels=torch.cat([self.labels, other.labels]),
            weights=torch.cat(weights) if weights else None,
        )

    def replace(self, **columns: torch.Tensor) -> Events:
        """These events with other `user_rows`, `item_rows` and so on, each [N]."""
        rows = self.rows.clone()
        for name, values in columns.items():
            rows[:, list(_FIXED).index(name)] = values
        return dataclasses.replace(self, rows=rows)

    def without_context(self) -> Events:
        """These events with features that are missing: row 0, no rows, or the train mean."""
        rows = self.rows.clone()
        rows[:, len(_FIXED) :] = 0
        nothing = JaggedColumn.of_lists([[]] * len(self))
        bags = dict.fromkeys(self.bags, nothing)
        return dataclasses.replace(self, rows=rows, dense=torch.zeros_like(self.dense), bags=bags)

    def _column(self, name: str) -> torch.Tensor:
        return self.rows[:, list(_FIXED).index(name)].long()


class EventsWriter:
    """Puts Arrow tables one after the other into `Events` of a known size.

    Args:
        schema: the features.
        num_rows: of all tables together.
        weighted: a positive weighs its label, any other row 1.
    """

    def __init__(self, schema: FeatureSchema, num_rows: int, *, weighted: bool = False) -> None:
        sparse = schema.sparse(EVENT_ROLES)
        self._single = tuple(f.name for f in sparse if not f.is_multivalued)
        nothing = bags(pa.chunked_array([], type=pa.list_(pa.int32())))
        self._many = {f.name: [nothing] for f in sparse if f.is_multivalued}
        self._dense = [f.name for f in schema.dense(EVENT_ROLES)]
        self._labels = label_columns(schema)
        # NumPy's copies stay in this thread; torch's would take the cores from training.
        self._rows: npt.NDArray[np.int32] = np.empty((num_rows, len(_FIXED) + len(self._single)), np.int32)
        self._floats: npt.NDArray[np.float32] = np.empty((num_rows, len(self._dense)), np.float32)
        self._afterwards: npt.NDArray[np.float32] = np.empty((num_rows, len(self._labels)), np.float32)
        self._timestamps: Int64Array = np.empty(num_rows, np.int64)
        self._weights: npt.NDArray[np.float32] | None = np.empty(num_rows, np.float32) if weighted else None
        self._size = 0

    def add(self, table: pa.Table) -> None:
        """Adds the rows of a split's Arrow table."""
        begin, end = self._size, self._size + table.num_rows
        _interleave(self._rows[begin:end], [table[name] for name in (*_FIXED.values(), *self._single)])
        _interleave(self._floats[begin:end], [table[name] for name in self._dense])
        _interleave(self._afterwards[begin:end], [table[name] for name in self._labels])
        self._timestamps[begin:end] = table[tables.TIMESTAMP].to_numpy()
        if self._weights is not None:
            is_positive = table[tables.POSITIVE].to_numpy()
            self._weights[begin:end] = np.where(is_positive, table[tables.LABEL].to_numpy(), 1)
        for name, parts in self._many.items():
            parts.append(bags(table[name]))
        self._size = end

    def events(self) -> Events:
        """All that was added."""
        assert self._size == len(self._rows), (self._size, len(self._rows))
        return Events(
            rows=torch.from_numpy(self._rows),
            timestamps=torch.from_numpy(self._timestamps),
            dense=torch.from_numpy(self._floats),
            single_valued=self._single,
            bags={name: concatenated(parts) for name, parts in self._many.items()},
            labels=torch.from_numpy(self._afterwards),
            weights=None if self._weights is None else torch.from_numpy(self._weights),
        )


def columns_of(schema: FeatureSchema) -> list[str]:
    """Columns that `Events.from_arrow` reads."""
    held = [f.name for f in schema.features if f.role in EVENT_ROLES]
    return [*_FIXED.values(), tables.TIMESTAMP, *label_columns(schema), *held]


def label_columns(schema: FeatureSchema) -> list[str]:
    """Columns of the auxiliary labels."""
    return [tables.LABEL_PREFIX + label.name for label in schema.labels]


def bytes_of_row(schema: FeatureSchema) -> int:
    """Memory that a row of `Events` takes, but for its bags."""
    sparse, dense = schema.sparse(EVENT_ROLES), schema.dense(EVENT_ROLES)
    num_labels = len(schema.labels)
    return 8 + 4 * (len(_FIXED) + sum(not f.is_multivalued for f in sparse) + len(dense) + num_labels)


def _interleave(out: npt.NDArray[Any], columns: Sequence[pa.ChunkedArray]) -> None:
    """Writes columns [N] side by side into `out` [N, number of columns]."""
    arrays = [column.to_numpy() for column in columns]
    # A block at a time, so that the lines of `out` that one column touches are still there for the next.
    for begin in range(0, len(out), _INTERLEAVED_ROWS):
        end = begin + _INTERLEAVED_ROWS
        for position, array in enumerate(arrays):
            out[begin:end, position] = array[begin:end]


_INTERLEAVED_ROWS = 4096


def _take(matrix: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Rows of a matrix [N, R].

    NOTE: not torch's index_select, which takes 1.5 times as long, and all cores.
    """
    if not matrix.shape[1]:
        return matrix.new_zeros(len(positions), 0)
    return torch.from_numpy(np.take(matrix.numpy(), positions.numpy(), axis=0))


def integers(column: pa.ChunkedArray) -> torch.Tensor:
    """An integer column as int64."""
    return torch.from_numpy(column.to_numpy().astype(np.int64))


def bags(column: pa.ChunkedArray) -> JaggedColumn:
    """A column of rows, or of lists of rows, as a jagged one; values as they are stored."""
    if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        values = torch.from_numpy(column.to_numpy().copy())
        return JaggedColumn.of_offsets(values, torch.arange(len(values) + 1))
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], type=column.type)
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = lists.flatten().to_numpy(zero_copy_only=False).copy()
    return JaggedColumn.of_lengths(torch.from_numpy(values), torch.from_numpy(lengths))


def floats(table: pa.Table, features: tuple[Feature, ...]) -> torch.Tensor:
    """[N, number of features] float32."""
    if not features:
        return torch.zeros(table.num_rows, 0)
    columns = [table[f.name].to_numpy().astype(np.float32) for f in features]
    return torch.from_numpy(np.stack(columns, axis=1))
