"""shared_rows: held-out events that two prepared datasets of the same raw tables both have.

Legend: N events.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.data.dataset import PreparedDataset, Split
from recsys.schema import tables
from recsys.schema.errors import InputError

Positions = npt.NDArray[np.int64]
_HELD_OUT: tuple[Split, ...] = ("test", "validation")
_KEYS = [tables.USER_ID, tables.ITEM_ID, tables.TIMESTAMP]


def shared_rows(
    first: PreparedDataset, second: PreparedDataset, *, num_rows: int
) -> list[tuple[Split, pa.Table]]:
    """Positives that are held out in both, the same ones in the same order, each with its split.

    Args:
        first: a prepared dataset.
        second: one of the same raw tables, split as it likes.
        num_rows: about how many, evenly spaced; the one with the longest history is among them.

    Raises:
        ValueError: what one holds out, the other has learnt from.
    """
    held = [{split: dataset.split_table(split) for split in _HELD_OUT} for dataset in (first, second)]
    shared = []
    for splits in itertools.product(_HELD_OUT, _HELD_OUT):
        ours, theirs = (tables_of[split] for tables_of, split in zip(held, splits, strict=True))
        ours = ours.filter(ours[tables.POSITIVE])
        at = _matches(ours, theirs)
        shared.append((splits, [ours.take(at[0]), theirs.take(at[1])]))
    splits, rows = max(shared, key=lambda pair: pair[1][0].num_rows)
    if not rows[0].num_rows:
        raise InputError(
            f"`run` and `ranker` must hold out events in common to be checked on, but no positive event is "
            f"in test or validation of both `{first.path}` and `{second.path}`; prepare both with the same "
            "`data.split` and `data.split_fractions`"
        )
    chosen = pa.array(_spread(rows[0], num_rows))
    return [(split, table.take(chosen)) for split, table in zip(splits, rows, strict=True)]


def _spread(table: pa.Table, num_rows: int) -> Positions:
    """Evenly spaced positions, and that of the longest history."""
    evenly = np.linspace(0, table.num_rows - 1, min(num_rows, table.num_rows)).astype(np.int64)
    longest = np.argmax(table[tables.HISTORY_LENGTH].to_numpy())
    return np.unique(np.append(evenly, longest))


def _matches(first: pa.Table, second: pa.Table) -> tuple[pa.Array, pa.Array]:
    """Positions [N] of the same events in two tables, in the order of the first."""
    joined = _keyed(first, "first").join(_keyed(second, "second"), keys=_KEYS, join_type="inner")
    ours, theirs = (joined[name].to_numpy() for name in ("first", "second"))
    ours, at = np.unique(ours, return_index=True)
    return pa.array(ours), pa.array(theirs[at])


def _keyed(table: pa.Table, name: str) -> pa.Table:
    """Returns the columns that tell an event, as text in both tables, and its position under `name`."""
    keys = {key: _text(table[key]) for key in _KEYS}
    return pa.table({**keys, name: pa.array(np.arange(table.num_rows))})


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string())
