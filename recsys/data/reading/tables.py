"""read_table: the raw files of one table, CSV or Parquet, as rows numbered in the order they stand in."""

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

from recsys.data.reading.csv_files import MalformedRow, read_header, stage_csv
from recsys.data.reading.engine import DuckDBEngine
from recsys.schema.errors import InputError, nearest

LOGGER = logging.getLogger(__name__)

# Number of a row among the rows of all files of its table, from 1; malformed ones count too.
SEQUENCE = "_sequence"
_PARQUET_SUFFIXES = (".parquet", ".pq")
_CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".inter", ".user", ".item")


@dataclasses.dataclass(frozen=True)
class RawTable:
    """One raw table.

    Args:
        rows: the columns asked for, and SEQUENCE; all columns of a CSV file are text, null where empty.
        columns: names of all columns in the files.
        is_text: true when the files are CSV.
        files: the files in order.
        num_rows: rows of each file, malformed ones included.
        malformed: rows of a CSV file that do not have its number of columns, and so are not in `rows`.
    """

    rows: ibis.Table
    columns: tuple[str, ...]
    is_text: bool
    files: tuple[Path, ...]
    num_rows: tuple[int, ...]
    malformed: tuple[MalformedRow, ...] = ()

    @property
    def total_rows(self) -> int:
        """Rows of all files."""
        return sum(self.num_rows)

    def places(self, sequences: Sequence[int]) -> list[tuple[str, int]]:
        """File and row in that file, from 1, of the rows with these sequence numbers."""
        ends = list(itertools.accumulate(self.num_rows))
        files = [bisect.bisect_left(ends, sequence) for sequence in sequences]
        return [
            (str(self.files[file]), sequence - (ends[file - 1] if file else 0))
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
) -> RawTable:
    """Opens a raw table.

    Args:
        engine: what will run expressions over it.
        path: one file, or a folder of files of one kind.
        required: columns that must be there, and the config key that names each.
        key: config key of the table, for messages.
        scratch: folder for CSV files turned into Parquet.
        delimiter: of CSV files; when None, the one that makes sense of the header.
        wanted: columns to read; all when None.

    Raises:
        ValueError: nothing to read at `path`, or a required column is missing.
    """
    files = raw_files(path, key=f"{key}.path")
    if is_parquet(files[0]):
        return _read_parquet(engine, files, required=required, wanted=wanted)
    return _read_csv(
        engine, files, required=required, key=key, scratch=scratch, delimiter=delimiter, wanted=wanted
    )


def raw_files(path: Path, *, key: str) -> list[Path]:
    """The files of a raw table, in the order of their names.

    Args:
        path: a file or a folder.
        key: that named it, for messages.

    Raises:
        ValueError: there are none, or they are of both kinds.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"`{key}` must be a CSV or Parquet file, or a folder of them; there is no `{path}`")
    visible = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith((".", "_")))
    parquet = [p for p in visible if is_parquet(p)]
    csv = [p for p in visible if p.name.removesuffix(".gz").endswith(_CSV_SUFFIXES)]
    if parquet and csv:
        raise InputError(
            f"`{key}`: the folder `{path}` must hold CSV or Parquet files, found both "
            f"(`{csv[0].name}`, `{parquet[0].name}`); name one file or separate them"
        )
    if not parquet and not csv:
        raise InputError(f"`{key}`: found no CSV or Parquet file in the folder `{path}`")
    return parquet or csv


def is_parquet(path: Path) -> bool:
    """True for a file that is named, or begins, as Parquet does."""
    if path.suffix in _PARQUET_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def check_columns(found: Sequence[str], *, required: Mapping[str, str], path: Path) -> None:
    """Raises ValueError when a required column is missing, saying which columns are there."""
    missing = [
        f"`{key}={name}`: there is no such column in `{path}`{nearest(name, found)}"
        for name, key in required.items()
        if name not in found
    ]
    if missing:
        null = "" if "data.interactions.columns.timestamp" not in required.values() else _NO_TIME
        raise InputError(
            "\n".join([*missing, f"its columns: {', '.join(f'`{name}`' for name in found)}{null}"])
        )


_NO_TIME = (
    "; where there are no timestamps, data.interactions.columns.timestamp=null and a split without time"
)


def _read_parquet(
    engine: DuckDBEngine,
    files: list[Path],
    *,
    required: Mapping[str, str],
    wanted: Sequence[str] | None,
) -> RawTable:
    metadata = [_metadata(file) for file in files]
    columns = list(dict.fromkeys(name for m in metadata for name in m.schema.to_arrow_schema().names))
    check_columns(columns, required=required, path=files[0])
    rows = engine.read_parquet(files, number_rows=SEQUENCE)
    chosen = [name for name in columns if wanted is None or name in wanted]
    return RawTable(
        rows=rows.select(*chosen, SEQUENCE),
        columns=tuple(columns),
        is_text=False,
        files=tuple(files),
        num_rows=tuple(m.num_rows for m in metadata),
    )


def _metadata(file: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"`{file}` cannot be read as Parquet: {error}") from error


def _read_csv(
    engine: DuckDBEngine,
    files: list[Path],
    *,
    required: Mapping[str, str],
    key: str,
    scratch: Path,
    delimiter: str | None,
    wanted: Sequence[str] | None,
) -> RawTable:
    columns: dict[str, None] = {}
    staged: list[Path] = []
    counts: list[int] = []
    malformed: list[MalformedRow] = []
    for number, file in enumerate(files):
        header = read_header(file, required=list(required), delimiter=delimiter)
        check_columns(header.columns, required=required, path=file)
        columns.update(dict.fromkeys(name for name in header.columns if name))
        chosen = [name for name in header.columns if name and (wanted is None or name in wanted)]
        target = scratch / f"{key}-{number:05d}.parquet"
        num_rows, bad = stage_csv(file, target, header, columns=chosen, sequence=SEQUENCE, offset=sum(counts))
        staged.append(target)
        counts.append(num_rows)
        malformed.extend(bad)
    LOGGER.info("read %d rows of %s from %d CSV file(s)", sum(counts), key, len(files))
    return RawTable(
        rows=engine.read_parquet(staged),
        columns=tuple(columns),
        is_text=True,
        files=tuple(files),
        num_rows=tuple(counts),
        malformed=tuple(malformed),
    )
