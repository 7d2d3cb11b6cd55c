"""RowFilter, easy and nowhere in the list: the misses from which there is most to learn.

Legend: Q queries, K ranks, M missed pairs of query and item, I catalogue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Queries
from recsys.evaluation.recommendations import Lists
from recsys.evaluation.slices import HEAD, item_classes
from recsys.schema import tables
from recsys.schema.feature_kinds import IdFeature, MultiIdFeature

# Of a shorter history nothing is a favourite.
_SHORTEST_HISTORY = 5
# Missed pairs looked at for favourites: enough to find a few, few enough for a large test split.
_MOST_PAIRS = 2000

Rows = npt.NDArray[np.int64]


class Miss(NamedTuple):
    """A query, and why what was wanted should have been in its list."""

    query: int
    reason: str


class Pairs(NamedTuple):
    """[M] queries, and the wanted item of each that is known and not in the list."""

    queries: Rows
    items: Rows

    def take(self, positions: Rows) -> Pairs:
        """Some of them, in this order."""
        return Pairs(self.queries[positions], self.items[positions])


def missed_pairs(queries: Queries, lists: Lists) -> Pairs:
    """Every wanted item of the catalogue that its list does not hold."""
    items = queries.relevant.values.numpy()
    owners = np.repeat(np.arange(len(queries)), queries.relevant.lengths.numpy())
    is_found = np.zeros(len(items), dtype=np.bool_)
    for rank in range(lists.item_rows.shape[1]):
        is_found |= lists.item_rows[owners, rank] == items
    kept = ~is_found & (items > 0)
    return Pairs(owners[kept], items[kept].astype(np.int64))


def head_misses(dataset: PreparedDataset, queries: Queries, pairs: Pairs, *, num_misses: int) -> list[Miss]:
    """Misses of the most popular items; every user and every item once.

    Args:
        dataset: holds the items' train positives.
        queries: of the test split.
        pairs: from `missed_pairs`.
        num_misses: at most so many.
    """
    counts_I = dataset.item_counts.numpy()
    is_head = item_classes(counts_I)[pairs.items] == HEAD
    missed = pairs.take(np.flatnonzero(is_head))
    missed = missed.take(np.argsort(-counts_I[missed.items], kind="stable"))
    titles = dataset.item_titles

    def reason(item: int) -> str:
        more = int((counts_I[1:] > counts_I[item]).sum())
        place = f"place {more + 1} of {len(counts_I) - 1:,}"
        return f"{titles[item]} had {counts_I[item]:,} positives in train, {place}"

    chosen = _one_of_each(missed, queries, num_misses=num_misses)
    return [Miss(query, reason(item)) for query, item in chosen]


def favourite_misses(
    dataset: PreparedDataset, queries: Queries, pairs: Pairs, *, num_misses: int, seed: int
) -> list[Miss]:
    """Misses of items of the kind (genre, category) that the user's history is mostly of.

    Args:
        dataset: whose first multi-valued, else first single-valued, id feature of items says of what
            kind they are.
        queries: of the test split.
        pairs: from `missed_pairs`; of very many, some are drawn.
        num_misses: at most so many, those with the most one-sided histories; every user and every item once.
        seed: of what is drawn.

    Returns:
        Nothing where items have no such feature.
    """
    kinds_of = _kinds(dataset)
    if kinds_of is None or not num_misses:
        return []
    is_long = queries.histories.lengths.numpy()[pairs.queries] >= _SHORTEST_HISTORY
    long = pairs.take(np.flatnonzero(is_long))
    drawn = long.take(np.sort(np.random.default_rng(seed).permutation(len(long.items))[:_MOST_PAIRS]))
    histories = queries.histories.select(torch.from_numpy(drawn.queries))
    rows, places = np.unique(np.concatenate([histories.values.numpy(), drawn.items]), return_inverse=True)
    kinds = kinds_of(rows)
    offsets = histories.offsets.numpy()
    shares, reasons = [], {}
    titles = dataset.item_titles
    for number, (query, item) in enumerate(zip(*drawn, strict=True)):
        before = places[offsets[number] : offsets[number + 1]]
        counted = Counter(kind for place in before for kind in kinds[place])
        favourite, times = counted.most_common(1)[0] if counted else ("", 0)
        is_favourite = favourite in kinds[places[offsets[-1] + number]]
        shares.append(times / len(before) if is_favourite else 0.0)
        reasons[query, item] = (
            f"{times} of the {len(before)} liked before are {favourite}, and so is {titles[item]}"
        )
    order = np.argsort(-np.array(shares), kind="stable")[: np.count_nonzero(shares)]
    chosen = _one_of_each(drawn.take(order), queries, num_misses=num_misses)
    return [Miss(query, reasons[query, item]) for query, item in chosen]


def _kinds(dataset: PreparedDataset) -> Callable[[Rows], list[Sequence[str]]] | None:
    """Returns the kinds of the items of some catalogue rows."""
    table = dataset.raw_items
    held = [
        feature
        for kind in (MultiIdFeature, IdFeature)
        for feature in dataset.schema.features
        if feature.role == "item" and isinstance(feature, kind)
        if feature.column not in (tables.ITEM_ID, dataset.manifest.get("title_column"))
        if tables.RAW_PREFIX + feature.column in table.column_names
    ]
    if not held:
        return None
    feature = held[0]

    def split(value: object) -> Sequence[str]:
        if value is None:
            return ()
        if isinstance(value, list):
            return [str(part) for part in value]
        return str(value).split(feature.delimiter) if isinstance(feature, MultiIdFeature) else [str(value)]

    column = table[tables.RAW_PREFIX + feature.column]
    return lambda rows: [split(value) for value in column.take(rows).to_pylist()]


def _one_of_each(pairs: Pairs, queries: Queries, *, num_misses: int) -> Iterator[tuple[int, int]]:
    """The first pairs, no user and no item twice, without what no list may hold."""
    owners = queries.events.history_rows.numpy()
    users: set[int] = set()
    items: set[int] = set()
    for query, item in zip(pairs.queries.tolist(), pairs.items.tolist(), strict=True):
        if len(users) == num_misses:
            return
        if owners[query] in users or item in items:
            continue
        if item in queries.excluded(queries.histories.select(torch.tensor([query]))).values.tolist():
            continue
        users.add(int(owners[query]))
        items.add(item)
        yield query, item
