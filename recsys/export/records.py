"""Tables of records for a bundle: new items to add, users to recommend to."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.reading.csv_files import MalformedRow, read_header, stage_csv
from recsys.data.reading.tables import is_parquet, raw_files
from recsys.schema.errors import InputError, nearest

LOGGER = logging.getLogger(__name__)

_SEQUENCE = "_sequence"


def read_records(path: Path, *, key: str, id_fields: Sequence[str], columns: Collection[str]) -> pa.Table:
    """The id and the given columns of a table; those of a CSV file as text, null where empty.

    Args:
        path: a file, or a folder of files of one kind.
        key: that named it, for messages.
        id_fields: names that the id may go by, in order of precedence.
        columns: that are wanted, where they are there; of others the log says so.

    Raises:
        ValueError: the table can't be read, has no column of ids, a row of too few or too many columns, or no
            row.
    """
    files = raw_files(path, key=key)
    parts = [_read(file, key=key, id_fields=id_fields, columns=columns) for file in files]
    table = pa.concat_tables(parts, promote_options="permissive")
    if not table.num_rows:
        raise InputError(f"`{key}={path}`: expected rows, found none")
    return table


def _read(file: Path, *, key: str, id_fields: Sequence[str], columns: Collection[str]) -> pa.Table:
    try:
        header = None if is_parquet(file) else read_header(file, required=[*id_fields, *columns])
        found = pq.read_schema(file).names if header is None else list(header.columns)
        id_field = next((field for field in id_fields if field in found), None)
        if id_field is None:
            raise InputError(
                f"`{key}={file}` must have a column of ids, named {' or '.join(f'`{f}`' for f in id_fields)}"
                f"{nearest(id_fields[0], found)}; it has: {', '.join(found)}"
            )
        chosen = [name for name in found if name == id_field or name in columns]
        unread = [name for name in found if name not in chosen]
        if unread:
            LOGGER.info("`%s=%s`: no feature reads the columns %s", key, file, unread)
        if header is None:
            return pq.read_table(file, columns=chosen)
        with tempfile.TemporaryDirectory() as scratch:
            target = Path(scratch) / "table.parquet"
            _, malformed = stage_csv(file, target, header, columns=chosen, sequence=_SEQUENCE, offset=0)
            _refuse_malformed(file, malformed, key=key)
            return pq.read_table(target, memory_map=False).drop_columns([_SEQUENCE])
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"`{key}={file}` cannot be read: {error}") from error


def _refuse_malformed(file: Path, malformed: Sequence[MalformedRow], *, key: str) -> None:
    if malformed:
        first = malformed[0]
        raise InputError(
            f"`{key}={file}`: row {first.sequence}: {first.reason} ({len(malformed)} such rows); "
            "mend the file"
        )
