"""Slices: which queries or rows, and which of their items, a figure is about.

Legend: I catalogue, N queries or rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.evaluation.attributes import UNKNOWN, Attribute
from recsys.evaluation.expressions import Mask, select

# [I] which items -> [N] which queries have a relevant one of them, or which rows are about one.
Holding = Callable[[Mask], Mask]

_MICROSECONDS_A_DAY = 86_400_000_000
_HISTORY_BINS = (0, 1, 5, 10, 20, 50, 100, 200)
_NUM_TIME_BINS = 8

NEW, TAIL, MIDDLE, HEAD = 0, 1, 2, 3
ITEM_CLASSES = ("new", "tail", "middle", "head")
_ITEM_DESCRIPTIONS = (
    "items without a positive in train",
    "the least popular items, with the last third of train's positives",
    "items between head and tail, with a third of train's positives",
    "the most popular items, with the first third of train's positives",
)


# By group: how it is called above its rows, and along the axis of a chart where its slices are steps.
_HEADINGS = {
    "user": ("Users, by the positives they had before", ""),
    "item": ("Items, by their popularity in train", "popularity in train"),
    "answer": ("Answers that train knew or did not", ""),
    "history_length": ("Length of the history", "positives before the query"),
    "days_since_train": ("Time since the end of train", "days since the end of train"),
    "custom": ("Slices of the configuration", ""),
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Queries (or rows) that have something in common.

    Args:
        group: what the slices are cut by.
        name: which slice of the group.
        description: for readers.
        mask: [N] bool, who is in it.
        items: [I] bool; when given, only relevant items among these count, and queries that have one.
        heading: of the group, where it is one of an attribute.
        axis: likewise.
    """

    group: str
    name: str
    description: str
    mask: Mask
    items: Mask | None = None
    heading: str = ""
    axis: str = ""


def item_classes(train_positives_I: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Class of each catalogue row: new, tail, middle or head; items outside the catalogue (row 0) are new.

    Items are sorted by their train positives; head, middle and tail each hold a third of all positives.
    Items with equally many are of the same class, the more popular one.
    """
    counts_I = train_positives_I.copy()
    counts_I[0] = 0
    levels, level_I, items_a_level = np.unique(counts_I, return_inverse=True, return_counts=True)
    held = levels * items_a_level
    share_above = (held[::-1].cumsum()[::-1] - held) / max(held.sum(), 1)
    class_of_level = np.select(
        [levels == 0, share_above < 1 / 3, share_above < 2 / 3], [NEW, HEAD, MIDDLE], TAIL
    )
    return np.asarray(class_of_level[level_I], dtype=np.int64)


def user_slices(history_lengths_N: npt.NDArray[np.int64], *, hot_history: int) -> Iterator[Slice]:
    """Cold, warm and hot users, by the positives they had before the query."""
    lengths_N = history_lengths_N
    yield Slice("user", "cold", "no positives before", lengths_N == 0)
    yield Slice(
        "user",
        "warm",
        f"1 to {hot_history - 1} positives before",
        (lengths_N > 0) & (lengths_N < hot_history),
    )
    yield Slice("user", "hot", f"at least {hot_history} positives before", lengths_N >= hot_history)


def history_slices(history_lengths_N: npt.NDArray[np.int64]) -> Iterator[Slice]:
    """Finer steps of the history's length."""
    ends = [*_HISTORY_BINS[1:], None]
    for begin, end in zip(_HISTORY_BINS, ends, strict=True):
        mask = history_lengths_N >= begin
        if end is not None:
            mask &= history_lengths_N < end
        last = end - 1 if end is not None else None
        name = f"{begin}+" if last is None else str(begin) if last == begin else f"{begin}-{last}"
        yield Slice("history_length", name, f"{name} positives before", mask)


def time_slices(timestamps_us_N: npt.NDArray[np.int64], *, train_end_us: int) -> Iterator[Slice]:
    """Equal steps of the time since the train split ended, which show how fast a model ages."""
    days_N = (timestamps_us_N - train_end_us) / _MICROSECONDS_A_DAY
    if not len(days_N) or days_N.max() <= days_N.min():
        return
    edges = np.linspace(days_N.min(), days_N.max(), _NUM_TIME_BINS + 1)
    bins_N = np.clip(np.searchsorted(edges, days_N, side="right") - 1, 0, _NUM_TIME_BINS - 1)
    for index in range(_NUM_TIME_BINS):
        name = f"{edges[index]:.1f}-{edges[index + 1]:.1f}"
        yield Slice("days_since_train", name, f"{name} days after the end of train", bins_N == index)


def item_slices(classes_I: npt.NDArray[np.int64], *, holding: Holding) -> Iterator[Slice]:
    """New, tail, middle and head items.

    Args:
        classes_I: from `item_classes`.
        holding: which queries (rows) some items are among the relevant ones of.
    """
    for item_class, name in enumerate(ITEM_CLASSES):
        items = classes_I == item_class
        yield Slice("item", name, _ITEM_DESCRIPTIONS[item_class], holding(items), items)


def answer_slices(train_positives_I: npt.NDArray[np.int64], *, holding: Holding) -> Iterator[Slice]:
    """Queries (rows) whose answer train knew, and those whose answer it did not; none where all are alike.

    Args:
        train_positives_I: [I] of each item; items outside the catalogue (row 0) are new.
        holding: as in `item_slices`.
    """
    is_known_I = train_positives_I > 0
    is_known_I[0] = False
    pieces = [
        Slice("answer", name, f"{name} items alone: {said}", holding(items), items)
        for name, items, said in (
            ("known", is_known_I, "those with a positive in train"),
            ("new", ~is_known_I, "those without a positive in train, outside the catalogue too"),
        )
    ]
    if all(piece.mask.any() for piece in pieces):
        yield from pieces


def attribute_slices(
    attribute: Attribute, *, user_rows_N: npt.NDArray[np.int64], holding: Holding
) -> Iterator[Slice]:
    """A slice for each value of an attribute, the unknown one last; items with several are in several.

    Args:
        attribute: of the users, or of the items.
        user_rows_N: [N] whose queries or rows.
        holding: as in `item_slices`.
    """
    of_user = attribute.role == "user"
    group = f"{'profile' if of_user else 'attribute'}.{attribute.name}"
    shown = attribute.name.replace("_", " ")
    heading = f"Users, by {shown}" if of_user else f"Items, by {shown}"
    for value in [*range(1, len(attribute.values)), 0]:
        having, name = attribute.having(value), attribute.values[value]
        said = f"{'users' if of_user else 'items'} with {shown} {name}"
        if name == UNKNOWN:
            said += " (none, or none that train knows)"
        mask, items = (having[user_rows_N], None) if of_user else (holding(having), having)
        yield Slice(group, name, said, mask, items, heading, shown if attribute.is_ordered else "")


def custom_slices(expressions: Mapping[str, str], table: pa.Table) -> Iterator[Slice]:
    """Makes the slices of `evaluation.slices`.

    Args:
        expressions: by the name of the slice; see `recsys.evaluation.expressions`.
        table: N rows, with the columns that an expression may name.

    Raises:
        ValueError: an expression cannot be evaluated on the table.
    """
    for name, text in expressions.items():
        yield Slice("custom", name, text, select(text, table, key=f"evaluation.slices.{name}"))


def slice_groups(slices: Sequence[Slice]) -> list[dict[str, Any]]:
    """`{group, heading, axis}` of each group, in order; `axis` is empty where its slices have no order."""
    groups = {}
    for piece in slices:
        heading, axis = _HEADINGS.get(piece.group, (piece.heading, piece.axis))
        groups[piece.group] = {"group": piece.group, "heading": heading, "axis": axis}
    return list(groups.values())
