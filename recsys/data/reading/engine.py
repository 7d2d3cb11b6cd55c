"""Engine: runs the Ibis expressions of preparing; DuckDBEngine, on this machine."""

from __future__ import annotations

import abc
import contextlib
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import ibis
import pyarrow as pa
from ibis import _

from recsys.data.reading.arrow_files import first_damaged
from recsys.data.reading.functions import DEFINITIONS, TWO_ARGUMENTS
from recsys.schema.errors import InputError

ROW_GROUP_ROWS = 100_000
# Beyond it DuckDB spills to the scratch folder.
MEMORY_LIMIT = "2500MB"


class Engine(abc.ABC):
    """Runs the Ibis expressions of preparing.

    Args:
        scratch: an existing folder for what does not fit in memory.
    """

    scratch: Path

    @abc.abstractmethod
    def read_parquet(self, files: Sequence[Path], *, number_rows: str | None = None) -> ibis.Table:
        """The rows of Parquet files, columns matched by name.

        Args:
            files: in order.
            number_rows: name of a further column that numbers the rows of all files, in order, from 1.
        """

    @abc.abstractmethod
    def upload(self, table: pa.Table) -> ibis.Table:
        """An Arrow table as a table of the engine."""

    @abc.abstractmethod
    def keep(self, table: ibis.Table) -> ibis.Table:
        """The rows of an expression, computed now and once."""

    @abc.abstractmethod
    def keep_only(self, table: ibis.Table) -> ibis.Table:
        """The rows of an expression, computed now; all that was kept before is dropped to make room."""

    @abc.abstractmethod
    def collect(self, table: ibis.Table) -> pa.Table:
        """The rows of an expression, in memory."""

    @abc.abstractmethod
    def stream(self, table: ibis.Table) -> Iterator[pa.RecordBatch]:
        """The rows of an expression, in order, in batches of ROW_GROUP_ROWS or a little more.

        No other expression may run before the last batch.
        """

    def row(self, table: ibis.Table) -> dict[str, Any]:
        """The only row of an expression."""
        [row] = self.collect(table).to_pylist()
        return dict(row)

    def count(self, table: ibis.Table) -> int:
        """Counts the rows of an expression."""
        return int(self.row(table.aggregate(rows=_.count()))["rows"])


class DuckDBEngine(Engine):
    """An embedded DuckDB.

    Args:
        scratch: an existing folder for what does not fit in memory.
    """

    def __init__(self, scratch: Path) -> None:
        # Ibis sets the session's time zone to UTC, so that text without a zone is UTC on every machine.
        self._connection: Any = ibis.duckdb.connect(
            ":memory:", temp_directory=str(scratch / "spill"), memory_limit=MEMORY_LIMIT
        )
        # NOTE: Parquet's least and greatest values do not count NaN, and DuckDB 2.0 concludes from them that
        # there is none: `isnan` is false, comparisons hold. To be deleted when it no longer does.
        self._connection.raw_sql("SET GLOBAL disabled_optimizers = 'statistics_propagation'")
        for name, definition in DEFINITIONS.items():
            arguments = "x, y" if name in TWO_ARGUMENTS else "x"
            self._connection.raw_sql(f"CREATE MACRO {name}({arguments}) AS {definition}")
        self._names = (f"table_{number}" for number in itertools.count())
        self._kept: list[str] = []
        self._files: list[Path] = []
        self.scratch = scratch

    def __enter__(self) -> DuckDBEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.disconnect()

    def read_parquet(self, files: Sequence[Path], *, number_rows: str | None = None) -> ibis.Table:
        """See `Engine`."""
        """The rows of Parquet files, columns matched by name.

        Args:
            files: in order.
            number_rows: name of a further column that numbers the rows of all files, in order, from 1.
        """
        names = [str(file) for file in files]
        self._files += files
        if number_rows is None:
            return self._connection.read_parquet(names, union_by_name=True)
        rows = self._connection.read_parquet(names, union_by_name=True, file_row_number=True, filename=_FILE)
        if len(files) == 1:
            return rows.mutate(**{number_rows: _.file_row_number + 1}).drop("file_row_number", _FILE)
        rows = rows.join(self.upload(_row_offsets(names)), _FILE)
        numbered = rows.mutate(**{number_rows: _.file_row_number + 1 + _._offset})
        return numbered.drop("file_row_number", _FILE, "_offset")

    def upload(self, table: pa.Table) -> ibis.Table:
        """See `Engine`."""
        # NOTE: not create_table(name, table): with sqlglot 30.30 Ibis 12 forgets the name of the view that it
        # drops.
        name = next(self._names)
        self._connection.con.register(name, table)
        return self._connection.table(name)

    def keep(self, table: ibis.Table) -> ibis.Table:
        """See `Engine`."""
        name = next(self._names)
        self._kept.append(name)
        with self._naming_faults():
            return self._connection.create_table(name, table)

    def keep_only(self, table: ibis.Table) -> ibis.Table:
        """See `Engine`."""
        before, self._kept = self._kept, []
        kept = self.keep(table)
        for name in before:
            # NOTE: not drop_table, for the same reason as in upload.
            self._connection.raw_sql(f"DROP TABLE {name}")
        return kept

    def collect(self, table: ibis.Table) -> pa.Table:
        """See `Engine`."""
        with self._naming_faults():
            return self._connection.to_pyarrow(table)

    def stream(self, table: ibis.Table) -> Iterator[pa.RecordBatch]:
        """See `Engine`."""
        # NOTE: not to_pyarrow_batches: Ibis 12 calls fetch_record_batch, which DuckDB 2.0 has renamed.
        with self._naming_faults():
            result = self._connection.con.sql(ibis.to_sql(table, dialect="duckdb"))
            read = getattr(result, "to_arrow_reader", None) or result.fetch_arrow_reader
            yield from read(ROW_GROUP_ROWS)

    @contextlib.contextmanager
    def _naming_faults(self) -> Iterator[None]:
        """Says of memory, disk or a damaged file that it is at fault, and what to do.

        Raises:
            InputError: in place of the engine's error, where one of them is.
        """
        try:
            yield
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            raise InputError(
                f"memory ran out while tables were read (DuckDB may take {MEMORY_LIMIT} and spills to "
                f"`{self.scratch}`): {_first_line(error)}; free memory, raise the limit of the process "
                "(`ulimit -v`), or leave out columns and rows that are not needed"
            ) from error
        except duckdb.Error as error:
            if "No space left" in str(error):
                raise InputError(
                    f"the disk of `{self.scratch}` is full: {_first_line(error)}; free space, or name "
                    "another place by `data.cache_dir`"
                ) from error
            damaged = first_damaged(self._files)
            if damaged is None:
                raise
            raise InputError(f"{damaged}; fetch or write it again") from error


@contextlib.contextmanager
def temporary_engine() -> Iterator[DuckDBEngine]:
    """An engine with a scratch folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as scratch, DuckDBEngine(Path(scratch)) as engine:
        yield engine


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


_FILE = "_file_of_row"


def _row_offsets(names: Sequence[str]) -> pa.Table:
    from pyarrow.parquet import read_metadata

    counts = [read_metadata(name).num_rows for name in names]
    offsets = itertools.accumulate(counts[:-1], initial=0)
    return pa.table({_FILE: names, "_offset": pa.array(offsets, pa.int64())})
