"""SplitRows: the rows of a split on disk, read block by block; held in memory where they fit its budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.data.events import Events, EventsWriter, bytes_of_row, columns_of
from recsys.schema import tables
from recsys.schema.features import EVENT_ROLES, FeatureSchema


@dataclasses.dataclass(frozen=True)
class RowGroup:
    """A row group of a Parquet file and how many of its rows are wanted.

    Args:
        file, index: where it is.
        num_rows: how many of its rows are wanted.
        begin: how many wanted rows of the split stand before it.
    """

    file: Path
    index: int
    num_rows: int
    begin: int


@dataclasses.dataclass(frozen=True)
class RowFilter:
    """Chooses rows of a split: positives alone, those from an instant on alone, or both.

    Args:
        only_positives: leave out rows that are not positives.
        since: leave out rows before this instant, in microseconds since 1970 (UTC).
        weighted: whether positives weigh their label, see `EventsWriter`.
    """

    only_positives: bool = False
    since: int | None = None
    weighted: bool = False

    @property
    def columns(self) -> list[str]:
        """Columns that tell which rows are wanted; empty when every row is."""
        by_time = [] if self.since is None else [tables.TIMESTAMP]
        return [*([tables.POSITIVE] if self.only_positives else []), *by_time]

    def mask(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """True for each wanted row."""
        kept = np.ones(table.num_rows, dtype=np.bool_)
        if self.only_positives:
            kept &= table[tables.POSITIVE].to_numpy()
        if self.since is not None:
            kept &= table[tables.TIMESTAMP].to_numpy() >= self.since
        return kept


class SplitRows:
    """The wanted rows of a split.

    Args:
        files: Parquet files of the split.
        schema: the features.
        wanted: which of its rows.
        memory_budget: bytes; a split that fits is read once and held.
    """

    def __init__(
        self, files: Sequence[Path], schema: FeatureSchema, wanted: RowFilter, *, memory_budget: float
    ) -> None:
        self.schema = schema
        self.wanted = wanted
        self.row_groups: list[RowGroup] = []
        self.num_rows = 0
        self._num_bag_values = 0
        for file in files:
            self._add(file)
        self.is_held = self._num_bytes <= memory_budget
        self._held: Events | None = None

    @property
    def _num_bytes(self) -> int:
        """Memory that all wanted rows take; bags are counted as if every row of the split were wanted."""
        of_rows = self.num_rows * (bytes_of_row(self.schema) + 4 * self.wanted.weighted)
        return of_rows + 4 * self._num_bag_values

    def open(self, block: Sequence[RowGroup]) -> Block:
        """The rows of these row groups, read when asked for."""
        # In the order on disk, so that a block's rows do not depend on the order its groups were drawn in.
        groups = sorted(block, key=lambda group: (group.file, group.index))
        if not self.is_held:
            return Block(self, groups)
        if self._held is None:
            self._held = Block(self, self.row_groups).events()
        return Block(self, groups, held=self._held)

    def read(self, group: RowGroup) -> pa.Table:
        """The wanted rows of one row group."""
        columns = [*columns_of(self.schema), *([tables.LABEL] if self.wanted.weighted else [])]
        # One thread: the others are training.
        table = pq.ParquetFile(group.file).read_row_group(group.index, columns=columns, use_threads=False)
        return table.filter(pa.array(self.wanted.mask(table))) if self.wanted.columns else table

    def writer(self, num_rows: int) -> EventsWriter:
        """Makes the writer of `num_rows` of these rows."""
        return EventsWriter(self.schema, num_rows, weighted=self.wanted.weighted)

    def _add(self, file: Path) -> None:
        parquet = pq.ParquetFile(file)
        many = {f.name for f in self.schema.sparse(EVENT_ROLES) if f.is_multivalued}
        for index in range(parquet.num_row_groups):
            group = parquet.metadata.row_group(index)
            num_rows = group.num_rows
            if self.wanted.columns:
                rows = parquet.read_row_group(index, columns=self.wanted.columns)
                num_rows = int(np.count_nonzero(self.wanted.mask(rows)))
            if not num_rows and self.wanted.since is not None:
                continue  # earlier than all that is wanted: never read again
            self.row_groups.append(RowGroup(file, index, num_rows, begin=self.num_rows))
            self.num_rows += num_rows
            columns = (group.column(number) for number in range(group.num_columns))
            self._num_bag_values += sum(
                column.num_values for column in columns if column.path_in_schema.split(".")[0] in many
            )


class Block:
    """Row groups whose rows are shuffled among one another; read a little at a time.

    Args:
        rows: the split.
        groups: in the order on disk.
        held: all rows of the split, where they are held.
    """

    def __init__(self, rows: SplitRows, groups: Sequence[RowGroup], *, held: Events | None = None) -> None:
        self.num_rows = sum(group.num_rows for group in groups)
        self._rows = rows
        self._groups = groups
        self._held = held
        self._num_read = 0
        self._writer: EventsWriter | None = None

    @property
    def positions(self) -> torch.Tensor:
        """[num_rows] where the block's rows stand in `events()`."""
        if self._held is None:
            return torch.arange(self.num_rows)
        return torch.cat([torch.arange(g.begin, g.begin + g.num_rows) for g in self._groups])

    def read_ahead(self, share: float) -> None:
        """Reads until about this share of the row groups is in memory."""
        wanted = len(self._groups) if share >= 1 else int(share * len(self._groups))
        if self._held is not None or self._num_read >= wanted:
            return
        if self._writer is None:
            self._writer = self._rows.writer(self.num_rows)
        for group in self._groups[self._num_read : wanted]:
            self._writer.add(self._rows.read(group))
        self._num_read = wanted

    def events(self) -> Events:
        """The block's rows, or those of the whole split."""
        if self._held is not None:
            return self._held
        self.read_ahead(1)
        assert self._writer is not None
        return self._writer.events()


def blocks(groups: Sequence[RowGroup], max_rows: int) -> Iterator[list[RowGroup]]:
    """Neighbouring row groups of up to `max_rows` rows together, one group at least."""
    block: list[RowGroup] = []
    for group in groups:
        if block and sum(g.num_rows for g in block) + group.num_rows > max(max_rows, 1):
            yield block
            block = []
        block.append(group)
    if block:
        yield block
