"""Events: rows of a split as arrays, the form between an Arrow record batch and a Batch.

Legend: N events, C dense context features.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from recsys.schema import tables
from recsys.schema.batch import gather_bags
from recsys.schema.features import Feature, FeatureSchema

Int64Array = npt.NDArray[np.int64]


@dataclasses.dataclass
class Bags:
    """N bags of rows laid end to end: bag i is values[offsets[i] : offsets[i + 1]]."""

    values: torch.Tensor
    offsets: torch.Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> torch.Tensor:
        """[N] int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def select(self, positions: torch.Tensor, *, at_most: int | None = None) -> Bags:
        """The bags at `positions`; with `at_most`, only their last so many values."""
        return select_spans(
            self.values, self.offsets[positions], self.offsets[positions + 1], at_most=at_most
        )

    def join(self, other: Bags) -> Bags:
        """These bags followed by the other's."""
        offsets = torch.cat([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return Bags(values=torch.cat([self.values, other.values]), offsets=offsets)


def select_spans(
    values: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor, *, at_most: int | None = None
) -> Bags:
    """Bags values[starts[i] : ends[i]]; with `at_most`, only the last so many of each."""
    if at_most is not None:
        starts = torch.maximum(starts, ends - at_most)
    lengths = ends - starts
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=offsets[1:])
    return Bags(values=gather_bags(values, starts=starts, lengths=lengths), offsets=offsets)


@dataclasses.dataclass
class Events:
    """Rows of a split.

    Args:
        user_rows, item_rows: [N] rows of the users and of the catalogue; 0 is unknown.
        timestamps: [N] microseconds since 1970 (UTC).
        positives: [N] bool.
        history_rows, history_lengths: [N] where the user's earlier events stand in the split's histories.
        sparse: bags of table rows of each sparse context feature, by name.
        dense: [N, C] float32.
    """

    user_rows: torch.Tensor
    item_rows: torch.Tensor
    timestamps: torch.Tensor
    positives: torch.Tensor
    history_rows: torch.Tensor
    history_lengths: torch.Tensor
    sparse: dict[str, Bags]
    dense: torch.Tensor

    def __len__(self) -> int:
        return len(self.user_rows)

    @staticmethod
    def from_arrow(table: pa.Table, schema: FeatureSchema) -> Events:
        """The rows of a split's Arrow table."""
        return Events(
            user_rows=integers(table[tables.USER_ROW]),
            item_rows=integers(table[tables.ITEM_ROW]),
            timestamps=integers(table[tables.TIMESTAMP]),
            positives=torch.from_numpy(table[tables.POSITIVE].to_numpy().astype(bool)),
            history_rows=integers(table[tables.HISTORY_ROW]),
            history_lengths=integers(table[tables.HISTORY_LENGTH]),
            sparse={f.name: bags(table[f.name]) for f in schema.sparse(["context"])},
            dense=floats(table, schema.dense(["context"])),
        )

    def select(self, positions: torch.Tensor) -> Events:
        """The events at `positions`, in that order."""
        return Events(
            user_rows=self.user_rows[positions],
            item_rows=self.item_rows[positions],
            timestamps=self.timestamps[positions],
            positives=self.positives[positions],
            history_rows=self.history_rows[positions],
            history_lengths=self.history_lengths[positions],
            sparse={name: column.select(positions) for name, column in self.sparse.items()},
            dense=self.dense[positions],
        )


def columns_of(schema: FeatureSchema) -> list[str]:
    """Columns that `Events.from_arrow` reads."""
    fixed = [
        tables.USER_ROW,
        tables.ITEM_ROW,
        tables.TIMESTAMP,
        tables.POSITIVE,
        tables.HISTORY_ROW,
        tables.HISTORY_LENGTH,
    ]
    return fixed + [f.name for f in schema.features if f.role == "context"]


def integers(column: pa.ChunkedArray) -> torch.Tensor:
    """An integer column as int64."""
    return torch.from_numpy(column.to_numpy().astype(np.int64))


def bags(column: pa.ChunkedArray) -> Bags:
    """A column of rows, or of lists of rows, as bags."""
    if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        values = integers(column)
        return Bags(values=values, offsets=torch.arange(len(values) + 1))
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], type=column.type)
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return Bags(values=torch.from_numpy(values), offsets=torch.from_numpy(offsets))


def floats(table: pa.Table, features: tuple[Feature, ...]) -> torch.Tensor:
    """[N, number of features] float32."""
    if not features:
        return torch.zeros(table.num_rows, 0)
    columns = [table[f.name].to_numpy().astype(np.float32) for f in features]
    return torch.from_numpy(np.stack(columns, axis=1))
