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

from recsys.data.reading.arrow_files import engine_names, is_plain, plain_type, schema_of, write_plain
from recsys.data.reading.csv_files import MalformedRow, read_header, stage_csv
from recsys.data.reading.engine import DuckDBEngine
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
        rows: the columns asked for by the engine's names, and SEQUENCE; columns of a CSV file are text, null
            where empty.
        columns: names of all columns in the files.
        names: what the engine calls each column of `rows`.
        files: where they come from, and what was passed over.
        num_rows: rows of each file, malformed ones included.
        malformed: rows of a CSV file that do not have its number of columns, and so are not in `rows`.
        unreadable: columns of a type that no value can be read from, and the type.
    """

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


def read_table(
    engine: DuckDBEngine,
    path: Path,
    *,
    required: Mapping[str, str],
    key: str,
    scratch: Path,
    delimiter: str | None = None,
    wanted: Sequence[str] | None = None,
    likely: Sequence[str] = (),
) -> RawTable:
    """Opens a raw table.

    Args:
        engine: what will run expressions over it.
        path: one file, or a folder of files of one kind.
        required: columns that must be there, and the config key that names each.
        key: config key of the table, for messages.
        scratch: folder for files written anew.
        delimiter: of CSV files; when None, the one that makes sense of the header.
        wanted: columns to read; all when None.
        likely: further columns by which the delimiter is found.

    Raises:
        InputError: nothing to read at `path`, or a required column is missing or of no use.
    """
    files = table_files(path, key=f"{key}.path" if key.startswith("data.") else key)
    for file, why in files.passed_over[:_FILES_NAMED]:
        LOGGER.warning("%s: `%s` is passed over (%s)", key, file.relative_to(path), why)
    if len(files.passed_over) > _FILES_NAMED:
        LOGGER.warning("%s: %d files are passed over", key, len(files.passed_over))
    if files.kind == CSV:
        return _read_csv(
            engine,
            files,
            required=required,
            key=key,
            scratch=scratch,
            delimiter=delimiter,
            wanted=wanted,
            likely=likely,
        )
    return _read_arrow(engine, files, required=required, key=key, scratch=scratch, wanted=wanted)


def check_columns(
    found: Sequence[str], *, required: Mapping[str, str], path: Path, unreadable: Mapping[str, str]
) -> None:
    """Raises InputError when a required column is missing or of no use, saying which columns are there."""
    missing = [
        f"`{key}={name}`: there is no such column in `{path}`{_likely(name, found)}"
        for name, key in required.items()
        if name not in found
    ]
    if missing:
        null = "" if "data.interactions.columns.timestamp" not in required.values() else _NO_TIME
        raise InputError(
            "\n".join([*missing, f"its columns: {', '.join(f'`{name}`' for name in found)}{null}"])
        )
    for name, key in required.items():
        if name in unreadable:
            raise InputError(
                f"`{key}={name}`: expected one value a row in `{path}`, found the type {unreadable[name]}; "
                "write what is meant as a column of its own"
            )


_NO_TIME = (
    "; where there are no timestamps, data.interactions.columns.timestamp=null and a split without time"
)


def _likely(name: str, found: Sequence[str]) -> str:
    same = [other for other in found if other.lower() == name.lower()]
    return f"; did you mean `{same[0]}`?" if same else nearest(name, found)


def _read_arrow(
    engine: DuckDBEngine,
    files: TableFiles,
    *,
    required: Mapping[str, str],
    key: str,
    scratch: Path,
    wanted: Sequence[str] | None,
) -> RawTable:
    found = [schema_of(file, files.kind) for file in files.files]
    fields: dict[str, pa.Field] = {}
    for schema, _rows in found:
        fields |= {field.name: field for field in schema if field.name not in fields}
    unreadable = {name: str(field.type) for name, field in fields.items() if plain_type(field.type) is None}
    for file, (schema, _rows) in zip(files.files, found, strict=True):
        check_columns(schema.names, required=required, path=file, unreadable=unreadable)
    chosen = [name for name in fields if (wanted is None or name in wanted) and name not in unreadable]
    everything = engine_names(fields)
    fits = all(name == real for real, name in everything.items())
    if files.kind == PARQUET and fits and all(is_plain(fields[name]) for name in chosen):
        rows = engine.read_parquet(files.files, number_rows=SEQUENCE)
        return RawTable(
            rows=rows.select(*chosen, SEQUENCE),
            columns=tuple(fields),
            names={name: name for name in chosen},
            files=files,
            num_rows=tuple(count for _schema, count in found),
            unreadable=unreadable,
        )
    names = engine_names(chosen)
    staged, counts = [], list[int]()
    for number, file in enumerate(files.files):
        staged.append(scratch / f"{key}-{number:05d}.parquet")
        counts.append(
            write_plain(file, files.kind, staged[-1], names=names, sequence=SEQUENCE, offset=sum(counts))
        )
    return RawTable(
        rows=engine.read_parquet(staged),
        columns=tuple(fields),
        names=names,
        files=files,
        num_rows=tuple(counts),
        unreadable=unreadable,
    )


def _read_csv(
    engine: DuckDBEngine,
    files: TableFiles,
    *,
    required: Mapping[str, str],
    key: str,
    scratch: Path,
    delimiter: str | None,
    wanted: Sequence[str] | None,
    likely: Sequence[str],
) -> RawTable:
    headers = []
    for file in files.files:
        header = read_header(file, required=[*required, *likely], delimiter=delimiter)
        check_columns([name for name in header.columns if name], required=required, path=file, unreadable={})
        headers.append(header)
    columns = list(dict.fromkeys(name for header in headers for name in header.columns if name))
    names = engine_names(name for name in columns if wanted is None or name in wanted)
    staged: list[Path] = []
    counts: list[int] = []
    malformed: list[MalformedRow] = []
    for number, (file, header) in enumerate(zip(files.files, headers, strict=True)):
        chosen = [name for name in header.columns if name in names]
        target = scratch / f"{key}-{number:05d}.parquet"
        num_rows, bad = stage_csv(
            file,
            target,
            header,
            columns=chosen,
            names=[names[name] for name in chosen],
            sequence=SEQUENCE,
            offset=sum(counts),
        )
        staged.append(target)
        counts.append(num_rows)
        malformed.extend(bad)
    LOGGER.info("read %d rows of %s from %d CSV file(s)", sum(counts), key, len(files.files))
    return RawTable(
        rows=engine.read_parquet(staged),
        columns=tuple(columns),
        names=names,
        files=files,
        num_rows=tuple(counts),
        malformed=tuple(malformed),
    )
