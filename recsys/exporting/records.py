"""Tables of records for a bundle: new items to add, users to recommend to."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from recsys.data.reading.rows import numbers_in, read_rows, typed_in

LOGGER = logging.getLogger(__name__)


def read_records(
    path: Path,
    *,
    key: str,
    id_fields: Sequence[str],
    columns: Collection[str],
    kinds: Mapping[str, str] | None = None,
) -> pa.Table:
    """The id and the given columns of a table; those of a CSV file as text, null where empty.

    Args:
        path: a file, or a folder of files of one kind.
        key: that named it, for messages.
        id_fields: names that the id may go by, in order of precedence.
        columns: that are wanted, where they are there; of others the log says so.
        kinds: of the features that read columns; these are read as preparing reads them.

    Raises:
        InputError: the table can't be read, has no column of ids, a row of too few or too many columns, or no
            row.
    """
    others = {id_fields[0]: id_fields[1:]}
    table = read_rows(path, required=id_fields[:1], others=others, optional=None, key=key)
    id_field = next(field for field in id_fields if field in table.column_names)
    chosen = [name for name in table.column_names if name == id_field or name in columns]
    unread = [name for name in table.column_names if name not in chosen]
    if unread:
        LOGGER.info("`%s=%s`: no feature reads the columns %s", key, path, unread)
    table = table.select(chosen)
    for name, kind in (kinds or {}).items():
        if name in chosen and name != id_field:
            read = numbers_in(table, name) if kind == "numeric" else typed_in(table, name)
            table = table.set_column(table.column_names.index(name), name, read)
    return table
