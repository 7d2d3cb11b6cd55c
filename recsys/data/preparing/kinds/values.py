"""Raw columns as their kinds take them: in one chunk, as whole numbers or text, and cut into bags.

Every function is vectorised and must be repeatable from a raw value alone, for the exported graph does the
same.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.schema.features import OUT_OF_VOCABULARY
from recsys.schema.values import FALSE_WORDS, TRUE_WORDS

# What `str.strip()` takes from the ends of an ASCII string.
BLANKS = " \t\n\r\x0b\x0c"


@dataclasses.dataclass(frozen=True)
class ValueCounts:
    """Raw values of a column and the train interactions that each occurs in; values may repeat."""

    values: pa.Array
    counts: npt.NDArray[np.int64]


def one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def parents_of(lists: pa.Array) -> npt.NDArray[np.int64]:
    """The position of the list that each element stands in."""
    parents: npt.NDArray[np.int64] = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    return parents.astype(np.int64)


def whole_or_text(column: pa.Array) -> pa.Array:
    """Integers where the column is of integers, booleans or whole floats (pandas, with nulls), else text."""
    column = one_chunk(column)
    kind = column.type
    if pa.types.is_dictionary(kind):
        return whole_or_text(column.dictionary_decode())
    if pa.types.is_boolean(kind):
        return column.cast(pa.int8()).cast(pa.int64())
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        whole = pc.equal(column, pc.floor(column))
        if pc.all(pc.and_(whole, pc.less(pc.abs(column), 2.0**53)), min_count=0).as_py():
            return column.cast(pa.int64())
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    text = column.cast(pa.string())
    for words in (TRUE_WORDS, FALSE_WORDS):
        text = pc.if_else(pc.is_in(text, value_set=pa.array(words)), words[0], text)
    return text


def bags(
    rows: npt.NDArray[np.int32], parents: npt.NDArray[np.int64], *, num_bags: int, at_most: int
) -> pa.Array:
    """Lists of the first `at_most` known rows of each parent; parents ascend."""
    known = rows != OUT_OF_VOCABULARY
    rows, parents = rows[known], parents[known]
    place = np.arange(len(parents)) - np.searchsorted(parents, parents, side="left")
    rows, parents = rows[place < at_most], parents[place < at_most]
    offsets = np.zeros(num_bags + 1, dtype=np.int32)
    np.cumsum(np.bincount(parents, minlength=num_bags), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows, pa.int32()))
