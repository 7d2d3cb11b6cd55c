"""Tables of records for a bundle: new items to add, users to recommend to."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

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


def raw_values(column: pa.ChunkedArray) -> list[Any]:
    """A raw column as plain Python; instants and decimals as text, no value as None."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if any(is_other(column.type) for is_other in _AS_TEXT):
        column = column.cast(pa.string())
    return [_plain(value) for value in column.to_pylist()]


_AS_TEXT = (pa.types.is_temporal, pa.types.is_decimal, pa.types.is_uint64, pa.types.is_binary)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        # NOTE: torch can't pass an empty list inside a dictionary to TorchScript; None means the same.
        return [_plain(part) for part in value if part is not None] or None
    return None if isinstance(value, float) and not math.isfinite(value) else value
