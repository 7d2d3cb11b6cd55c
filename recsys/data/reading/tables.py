"""A raw table, whatever files it is in, as rows numbered in the order they stand in."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.reading.arrow_files import ArrowFile, engine_names, is_plain, open_arrow, plain_type
from recsys.data.reading.csv_files import CsvFile, MalformedRow, open_csv
from recsys.data.reading.engine import Engine
from recsys.data.reading.files import CSV, PARQUET, TableFiles, table_files
from recsys.schema.errors import InputError, nearest

LOGGER = logging.getLogger(__name__)

# Number of a row among the rows of all files of its table, from 1; malformed ones count too.
SEQUENCE = "_sequence"
_FILES_NAMED = 5


@dataclasses.dataclass(frozen=True)
class RawTable:
    """One raw table.

    Args:
        engine: runs expressions over it.
        rows: the columns asked for by the engine's names, and SEQUENCE; columns of a CSV file are text, null
            where empty.
        columns: names of all columns in the files.
        names: what the engine calls each column of `rows`.
        files: where they come from, and what was passed over.
        num_rows: rows of each file, malformed ones included.
        malformed: rows of a CSV file that do not have its number of columns, and so are not in `rows`.
        unreadable: columns of a type that no value can be read from, and the type.
    """

    engine: Engine
    rows: ibis.Table
    columns: tuple[str, ...]
    names: Mapping[str, str]
    files: TableFiles
    num_rows: tuple[int, ...]
    malformed: tuple[MalformedRow, ...] = ()
    unreadable: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def total_rows(self) -> int:
        """Rows of all files."""
        return sum(self.num_rows)

    def column(self, name: str) -> ibis.Value:
        """A column by its name in the files."""
        return self.rows[self.names[name]]

    def places(self, sequences: Sequence[int]) -> list[tuple[str, int]]:
        """File and row in that file, from 1, of the rows with these sequence numbers."""
        ends = list(itertools.accumulate(self.num_rows))
        files = [bisect.bisect_left(ends, sequence) for sequence in sequences]
        return [
            (str(self.files.files[file]), sequence - (ends[file - 1] if file else 0))
            for file, sequence in zip(files, sequences, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class TableSource:
    """Names a raw table and what is asked of it.

    Args:
        path: one file, or a folder of files of one kind.
        key: config key of the table, for messages.
        required: columns that must be there, and the config key that names each.
        wanted: columns to read; all when None.
        likely: further columns by which the delimiter of CSV is found.
        delimiter: of CSV files; when None, the one that makes sense of the header.
    """

    path: Path
    key: str
    required: Mapping[str, str] = dataclasses.field(default_factory=dict)
    wanted: Sequence[str] | None = None
    likely: Sequence[str] = ()
    delimiter: str | None = None


def read_table(engine: Engine, source: TableSource) -> RawTable:
    """Opens a raw table.

    Raises:
        InputError: nothing to read at its path, or a required column is missing or of no use.
    """
    table_files = _found_files(source)
    files = [_opened(path, table_files.kind, source) for path in table_files.files]
    types: dict[str, pa.DataType] = {}
    for file in files:
        types |= {name: kind for name, kind in file.types.items() if name not in types}
    unreadable = {name: str(kind) for name, kind in types.items() if plain_type(kind) is None}
    for file in files:
        _check_columns(list(file.types), source, file.path, unreadable)
    chosen = [
        name for name in types if name not in unreadable and (source.wanted is None or name in source.wanted)
    ]
    if table_files.kind != CSV:
        for name in chosen:
            _check_parts(name, files, source.key)
    names = engine_names(chosen)
    malformed: list[MalformedRow] = []
    if table_files.kind == PARQUET and _fits_engine(types, chosen):
        rows = engine.read_parquet(table_files.files, number_rows=SEQUENCE).select(*chosen, SEQUENCE)
        sizes = [pq.read_metadata(file.path).num_rows for file in files]
    else:
        targets, sizes = [], []
        for number, file in enumerate(files):
            targets.append(engine.scratch / f"{source.key}-{number:05d}.parquet")
            size, bad = file.write(targets[-1], names=names, sequence=SEQUENCE, offset=sum(sizes))
            sizes.append(size)
            malformed += bad
        rows = engine.read_parquet(targets)
    if table_files.kind == CSV:
        LOGGER.info("read %d rows of %s from %d CSV file(s)", sum(sizes), source.key, len(files))
    return RawTable(
        engine, rows, tuple(types), names, table_files, tuple(sizes), tuple(malformed), unreadable
    )


def _found_files(source: TableSource) -> TableFiles:
    key = source.key
    files = table_files(source.path, key=f"{key}.path" if key.startswith("data.") else key)
    for file, why in files.passed_over[:_FILES_NAMED]:
        LOGGER.warning("%s: `%s` is passed over (%s)", key, file.relative_to(source.path), why)
    folders = {part for file in files.files for part in file.relative_to(source.path).parts[:-1]}
    if partitions := sorted(folder for folder in folders if "=" in folder):
        LOGGER.warning(
            "%s: folders such as `%s` name values of a column that is not read; write it into the files",
            key, partitions[0],
        )  # fmt: skip
    if len(files.passed_over) > _FILES_NAMED:
        LOGGER.warning("%s: %d files are passed over", key, len(files.passed_over))
    return files


def _opened(path: Path, kind: str, source: TableSource) -> CsvFile | ArrowFile:
    if kind != CSV:
        return open_arrow(path, kind)
    return open_csv(path, required=[*source.required, *source.likely], delimiter=source.delimiter)


def _fits_engine(types: Mapping[str, pa.DataType], chosen: Sequence[str]) -> bool:
    """Whether the engine reads these columns of Parquet files as they are."""
    has_own_names = all(name == real for real, name in engine_names(types).items())
    return has_own_names and all(is_plain(types[name]) for name in chosen)


def _check_parts(name: str, files: Sequence[CsvFile | ArrowFile], key: str) -> None:
    """Raises InputError when the files hold a column in types that cannot be one, naming the first two."""
    holding = [file for file in files if name in file.types]
    first = holding[0]
    for file in holding[1:]:
        families = {_family(first.types[name]), _family(file.types[name])}
        if len(families) > 1 and families != {"text", "number"} and families != {"text", "instant"}:
            raise InputError(
                f"`{key}`: the column `{name}` is {first.types[name]} in `{first.path}` and "
                f"{file.types[name]} in `{file.path}`; write both files with one type"
            )


def _family(kind: pa.DataType) -> str:
    plain = plain_type(kind)
    if plain is None or pa.types.is_null(kind):
        return "text"  # of an empty column
    if pa.types.is_nested(plain):
        return "list"
    if pa.types.is_temporal(plain):
        return "instant"
    return "text" if pa.types.is_string(plain) else "number"


def _check_columns(
    columns: Sequence[str], source: TableSource, path: Path, unreadable: Mapping[str, str]
) -> None:
    """Raises InputError when a required column is missing or of no use, saying which columns are there."""
    missing = [
        f"`{key}={name}`: there is no such column in `{path}`{nearest(name, columns)}"
        for name, key in source.required.items()
        if name not in columns
    ]
    if missing:
        null = _NO_TIME if "data.interactions.columns.timestamp" in source.required.values() else ""
        raise InputError(
            "\n".join([*missing, f"its columns: {', '.join(f'`{name}`' for name in columns)}{null}"])
        )
    for name, key in source.required.items():
        if name in unreadable:
            raise InputError(
                f"`{key}={name}`: expected one value a row in `{path}`, found the type {unreadable[name]}; "
                "write what is meant as a column of its own"
            )


_NO_TIME = (
    "; where there are no timestamps, data.interactions.columns.timestamp=null and a split without time"
)
