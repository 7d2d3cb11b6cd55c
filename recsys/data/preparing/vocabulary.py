"""fit: vocabularies and statistics of features, from values and how often each occurs in train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.preparing.values import numbers, pieces, single_values
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import (
    Feature,
    HistoryFeature,
    IdFeature,
    LookupFeature,
    MultiIdFeature,
    NumberFeature,
    StatisticFeature,
    TextFeature,
    TimeFeature,
    VectorFeature,
)
from recsys.schema.features import ITEM_ID, USER_ID

# Rows of the hour and of the weekday, row 0 included.
_TIME_ROWS = {"hour": 25, "weekday": 8}


@dataclasses.dataclass(frozen=True)
class ValueCounts:
    """Raw values of a column and the train interactions that each occurs in; values may repeat."""

    values: pa.Array
    counts: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Features with their rows and statistics, and the vocabulary of each embedding table that has one.

    A vocabulary is a table of row (from 1), value and count in train, the most frequent value first, equals
    in order of value; where an earlier one was extended, its values come first, in their order.
    """

    features: tuple[Feature, ...]
    vocabularies: dict[str, pa.Table]

    @property
    def statistics(self) -> list[StatisticFeature]:
        """Features that are computed from events, in order."""
        return [feature for feature in self.features if isinstance(feature, StatisticFeature)]

    def and_more(self, features: Sequence[Feature]) -> Fitted:
        """With further features, which have no vocabulary."""
        return dataclasses.replace(self, features=(*self.features, *features))


def fit(
    features: Sequence[Feature], counted: Mapping[str, ValueCounts], earlier: Fitted | None = None
) -> Fitted:
    """Fits features on train.

    Args:
        features: as declared. Those that name one table share its vocabulary, fitted on the values of all.
        counted: by feature name; not needed for `time`, `sequence` and `vector`.
        earlier: the same features, fitted before: what is in its vocabularies keeps its row, and its
            statistics stay.

    Raises:
        ValueError: features of one table are encoded differently.
    """
    tables: dict[str, list[Feature]] = {}
    for feature in features:
        if feature.is_sparse and not isinstance(feature, HistoryFeature):
            tables.setdefault(feature.table, []).append(feature)
    fitted: dict[str, Feature] = {}
    vocabularies: dict[str, pa.Table] = {}
    for table, sharing in tables.items():
        _check_alike(table, sharing)
        found, vocabulary = _fit_table(sharing, counted, earlier)
        fitted.update({feature.name: feature for feature in found})
        if vocabulary is not None:
            vocabularies[table] = vocabulary
    for feature in features:
        if isinstance(feature, HistoryFeature):
            shared = fitted[ITEM_ID]
            assert isinstance(shared, IdFeature), shared
            fitted[feature.name] = dataclasses.replace(
                feature, table=shared.table, num_rows=shared.num_rows, value_type=shared.value_type
            )
        elif isinstance(feature, NumberFeature) and not feature.is_sparse:
            fitted[feature.name] = _fit_dense(feature, counted[feature.name])
        elif isinstance(feature, VectorFeature):
            # Its differences stand in the rows of the id.
            of = fitted[USER_ID if feature.role == "user" else ITEM_ID]
            num_rows = of.num_rows if feature.difference > 0 else 0
            fitted[feature.name] = dataclasses.replace(feature, num_rows=num_rows)
    if earlier is not None:
        again = (old for old in earlier.features if old.name in fitted)
        fitted |= {old.name: _as_before(fitted[old.name], old) for old in again}
    return Fitted(tuple(fitted[feature.name] for feature in features), vocabularies)


def _as_before(feature: Feature, earlier: Feature) -> Feature:
    """The feature with the mean, deviation and buckets that it had."""
    if not isinstance(feature, NumberFeature) or not isinstance(earlier, NumberFeature):
        return feature
    return dataclasses.replace(
        feature,
        num_rows=earlier.num_rows,
        mean=earlier.mean,
        std=earlier.std,
        boundaries=earlier.boundaries,
    )


def _check_alike(table: str, sharing: Sequence[Feature]) -> None:
    for field in ("kind", "encoder", "num_buckets", "min_count"):
        found = {feature.name: getattr(feature, field, None) for feature in sharing}
        if field == "kind" and set(found.values()) <= {"id", "multi_id"}:
            continue
        if len(set(found.values())) > 1:
            shown = ", ".join(f"`{name}` has {value}" for name, value in found.items())
            raise InputError(f"features sharing table `{table}` must agree on `{field}`, found: {shown}")


def _fit_table(
    sharing: Sequence[Feature], counted: Mapping[str, ValueCounts], earlier: Fitted | None
) -> tuple[list[Feature], pa.Table | None]:
    looked_up = [feature for feature in sharing if isinstance(feature, LookupFeature)]
    if not looked_up:
        return [_fit_alone(feature, counted) for feature in sharing], None
    first = looked_up[0]
    occurrences = [_occurrences(f, counted[f.name]) for f in looked_up]
    before = earlier.vocabularies.get(first.table) if earlier else None
    were_integers = before is None or pa.types.is_integer(before["value"].type)
    all_integers = were_integers and all(pa.types.is_integer(values.type) for values, _ in occurrences)
    value_type: Literal["integer", "string"] = "integer" if all_integers else "string"
    if first.is_hashed:
        return [
            dataclasses.replace(f, num_rows=f.num_buckets + 1, value_type=value_type) for f in looked_up
        ], None
    kind = pa.int64() if all_integers else pa.string()
    values = pa.chunked_array([values.cast(kind) for values, _ in occurrences])
    counts = np.concatenate([counts for _, counts in occurrences])
    known = before["value"].cast(kind) if before else None
    vocabulary = _vocabulary(values, counts, min_count=first.min_count, known=known)
    num_rows = vocabulary.num_rows + 1
    return [dataclasses.replace(f, num_rows=num_rows, value_type=value_type) for f in looked_up], vocabulary


def _fit_alone(feature: Feature, counted: Mapping[str, ValueCounts]) -> Feature:
    """A sparse feature whose rows no vocabulary gives."""
    match feature:
        case TimeFeature():
            return dataclasses.replace(feature, num_rows=_TIME_ROWS[feature.part])
        case TextFeature():
            return dataclasses.replace(feature, num_rows=feature.num_buckets + 1)
        case NumberFeature():
            return _fit_buckets(feature, counted[feature.name])
    raise AssertionError(feature.kind)


def _occurrences(feature: LookupFeature, counted: ValueCounts) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    if not isinstance(feature, MultiIdFeature):
        return single_values(feature, counted.values), counted.counts
    values, parents = pieces(feature, counted.values)
    return values, counted.counts[parents]


def _vocabulary(
    values: pa.ChunkedArray, counts: npt.NDArray[np.int64], *, min_count: int, known: pa.ChunkedArray | None
) -> pa.Table:
    """The values of `known` in their order, then those that are frequent enough."""
    pairs = pa.table({"value": values, "count": pa.array(counts, pa.int64())})
    found = pairs.filter(values.is_valid()).group_by("value").aggregate([("count", "sum")])
    found = found.rename_columns(["value", "count"])
    kept = found.filter(pc.greater_equal(found["count"], max(1, min_count)))
    ordered = kept.sort_by([("count", "descending"), ("value", "ascending")])
    if known is not None:
        places = pc.index_in(known, value_set=found["value"].combine_chunks())
        again = pa.table({"value": known, "count": pc.fill_null(found["count"].take(places), 0)})
        ordered = pa.concat_tables([again, ordered.filter(pc.invert(_is_in(ordered["value"], known)))])
    rows = pa.array(np.arange(1, ordered.num_rows + 1), pa.int32())
    return pa.table({"row": rows, "value": ordered["value"], "count": ordered["count"]})


def _is_in(values: pa.ChunkedArray, known: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.is_in(values, value_set=known.combine_chunks())


def transformed(feature: NumberFeature, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Returns the values that are standardised: the numbers themselves, or log(1 + max(x, 0))."""
    wide = values.astype(np.float64)
    return np.log1p(np.maximum(wide, 0.0)) if feature.transform == "log" else wide


def _known_numbers(counted: ValueCounts) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Ascending values, so that sums do not depend on the order of rows, and their counts in train."""
    values = numbers(counted.values)
    kept = np.isfinite(values) & (counted.counts > 0)
    order = np.argsort(values[kept], kind="stable")
    return values[kept][order], counted.counts[kept][order]


def _fit_dense(feature: NumberFeature, counted: ValueCounts) -> NumberFeature:
    values, counts = _known_numbers(counted)
    if not len(values):
        return dataclasses.replace(feature, mean=0.0, std=1.0)
    mean = float(np.average(transformed(feature, values), weights=counts))
    variance = float(np.average((transformed(feature, values) - mean) ** 2, weights=counts))
    # All values alike: nothing to divide by.
    return dataclasses.replace(feature, mean=mean, std=variance**0.5 if variance > 0 else 1.0)


def _fit_buckets(feature: NumberFeature, counted: ValueCounts) -> NumberFeature:
    """Inner edges at the quantiles i / num_buckets; each is a value that occurs, equal edges become one."""
    values, counts = _known_numbers(counted)
    edges: list[float] = []
    if len(values):
        num_buckets = feature.num_buckets or DEFAULT_BUCKETS
        before = np.cumsum(counts)
        wanted = before[-1] * np.arange(1, num_buckets) / num_buckets
        # The first value with more than that many before or at it, so that a bucket is never empty below its
        # edge.
        chosen = values[np.searchsorted(before, wanted, side="right")]
        edges = [float(edge) for edge in np.unique(chosen) if edge > values[0]]
    return dataclasses.replace(feature, boundaries=tuple(edges), num_rows=len(edges) + 2)


DEFAULT_BUCKETS = 20
