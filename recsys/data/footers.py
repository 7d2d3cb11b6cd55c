"""Looks at the tables of a prepared dataset, which may be a stranger's: their columns, and rows beyond them.

Footers alone are read. What they say of a file that was written to deceive may be wrong: then a command ends
in an error of ours, and still runs no code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.events import columns_of
from recsys.data.histories import HISTORY_COLUMNS
from recsys.schema import tables
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import HistoryFeature, Role
from recsys.schema.features import FeatureSchema

_MOST_EVENTS = 2**31


def check_tables(folder: Path, schema: FeatureSchema, splits: Iterable[str]) -> None:
    """Compares the tables in `folder` with its schema and with each other.

    Raises:
        InputError: a column is missing or of another type, or holds numbers of rows that are not there.
    """
    sizes = {}
    for name, key in tables.ID_COLUMNS.items():
        role: Role = "user" if key == tables.USER_ID else "item"
        sparse = [f for f in schema.sparse([role]) if not isinstance(f, HistoryFeature)]
        wanted = [tables.encoded_column(feature.name) for feature in [*sparse, *schema.dense([role])]]
        sizes[name] = _checked(folder / f"{name}.parquet", [key, *wanted], {})
    for split in splits:
        path = folder / "histories" / f"{split}.parquet"
        num_histories = _checked(path, [*HISTORY_COLUMNS, tables.USER_ROW], {tables.USER_ROW: sizes["users"]})
        below = {
            **{tables.USER_ROW: sizes["users"], tables.ITEM_ROW: sizes["items"]},
            **{tables.HISTORY_ROW: num_histories, tables.HISTORY_LENGTH: _MOST_EVENTS},
        }
        for file in sorted((folder / split).glob("*.parquet")):
            _checked(file, columns_of(schema), below)


def _checked(path: Path, wanted: Iterable[str], below: Mapping[str, int]) -> int:
    """Counts the rows of a file, after a look at its columns and at the ends of those that number rows."""
    try:
        footer = pq.read_metadata(path)
        schema = footer.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"`{path}` is damaged: {error}") from error
    missing = [name for name in wanted if name not in schema.names]
    if missing:
        raise InputError(f"`{path}` is damaged: expected a column `{missing[0]}`, found none")
    for name, limit in below.items():
        if not pa.types.is_integer(schema.field(name).type):
            kind = schema.field(name).type
            raise InputError(f"`{path}` is damaged: expected whole numbers in `{name}`, found {kind}")
        column = footer.schema.names.index(name)
        for number in range(footer.num_row_groups):
            ends = footer.row_group(number).column(column).statistics
            if ends is None or not footer.row_group(number).num_rows:
                continue
            if ends.null_count or (ends.has_min_max and not 0 <= ends.min <= ends.max < limit):
                raise InputError(
                    f"`{path}` is damaged: expected rows from 0 to {limit - 1} in `{name}`, found "
                    f"{f'{ends.min} to {ends.max}' if ends.has_min_max else 'none'}"
                    f"{f', {ends.null_count} missing' if ends.null_count else ''}"
                )
    return int(footer.num_rows)
