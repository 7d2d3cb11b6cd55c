"""with_neighbours: of every item, those that the same users judged alike, as one more column of the items.

A user's earlier judgements of an item's neighbours say how that user may judge the item: with `neighbours`,
`data.statistics` can count them (`of: [user_id, neighbours]`).

Legend: U users, I catalogue, B items of a block, N train events, K neighbours.
"""

from __future__ import annotations

import dataclasses

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ibis import _
from scipy import sparse

from recsys.data.options import DataOptions
from recsys.data.preparing.catalogue import Entities
from recsys.data.preparing.splits import SPLIT, TRAIN
from recsys.data.reading.engine import Engine
from recsys.data.reading.tables import SEQUENCE
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Feature, MultiIdFeature
from recsys.schema.tables import ITEM_ROW, LABEL, RAW_PREFIX, USER_ROW

NEIGHBOURS = "neighbours"
MOST_ITEMS = 20_000
# Events at the mean that a user's or an item's own mean begins with.
_STRENGTH = 5.0
# Similarities held at a time.
_BLOCK = 2**23

Floats = npt.NDArray[np.float64]


def neighbours_feature(options: DataOptions) -> Feature | None:
    """The feature that `data.neighbours` declares, not fitted."""
    if options.neighbours is None:
        return None
    return MultiIdFeature(NEIGHBOURS, "item", max_length=1 + options.neighbours.number)


def with_neighbours(engine: Engine, events: ibis.Table, items: Entities, options: DataOptions) -> Entities:
    """The items with a column `raw.neighbours`: an item's own id, then those of its neighbours, best first.

    Args:
        engine: runs the expressions.
        events: with their split and the rows of users and items; only train is looked at.
        items: as read.
        options: with `neighbours`.

    Raises:
        ValueError: the catalogue is too large, or has a column of this name.
    """
    assert options.neighbours is not None
    column, num_items = RAW_PREFIX + NEIGHBOURS, items.table.num_rows
    if column in items.table.column_names:
        raise InputError(
            f"`data.neighbours` adds a column `{NEIGHBOURS}` to the items, and they have one; rename it"
        )
    if num_items - 1 > MOST_ITEMS:
        raise InputError(
            f"`data.neighbours` compares all pairs of items, of at most {MOST_ITEMS:,}; the catalogue has "
            f"{num_items - 1:,}; leave it out"
        )
    wanted = events.filter(_[SPLIT] == TRAIN).order_by(SEQUENCE).select(USER_ROW, ITEM_ROW, LABEL)
    train = engine.collect(wanted)
    users_N, items_N = (train[name].to_numpy() for name in (USER_ROW, ITEM_ROW))
    judged_N = None if options.label.column is None else train[LABEL].to_numpy().astype(np.float64)
    owners, neighbours = nearest_items(
        users_N,
        items_N,
        judged_N,
        num_items=num_items,
        number=options.neighbours.number,
        shrinkage=options.neighbours.shrinkage,
    )
    return dataclasses.replace(
        items, table=items.table.append_column(column, _lists(items, owners, neighbours))
    )


def nearest_items(
    users_N: npt.NDArray[np.int32],
    items_N: npt.NDArray[np.int32],
    judged_N: Floats | None,
    *,
    num_items: int,
    number: int,
    shrinkage: float,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs of an item and one of its neighbours, by item, the most similar first.

    Formula: s_ij = n / (n + shrinkage) * sum_u r_ui r_uj / sqrt(sum_u r_ui^2 sum_u r_uj^2) over the n users
    with events of both, r_ui what u's events of i differ on average from the means of i and of u; 1 where
    events have no label. Of each item the `number` highest above 0, ties by the lower row.

    Args:
        users_N: [N] rows of the users.
        items_N: [N] catalogue rows; events of row 0 do not count.
        judged_N: [N] labels; None where there are none.
        num_items: I.
        number: K.
        shrinkage: how many users in common are worth half.

    Reference:
        Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001, equation 3;
        shrinkage as in Bell and Koren, "Scalable collaborative filtering with jointly derived neighborhood
        interpolation weights", ICDM 2007.
    """
    known_N = items_N > 0
    judged_UI, events_UI = _matrices(users_N[known_N], items_N[known_N], judged_N, known_N, num_items)
    squared_UI = judged_UI.multiply(judged_UI).tocsr()
    owners, neighbours = [], []
    size = max(1, _BLOCK // num_items)
    for begin in range(0, num_items, size):
        block = slice(begin, min(begin + size, num_items))
        of_block = [matrix.tocsc()[:, block].T for matrix in (judged_UI, events_UI, squared_UI)]
        products_BI = (of_block[0] @ judged_UI).toarray()
        common_BI = (of_block[1] @ events_UI).toarray()
        lengths_BI = np.sqrt((of_block[2] @ events_UI).toarray() * (of_block[1] @ squared_UI).toarray())
        similar_BI = products_BI / np.maximum(lengths_BI, 1e-12) * common_BI / (common_BI + shrinkage + 1e-12)
        rows_B = np.arange(block.start, block.stop)
        similar_BI[np.arange(len(rows_B)), rows_B] = 0
        best_BK = np.argsort(-similar_BI, axis=1, kind="stable")[:, :number]
        kept_BK = np.take_along_axis(similar_BI, best_BK, axis=1) > 0
        owners.append(np.repeat(rows_B, kept_BK.sum(axis=1)))
        neighbours.append(best_BK[kept_BK])
    return np.concatenate(owners), np.concatenate(neighbours)


def _matrices(
    users_M: npt.NDArray[np.int32],
    items_M: npt.NDArray[np.int32],
    judged_N: Floats | None,
    known_N: npt.NDArray[np.bool_],
    num_items: int,
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """[U, I] what each user's events of each item say, and 1 where there are any."""
    shape = (int(users_M.max(initial=0)) + 1, num_items)

    def summed(values_M: Floats) -> sparse.csr_matrix:
        return sparse.coo_matrix((values_M, (users_M, items_M)), shape=shape).tocsr()

    number_UI = summed(np.ones(len(users_M)))
    there_UI = number_UI.copy()
    there_UI.data[:] = 1
    if judged_N is None:
        return there_UI, there_UI
    differing_M = judged_N[known_N] - judged_N[known_N].mean()
    for keys_M in (items_M, users_M):
        sums, counts = np.bincount(keys_M, weights=differing_M), np.bincount(keys_M)
        differing_M = differing_M - (sums / (counts + _STRENGTH))[keys_M]
    judged_UI = summed(differing_M)
    judged_UI.data /= number_UI.data
    return judged_UI, there_UI


def _lists(items: Entities, owners: npt.NDArray[np.int64], neighbours: npt.NDArray[np.int64]) -> pa.ListArray:
    """Raw ids of every item and its neighbours; null for row 0, the unknown item."""
    num_items = items.table.num_rows
    rows = np.concatenate([np.arange(1, num_items), neighbours[owners > 0]])
    order = np.argsort(np.concatenate([np.arange(1, num_items), owners[owners > 0]]), kind="stable")
    lengths = 1 + np.bincount(owners, minlength=num_items)
    lengths[0] = 0
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = items.table[items.name].combine_chunks().take(pa.array(rows[order]))
    empty = np.arange(num_items) == 0
    return pa.ListArray.from_arrays(pa.array(offsets), ids, mask=pa.array(empty))
