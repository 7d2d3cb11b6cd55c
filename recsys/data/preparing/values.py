"""Raw columns as the values that vocabularies and hashes know: integers, strings, pieces of a list, words.

Every function is vectorised and must be repeatable from a raw value alone, for the exported graph does the
same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.schema.feature_kinds import LookupFeature, MultiIdFeature, TextFeature
from recsys.schema.values import FALSE_WORDS, TRUE_WORDS

# What `str.strip()` takes from the ends of an ASCII string.
_BLANKS = " \t\n\r\x0b\x0c"


def single_values(feature: LookupFeature, column: pa.Array) -> pa.Array:
    """The values of an `id`: int64 or string; a prefix makes strings; null and the empty string are null."""
    values = _whole_or_text(column)
    if feature.prefix:
        values = pc.utf8_slice_codeunits(values.cast(pa.string()), 0, feature.prefix)
    return _empty_as_null(values)


def pieces(feature: MultiIdFeature, column: pa.Array) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The values of a `multi_id`, end to end, and the position in the column that each comes from.

    A string is cut at the delimiter, pieces are stripped of blanks, empty ones and nulls fall away.
    """
    column = _one_chunk(column)
    if not _is_list(column.type):
        column = pc.split_pattern(column.cast(pa.string()), feature.delimiter)
    values = _whole_or_text(_one_chunk(pc.list_flatten(column)))
    parents = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
    if pa.types.is_string(values.type):
        values = pc.utf8_trim(values, characters=_BLANKS)
    if feature.prefix:
        values = pc.utf8_slice_codeunits(values.cast(pa.string()), 0, feature.prefix)
    values = _empty_as_null(values)
    there = values.is_valid()
    return values.filter(there), parents[there.to_numpy(zero_copy_only=False)]


def ngrams(feature: TextFeature, column: pa.Array) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The word n-grams of a `text`, end to end, and the position in the column that each comes from.

    Words are maximal runs of a-z, 0-9 and characters beyond ASCII, after A-Z have become a-z. The n-grams of
    one text stand in the order of n, then of their place.
    """
    lowered = pc.ascii_lower(_one_chunk(column).cast(pa.string()))
    lists = pc.split_pattern_regex(lowered, r"[^a-z0-9\x{80}-\x{10FFFF}]+")
    words = _one_chunk(pc.list_flatten(lists))
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    there = pc.greater(pc.binary_length(words), 0)
    words, parents = words.filter(there), parents[there.to_numpy(zero_copy_only=False)]
    grams, owners = [words], [parents]
    gram = words
    for extra in range(1, feature.ngrams):
        if len(words) <= extra:
            break
        inside = parents[extra:] == parents[:-extra]
        gram = pc.binary_join_element_wise(gram[: len(words) - extra], words[extra:], " ")
        grams.append(gram.filter(pa.array(inside)))
        owners.append(parents[extra:][inside])
    position = np.concatenate(owners)
    order = np.argsort(position, kind="stable")
    return pa.concat_arrays(grams).take(pa.array(order)), position[order]


def numbers(column: pa.Array) -> npt.NDArray[np.float32]:
    """The values of a `numeric` as float32, NaN where there is none or it is not finite; true is 1."""
    column = _one_chunk(column)
    if pa.types.is_string(column.type):
        column = _read_numbers(column)
    elif pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    # Not cast to float32 by Arrow, which refuses integers beyond 2^24.
    found = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False).astype(np.float32)
    return np.where(np.isfinite(found), found, np.float32(np.nan))


def _read_numbers(column: pa.Array) -> pa.Array:
    text = pc.utf8_trim(column, characters=_BLANKS)
    readable = pc.match_substring_regex(text, r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")
    kept = pc.if_else(readable.fill_null(False), text, pa.scalar(None, pa.string()))
    return pc.replace_substring_regex(kept, r"^\+", "").cast(pa.float64())


def _whole_or_text(column: pa.Array) -> pa.Array:
    """Integers where the column is of integers, booleans or whole floats (pandas, with nulls), else text."""
    column = _one_chunk(column)
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _whole_or_text(column.dictionary_decode())
    if pa.types.is_boolean(kind):
        return column.cast(pa.int8()).cast(pa.int64())
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        whole = pc.equal(column, pc.floor(column))
        if pc.all(pc.and_(whole, pc.less(pc.abs(column), 2.0**53)), min_count=0).as_py():
            return column.cast(pa.int64())
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    return _with_truth_words(column.cast(pa.string()))


def _with_truth_words(text: pa.Array) -> pa.Array:
    for words in (TRUE_WORDS, FALSE_WORDS):
        text = pc.if_else(pc.is_in(text, value_set=pa.array(words)), words[0], text)
    return text


def _empty_as_null(values: pa.Array) -> pa.Array:
    if not pa.types.is_string(values.type):
        return values
    return pc.if_else(pc.equal(pc.binary_length(values), 0), pa.scalar(None, pa.string()), values)


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
