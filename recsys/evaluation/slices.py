"""Slices: which queries or rows, and which of their items, a figure is about.

Legend: I catalogue, N queries or rows.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.data.dataset import PreparedDataset
from recsys.data.events import Events
from recsys.evaluation.attributes import UNKNOWN, Attribute, attributes, columns_of
from recsys.evaluation.expressions import Mask, select
from recsys.evaluation.options import EvaluationOptions

logger = logging.getLogger(__name__)

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


def described_questions(
    dataset: PreparedDataset,
    events: Events,
    *,
    history_lengths_N: npt.NDArray[np.int64],
    about_items: bool,
) -> pa.Table:
    """Returns the columns that a slice of the configuration may name, a row per query or row.

    Args:
        dataset: holds users and items.
        events: N queries or rows.
        history_lengths_N: [N] positives before each.
        about_items: each is about one item, whose columns are added with `item.` before their names.

    Returns:
        N rows: the columns of the users' table, of the items' table, `history_length`, and where train ends
        at one instant for everybody `days_since_train`.
    """
    columns = columns_of(
        dataset,
        user_rows=events.user_rows.numpy(),
        item_rows=events.item_rows.numpy() if about_items else None,
    )
    columns |= {"history_length": pa.array(history_lengths_N)}
    train_end = _train_end_us(dataset)
    if train_end is not None:
        days_N = (events.timestamps.numpy() - train_end) / _MICROSECONDS_A_DAY
        columns |= {"days_since_train": pa.array(days_N)}
    return pa.table(columns)


def slices_of(
    dataset: PreparedDataset,
    events: Events,
    options: EvaluationOptions,
    *,
    described: pa.Table,
    holding: Holding,
) -> list[Slice]:
    """The slices that hold anything.

    Args:
        dataset: holds users and items.
        events: N queries or rows.
        options: where users are hot, how many values an attribute may have, and slices of one's own.
        described: N rows, see `described_questions`.
        holding: as in `item_slices`.

    Raises:
        ValueError: an expression of `evaluation.slices` cannot be evaluated on `described`.
    """
    lengths_N = described["history_length"].to_numpy()
    every = [
        *user_slices(lengths_N, hot_history=options.hot_history),
        *item_slices(item_classes(dataset.item_counts.numpy()), holding=holding),
        *answer_slices(dataset.item_counts.numpy(), holding=holding),
        *history_slices(lengths_N),
    ]
    train_end = _train_end_us(dataset)
    if train_end is not None:  # one instant ends the train split for everybody
        every += time_slices(events.timestamps.numpy(), train_end_us=train_end)
    for attribute in attributes(dataset, at_most=options.max_slices_per_attribute):
        pieces = _attribute_slices(attribute, user_rows_N=events.user_rows.numpy(), holding=holding)
        held = [piece for piece in pieces if piece.mask.any()]
        every += held if len(held) > 1 else []
    for name, text in options.slices.items():
        mask_N = select(text, described, key=f"evaluation.slices.{name}")
        if not mask_N.any():
            message = "`evaluation.slices.%s` is true for no query or row and left out: `%s`"
            logger.warning(message, name, text)
        every.append(Slice("custom", name, text, mask_N))
    return [piece for piece in every if piece.mask.any()]


def _train_end_us(dataset: PreparedDataset) -> int | None:
    boundaries = dataset.manifest["split"]["boundaries"]
    if not boundaries or not dataset.has_timestamps:
        return None
    return round(datetime.fromisoformat(boundaries[0]["iso"]).timestamp() * 1_000_000)


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


def _attribute_slices(
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


def slice_groups(slices: Sequence[Slice]) -> list[dict[str, Any]]:
    """`{group, heading, axis}` of each group, in order; `axis` is empty where its slices have no order."""
    groups = {}
    for piece in slices:
        heading, axis = _HEADINGS.get(piece.group, (piece.heading, piece.axis))
        groups[piece.group] = {"group": piece.group, "heading": heading, "axis": axis}
    return list(groups.values())
