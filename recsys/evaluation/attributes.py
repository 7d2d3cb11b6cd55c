"""Reads attributes of users and items, the values that slices and diversity are made of.

As columns for readers, as attributes of few values for slices, and as the content of items for diversity and
calibration.

Legend: N queries or rows, I catalogue, G values of all content features together, V values of a jagged field.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import sparse

from recsys.data.dataset import PreparedDataset
from recsys.data.events import bags
from recsys.metrics.beyond_accuracy import unit_rows
from recsys.schema import tables
from recsys.schema.feature_kinds import Feature, LookupFeature, MultiIdFeature, NumberFeature
from recsys.schema.jagged import JaggedColumn

UNKNOWN = "unknown"

# Up to so many values of content a matrix with its zeros is quicker than one without.
_DENSE_VALUES = 128


@dataclasses.dataclass(frozen=True)
class Attribute:
    """A feature of users or of items with few values.

    Args:
        name: of the feature.
        role: whose it is.
        values: what to call each value; the first is the unknown one.
        places: numbers in `values` of each user or item, by row: any number of them.
        is_ordered: its values are steps of a number.
    """

    name: str
    role: Literal["user", "item"]
    values: tuple[str, ...]
    places: JaggedColumn
    is_ordered: bool

    def having(self, value: int) -> npt.NDArray[np.bool_]:
        """Which users or items have a value; the unknown one is that of those without any other."""
        owner_V = np.repeat(np.arange(len(self.places)), self.places.lengths.numpy())
        with_it = np.zeros(len(self.places), dtype=np.bool_)
        if value == 0:
            with_it[owner_V[self.places.values.numpy() > 0]] = True
            return ~with_it
        with_it[owner_V[self.places.values.numpy() == value]] = True
        return with_it


@dataclasses.dataclass(frozen=True)
class Content:
    """Holds the content of the catalogue: the values of the items' id and multi-valued features.

    Args:
        features: their names.
        shares_IG: [I, G] dense where G is small, else sparse: how an item's weight is spread over its
            values, each feature alike; rows of sum 1, or 0 without any.
        vectors_IG: [I, G] likewise: of unit length, from the unit vectors of each feature.
    """

    features: tuple[str, ...]
    shares_IG: Any
    vectors_IG: Any


def attributes(dataset: PreparedDataset, *, at_most: int) -> Iterator[Attribute]:
    """Profile and item features of at most so many known values: ids, lists of ids, numbers in buckets."""
    for feature in dataset.schema.features:
        named = feature.name not in (tables.USER_ID, tables.ITEM_ID)
        if feature.role not in ("user", "item") or not named or feature.num_rows - 1 > at_most:
            continue
        is_bucketed = isinstance(feature, NumberFeature) and bool(feature.boundaries)
        if feature.has_vocabulary or is_bucketed:
            names = _bucket_names(feature) if is_bucketed else _vocabulary(dataset, feature)
            yield Attribute(
                name=feature.name,
                role=feature.role,
                values=(UNKNOWN, *names),
                places=_encoded(dataset, feature),
                is_ordered=is_bucketed,
            )


def columns_of(
    dataset: PreparedDataset,
    *,
    user_rows: npt.NDArray[np.int64],
    item_rows: npt.NDArray[np.int64] | None,
) -> dict[str, pa.ChunkedArray]:
    """Raw columns of the users' table as they are called there, of the items' table with `item.` before.

    Args:
        dataset: holds both tables.
        user_rows: [N] whose.
        item_rows: [N]; None where a query is not about one item.
    """
    columns = _raw(dataset, dataset.raw_users, rows_N=user_rows, prefix="")
    if item_rows is not None:
        columns |= _raw(dataset, dataset.raw_items, rows_N=item_rows, prefix="item.")
    return columns


def content_of(dataset: PreparedDataset) -> Content | None:
    """Content of the catalogue; None where no feature has values that several items share."""
    names, shares, units = [], [], []
    for feature in dataset.schema.features:
        if feature.role != "item" or not isinstance(feature, LookupFeature) or feature.name == tables.ITEM_ID:
            continue
        places = _encoded(dataset, feature)
        entries = (np.ones(len(places.values)), places.values.numpy(), places.offsets.numpy())
        of_feature = sparse.csr_matrix(entries, shape=(len(places), feature.num_rows))[:, 1:]
        items_of_value = np.diff(of_feature.tocsc().indptr)
        # The number of a film in some other register tells nothing of what it is like.
        if items_of_value.sum() >= 2 * max((items_of_value > 0).sum(), 1):
            names.append(feature.name)
            shares.append(_unit_sums(of_feature))
            units.append(unit_rows(of_feature))
    if not names:
        return None
    shares_IG = _unit_sums(sparse.hstack(shares, format="csr")).astype(np.float32)
    vectors_IG = unit_rows(sparse.hstack(units, format="csr"))
    if vectors_IG.shape[1] <= _DENSE_VALUES:
        shares_IG, vectors_IG = shares_IG.toarray(), vectors_IG.toarray()
    return Content(features=tuple(names), shares_IG=shares_IG, vectors_IG=vectors_IG)


def _encoded(dataset: PreparedDataset, feature: Feature) -> JaggedColumn:
    table = dataset.raw_users if feature.role == "user" else dataset.raw_items
    return bags(table[tables.encoded_column(feature.name)])


def _vocabulary(dataset: PreparedDataset, feature: Feature) -> list[str]:
    table = pq.read_table(dataset.path / "vocabularies" / f"{feature.table}.parquet")
    return [str(value) for value in table["value"].to_pylist()]


def _bucket_names(feature: Feature) -> list[str]:
    assert isinstance(feature, NumberFeature), feature
    edges = [f"{edge:g}" for edge in feature.boundaries]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(edges)]
    return [f"below {edges[0]}", *between, f"from {edges[-1]}"]


def _raw(
    dataset: PreparedDataset, table: pa.Table, *, rows_N: npt.NDArray[np.int64], prefix: str
) -> dict[str, pa.ChunkedArray]:
    delimiters = {f.column: f.delimiter for f in dataset.schema.features if isinstance(f, MultiIdFeature)}
    columns = {}
    for name in table.column_names:
        if not name.startswith(tables.RAW_PREFIX):
            continue
        column, bare = table[name], name.removeprefix(tables.RAW_PREFIX)
        if bare in delimiters and (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            column = pc.split_pattern(column, delimiters[bare])
        columns[prefix + bare] = column.take(pa.array(rows_N))
    return columns


def _unit_sums(matrix_IG: Any) -> Any:
    """The rows divided by their sums; row 0, the unknown item, gets zeros."""
    sums_I = np.asarray(matrix_IG.sum(axis=1), dtype=np.float64).ravel()
    sums_I[0] = 0
    scale_I = np.divide(1, sums_I, out=np.zeros(len(sums_I)), where=sums_I > 0)
    return (sparse.diags(scale_I) @ matrix_IG).tocsr()
