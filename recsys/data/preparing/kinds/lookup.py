"""The kinds `id` and `multi_id`: values looked up in a vocabulary of train, or hashed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.preparing.kinds.hashing import hash_rows
from recsys.data.preparing.kinds.values import BLANKS, ValueCounts, bags, one_chunk, parents_of, whole_or_text
from recsys.schema.feature_kinds import LookupFeature, MultiIdFeature
from recsys.schema.features import OUT_OF_VOCABULARY


def fit(
    sharing: Sequence[LookupFeature], counted: Mapping[str, ValueCounts], known: pa.Table | None
) -> tuple[list[LookupFeature], pa.Table | None]:
    """The features of one table with its rows, and the vocabulary that they share; None where they hash.

    Args:
        sharing: as declared.
        counted: values by feature name.
        known: an earlier vocabulary; what is in it keeps its row.
    """
    first = sharing[0]
    occurrences = [_occurrences(feature, counted[feature.name]) for feature in sharing]
    were_integers = known is None or pa.types.is_integer(known["value"].type)
    all_integers = were_integers and all(pa.types.is_integer(values.type) for values, _ in occurrences)
    value_type: Literal["integer", "string"] = "integer" if all_integers else "string"
    if first.is_hashed:
        num_rows, vocabulary = first.num_buckets + 1, None
    else:
        kind = pa.int64() if all_integers else pa.string()
        values = pa.chunked_array([values.cast(kind) for values, _ in occurrences])
        counts = np.concatenate([counts for _, counts in occurrences])
        before = known["value"].cast(kind) if known else None
        vocabulary = _vocabulary(values, counts, min_count=first.min_count, known=before)
        num_rows = vocabulary.num_rows + 1
    return [dataclasses.replace(f, num_rows=num_rows, value_type=value_type) for f in sharing], vocabulary


def encode(feature: LookupFeature, column: pa.Array, vocabulary: pa.Table | None) -> pa.Array:
    """[N] int32 rows, lists of them for a `multi_id`."""
    if not isinstance(feature, MultiIdFeature):
        return pa.array(_rows(feature, _single_values(feature, column), vocabulary), pa.int32())
    values, parents = pieces(feature, column)
    rows = _rows(feature, values, vocabulary)
    return bags(rows, parents, num_bags=len(column), at_most=feature.max_length)


def _single_values(feature: LookupFeature, column: pa.Array) -> pa.Array:
    """The values of an `id`: int64 or string; a prefix makes strings; null and the empty string are null."""
    return _shortened(feature, whole_or_text(column))


def pieces(feature: MultiIdFeature, column: pa.Array) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The values of a `multi_id`, end to end, and the position in the column that each comes from.

    A string is cut at the delimiter, pieces are stripped of blanks, empty ones and nulls fall away.
    """
    column = one_chunk(column)
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        column = pc.split_pattern(column.cast(pa.string()), feature.delimiter)
    values = whole_or_text(pc.list_flatten(column))
    if pa.types.is_string(values.type):
        values = pc.utf8_trim(values, characters=BLANKS)
    values = _shortened(feature, values)
    there = values.is_valid()
    return values.filter(there), parents_of(column)[there.to_numpy(zero_copy_only=False)]


def _shortened(feature: LookupFeature, values: pa.Array) -> pa.Array:
    """The prefix of each value, null where nothing is left."""
    if feature.prefix:
        values = pc.utf8_slice_codeunits(values.cast(pa.string()), 0, feature.prefix)
    if not pa.types.is_string(values.type):
        return values
    return pc.if_else(pc.equal(pc.binary_length(values), 0), pa.scalar(None, pa.string()), values)


def _rows(feature: LookupFeature, values: pa.Array, vocabulary: pa.Table | None) -> npt.NDArray[np.int32]:
    if feature.is_hashed:
        return hash_rows(values, feature.num_buckets)
    assert vocabulary is not None, feature.name
    known = vocabulary["value"].combine_chunks()
    if known.type != values.type:
        # Features of integers and of strings share a table, or a value that train does not have changed the
        # type.
        values = _as_integers(values) if pa.types.is_integer(known.type) else values.cast(pa.string())
    rows = pc.add(pc.index_in(values, value_set=known), 1).fill_null(OUT_OF_VOCABULARY)
    return rows.to_numpy(zero_copy_only=False).astype(np.int32)  # type: ignore[no-any-return]


def _as_integers(values: pa.Array) -> pa.Array:
    text = pc.replace_substring_regex(values.cast(pa.string()), r"\.0+$", "")
    fits = pc.match_substring_regex(text, "^-?[0-9]{1,18}$").fill_null(False)
    return pc.if_else(fits, text, pa.scalar(None, pa.string())).cast(pa.int64())


def _occurrences(feature: LookupFeature, counted: ValueCounts) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    if not isinstance(feature, MultiIdFeature):
        return _single_values(feature, counted.values), counted.counts
    values, parents = pieces(feature, counted.values)
    return values, counted.counts[parents]


def _vocabulary(
    values: pa.ChunkedArray, counts: npt.NDArray[np.int64], *, min_count: int, known: pa.ChunkedArray | None
) -> pa.Table:
    """The values of `known` in their order, then those that are frequent enough."""
    pairs = pa.table({"value": values, "count": pa.array(counts, pa.int64())})
    sums = pairs.filter(values.is_valid()).group_by("value").aggregate([("count", "sum")])
    sums = sums.rename_columns(["value", "count"])
    kept = sums.filter(pc.greater_equal(sums["count"], max(1, min_count)))
    ordered = kept.sort_by([("count", "descending"), ("value", "ascending")])
    if known is not None:
        places = pc.index_in(known, value_set=sums["value"].combine_chunks())
        again = pa.table({"value": known, "count": pc.fill_null(sums["count"].take(places), 0)})
        is_new = pc.invert(pc.is_in(ordered["value"], value_set=known.combine_chunks()))
        ordered = pa.concat_tables([again, ordered.filter(is_new)])
    rows = pa.array(np.arange(1, ordered.num_rows + 1), pa.int32())
    return pa.table({"row": rows, "value": ordered["value"], "count": ordered["count"]})
