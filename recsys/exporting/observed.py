"""build_statistics: the events of a prepared dataset -> what a bundle knows of every key when it starts.

Legend: N events in the order of time, P pairs of an event and one of its keys.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from recsys.data.dataset import SPLITS, PreparedDataset
from recsys.data.events import bags
from recsys.exporting.fields import Fields
from recsys.exporting.program.inputs import Inputs
from recsys.exporting.program.statistics import EARLIEST, IdNumbers, Statistics, Tally
from recsys.exporting.program.values import stripped
from recsys.schema import tables
from recsys.schema.feature_kinds import Feature, StatisticFeature
from recsys.schema.features import ITEM_ID, USER_ID
from recsys.schema.jagged import JaggedColumn

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Window = tuple[tuple[str, ...], int, int]

_SPLIT = "_split"
_ROWS = {USER_ID: tables.USER_ROW, ITEM_ID: tables.ITEM_ROW}


@dataclasses.dataclass
class Log:
    """All events of a prepared dataset, in the order of time, user id and item id.

    Args:
        dataset: what they are of.
        table: its events: timestamp, label, positive, user_id, item_id, their rows, context features, and the
            number of the split.
    """

    dataset: PreparedDataset
    table: pa.Table

    @staticmethod
    def read(dataset: PreparedDataset) -> Log:
        """The events of all splits."""
        of = {name for feature in dataset.schema.statistics for name in feature.of}
        context = [name for name in sorted(of) if dataset.schema[name].role == "context"]
        chosen = [tables.TIMESTAMP, tables.LABEL, tables.POSITIVE, *_ROWS.values(), *context]
        parts = []
        for number, split in enumerate(SPLITS):
            part = dataset.split_table(split)
            columns = {name: part[name] for name in chosen}
            columns |= {name: _ids(dataset, part, name) for name in _ROWS}
            columns[_SPLIT] = pa.array(np.full(part.num_rows, number), pa.int8())
            parts.append(pa.table(columns))
        order = [(name, "ascending") for name in (tables.TIMESTAMP, USER_ID, ITEM_ID)]
        return Log(dataset, pa.concat_tables(parts).sort_by(order))

    @cached_property
    def times(self) -> Integers:
        """[N] microseconds."""
        return np.asarray(self.table[tables.TIMESTAMP], dtype=np.int64)

    @cached_property
    def positives(self) -> Floats:
        """[N] 1 for a positive, else 0."""
        return np.asarray(self.table[tables.POSITIVE], dtype=np.float64)

    @cached_property
    def labels(self) -> Floats:
        """[N]."""
        return np.asarray(self.table[tables.LABEL], dtype=np.float64)

    def size_before(self, instant: int | None) -> int:
        """Counts the events before an instant; all for None."""
        return len(self.times) if instant is None else int(np.searchsorted(self.times, instant, side="left"))

    def latest_rows(self, num_rows: int) -> tuple[list[int], pa.Table]:
        """Events and rows of the latest so many of the test split, or of validation where it is empty."""
        splits = self.table[_SPLIT].to_numpy()
        number = int(splits.max())
        events = np.flatnonzero(splits == number)[-num_rows:]
        table = self.dataset.split_table(SPLITS[number])  # in the same order
        return events.tolist(), table.slice(table.num_rows - len(events))

    def others(self, name: str, size: int) -> dict[str, int]:
        """Numbers of the users or items among the first `size` events that have no row, by text."""
        rows, ids = (self.table[column].slice(0, size) for column in (_ROWS[name], name))
        unknown = ids.filter(pc.equal(rows, 0)).unique()
        num_rows = self.dataset.num_users if name == USER_ID else self.dataset.num_items
        return {stripped(str(one)): num_rows + at for at, one in enumerate(unknown.to_pylist())}

    def values(self, name: str) -> tuple[Integers, Integers]:
        """Events and values of a feature, a pair for each value that an event has; events ascend."""
        if name in self._values:
            return self._values[name]
        if name in _ROWS:
            numbers = self.table[_ROWS[name]].to_numpy().astype(np.int64)
            others = self.others(name, len(numbers))
            for at in np.flatnonzero(numbers == 0).tolist():
                numbers[at] = others[stripped(str(self.table[name][at].as_py()))]
            pairs = np.arange(len(numbers)), numbers
        else:
            pairs = _distinct(self._bags(self.dataset.schema[name]))
        self._values[name] = pairs
        return pairs

    @cached_property
    def _values(self) -> dict[str, tuple[Integers, Integers]]:
        return {}

    def _bags(self, feature: Feature) -> JaggedColumn:
        if feature.role == "context":
            return bags(self.table[feature.name])
        of_user = feature.role == "user"
        column = (self.dataset.users if of_user else self.dataset.items).ids[feature.name]
        rows = self.table[_ROWS[USER_ID if of_user else ITEM_ID]].to_numpy().astype(np.int64)
        return JaggedColumn.of_lengths(column.values(), column.lengths()).select(torch.from_numpy(rows))

    def keys(self, of: Sequence[str]) -> tuple[Integers, Integers]:
        """Events [P] and keys [P], see `keys_of`."""
        events, keys = self.values(of[0])
        if len(of) == 1:
            return events, keys
        others, second = self.values(of[1])
        begins = np.searchsorted(others, events, side="left")
        counts = np.searchsorted(others, events, side="right") - begins
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        pairs = np.repeat(keys, counts) * 2**32 + second[np.repeat(begins, counts) + within]
        return np.repeat(events, counts), pairs


def _ids(dataset: PreparedDataset, part: pa.Table, name: str) -> pa.ChunkedArray:
    """Raw ids; the rows of train hold none, but know all."""
    if name in part.column_names:
        return part[name]
    known = dataset.raw_users if name == USER_ID else dataset.raw_items
    return known[name].take(part[_ROWS[name]])


def _distinct(column: JaggedColumn) -> tuple[Integers, Integers]:
    values = column.values.numpy().astype(np.int64)
    events = np.repeat(np.arange(len(column)), column.lengths.numpy())
    found = np.unique(np.stack([events, values])[:, values > 0], axis=1)
    return found[0], found[1]


def build_statistics(
    log: Log | None,
    dataset: PreparedDataset,
    *,
    fields: Fields,
    attributes: Inputs,
    per_second: int,
    until: int | None = None,
) -> Statistics:
    """The statistics that requests are answered with.

    Args:
        log: the events; not needed where there are no statistics.
        dataset: what they are of.
        fields: how requests call things.
        attributes: bags of the features that make keys and are no ids.
        per_second: units of a numeric timestamp to the second.
        until: only events before this instant have been observed; all for None.
    """
    features = dataset.schema.statistics
    windows = list(dict.fromkeys(map(_window, features)))
    size = log.size_before(until) if log else 0
    numbers = {}
    for name, num_rows in ((USER_ID, dataset.num_users), (ITEM_ID, dataset.num_items)):
        numbers[name] = IdNumbers(
            num_rows=num_rows,
            others=log.others(name, size) if log else {},
            is_integer=dataset.manifest["id_types"][name] == "integer",
            field=name,
        )
    threshold = dataset.manifest["label"]["positive_at_least"]
    return Statistics(
        features,
        fields=[fields.of(feature)[0] for feature in features],
        tallies=[_tally(log, window, size) for window in windows if log],
        statistics_of=[
            [at for at, feature in enumerate(features) if _window(feature) == window] for window in windows
        ],
        of=[list(of) for of, _, _ in windows],
        attributes=attributes,
        numbers=(numbers[USER_ID], numbers[ITEM_ID]),
        timestamp_fields=fields.timestamp if dataset.has_timestamps else [],
        per_second=per_second,
        label_fields=_label_fields(dataset, fields),
        positive_at_least=float("-inf") if threshold is None else float(threshold),
        latest=int(log.times[size - 1]) if log and size else 0,
    )


def _window(feature: StatisticFeature) -> Window:
    return feature.of, feature.window_microseconds, feature.window_events


def _label_fields(dataset: PreparedDataset, fields: Fields) -> list[str]:
    column = dataset.manifest["label"]["column"]
    if column is None:
        return []
    taken = {field for columns in fields.columns.values() for field in columns.values()}
    return list(dict.fromkeys([tables.LABEL, *([] if column in taken else [column])]))


def _tally(log: Log, window: Window, size: int) -> Tally:
    """The tally of the first `size` events."""
    of, microseconds, num_events = window
    events, keys = log.keys(of)
    events, keys = events[events < size], keys[events < size]
    order = np.argsort(keys, kind="stable")  # within a key events stay in order
    events, keys = events[order], keys[order]
    begins = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    ends = np.append(begins[1:], len(keys))
    times = log.times[events]
    # As in `Tally.forget`: what lies before the window of the key's latest instant is one entry.
    latest = np.repeat(times[ends - 1], ends - begins) if len(keys) else times
    earlier = times < latest - microseconds
    dropped = np.add.reduceat(earlier, begins, dtype=np.int64) if len(keys) else begins
    dropped = np.maximum(dropped - num_events, 0)
    sums = [_sums_by_key(of_event[events], begins, ends) for of_event in (log.positives, log.labels)]
    lists: Mapping[str, list[Any]] = {"times": [], "positives": [], "labels": []}
    for begin, end, base in zip(begins.tolist(), ends.tolist(), dropped.tolist(), strict=True):
        kept = begin + base
        lists["times"].append([int(times[kept - 1]) if base else EARLIEST, *times[kept:end].tolist()])
        for name, values in zip(("positives", "labels"), sums, strict=True):
            lists[name].append([float(values[kept - 1]) if base else 0.0, *values[kept:end].tolist()])
    return Tally(
        window=microseconds,
        window_events=num_events,
        slots={key: slot for slot, key in enumerate(keys[begins].tolist())},
        first=dropped.tolist(),
        **lists,
    )


def _sums_by_key(values: Floats, begins: Integers, ends: Integers) -> Floats:
    """[P] sums of the values of a key up to and with each."""
    if not len(values):
        return values
    summed = np.cumsum(values)
    before = summed[begins] - values[begins]
    return summed - np.repeat(before, ends - begins)
