"""Statistics: what has been observed of every key, for requests, and how an event changes it.

Of a key, a tally keeps how its sums stood after each of its latest events, from the last that has left every
window on:

first 5    times      t5  t6  t7  t7      a request at t7 sees what stood after t6; one later, the last entry;
           positives  3   4   4   5       `2 events` is the difference to the entry two before

Legend: B rows, S statistics.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)
# mypy: allow-untyped-calls, no-warn-return-any

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from recsys.exporting.program.inputs import Inputs
from recsys.exporting.program.instants import as_microseconds
from recsys.exporting.program.interfaces import KeyTally
from recsys.exporting.program.known import first_of
from recsys.exporting.program.types import Record, Records, Rows
from recsys.exporting.program.values import as_digits_or_text, as_number, stripped
from recsys.schema.feature_kinds import StatisticFeature

# Before every instant, and far enough from the ends of 64 bits to take a window from it.
EARLIEST = -(2**62)


class Tally(nn.Module):
    """Events by key, for one window.

    Args:
        window: microseconds; 0 for events of any age.
        window_events: the latest so many; 0 for all.
        slots: where each key stands in the lists.
        first: by slot, how many events are no more than a part of the first entry.
        times, positives, labels: by slot, see the picture above.
    """

    slots: Dict[int, int]
    first: List[int]
    times: List[List[int]]
    positives: List[List[float]]
    labels: List[List[float]]
    earliest: int

    def __init__(
        self,
        *,
        window: int,
        window_events: int,
        slots: Dict[int, int],
        first: List[int],
        times: List[List[int]],
        positives: List[List[float]],
        labels: List[List[float]],
    ) -> None:
        super().__init__()
        self.window = window
        self.window_events = window_events
        self.slots = slots
        self.first = first
        self.times = times
        self.positives = positives
        self.labels = labels
        self.earliest = EARLIEST

    @torch.jit.export
    def add(self, key: int, time: int, positive: float, label: float) -> None:
        """Counts an event; one earlier than the key's latest counts as of that instant."""
        if key not in self.slots:
            self.slots[key] = len(self.times)
            self.first.append(0)
            self.times.append([self.earliest])
            self.positives.append([0.0])
            self.labels.append([0.0])
        slot = self.slots[key]
        times = self.times[slot]
        times.append(max(time, times[-1]))
        self.positives[slot].append(self.positives[slot][-1] + positive)
        self.labels[slot].append(self.labels[slot][-1] + label)
        self._forget(slot)

    @torch.jit.export
    def at(self, key: int, time: int) -> Tuple[float, float, float, int]:
        """Count, positives, sum of labels and latest instant in the window strictly before `time`."""
        if key not in self.slots:
            return 0.0, 0.0, 0.0, self.earliest
        slot = self.slots[key]
        times, positives, labels = self.times[slot], self.positives[slot], self.labels[slot]
        high = _last_before(times, time)
        if self.window == 0 and self.window_events == 0:
            return float(self.first[slot] + high), positives[high], labels[high], times[high]
        low = (
            _last_before(times, time - self.window) if self.window > 0 else max(0, high - self.window_events)
        )
        if low >= high:
            return 0.0, 0.0, 0.0, self.earliest
        return float(high - low), positives[high] - positives[low], labels[high] - labels[low], times[high]

    def _forget(self, slot: int) -> None:
        """Lets go what no request from the key's latest instant on can see, when that is most of it."""
        times = self.times[slot]
        if self.window > 0:
            base = _last_before(times, times[-1] - self.window)
        else:
            base = _last_before(times, times[-1])
            if self.window_events > 0:
                base = max(0, base - self.window_events)
        if base > 0 and 2 * base >= len(times):
            self.first[slot] += base
            self.times[slot] = times[base:]
            self.positives[slot] = self.positives[slot][base:]
            self.labels[slot] = self.labels[slot][base:]


def _last_before(times: List[int], time: int) -> int:
    """Position of the last of ascending `times` before `time`; 0 where there is none."""
    low = 0
    high = len(times)
    while low < high:
        middle = (low + high) // 2
        if times[middle] < time:
            low = middle + 1
        else:
            high = middle
    return max(low - 1, 0)


class IdNumbers(nn.Module):
    """Numbers for raw ids: the row of a known one, numbers beyond for others that were observed.

    Args:
        num_rows: of the known ones; one that is added later has a row beyond, and stays among the others.
        others: by text.
        is_integer: whether raw ids are whole numbers.
        field: how requests call the id.
    """

    others: Dict[str, int]

    def __init__(self, *, num_rows: int, others: Dict[str, int], is_integer: bool, field: str) -> None:
        super().__init__()
        self.num_rows = num_rows
        self.others = others
        self.is_integer = is_integer
        self.field = field

    def forward(self, rows: List[int], given: List[Any], observed: bool) -> List[List[int]]:
        """The number of each id, nothing where it is missing; a new one gets a number when it is observed."""
        numbers: List[List[int]] = []
        for position, row in enumerate(rows):
            own: List[int] = []
            if row > 0 and row < self.num_rows:
                own.append(row)
            else:
                text = as_digits_or_text(given[position], self.field, self.is_integer)
                if text is not None:
                    key = stripped(text)
                    if observed and key not in self.others:
                        self.others[key] = self.num_rows + len(self.others)
                    if key in self.others:
                        own.append(self.others[key])
                elif observed:
                    raise ValueError(f"`{self.field}` of row {position}: an event that is observed needs one")
            numbers.append(own)
        return numbers


class Statistics(nn.Module):
    """All statistics of a bundle.

    Args:
        features: the statistics.
        fields: the field of each that overrides what is computed.
        tallies: one for each key and window.
        statistics_of: the statistics that each tally answers.
        of: the features that make the key of each tally.
        attributes: bags of those features that are no ids.
        numbers: of users and of items.
        timestamp_fields: where rows hold the instant; none where the data have none.
        per_second: units of a numeric timestamp to the second.
        label_fields: where observed rows hold the label; none where every event is positive.
        positive_at_least: labels from here on are positives.
        latest: instant of the latest event.
    """

    statistics_of: List[List[int]]
    earliest: int
    of: List[List[str]]
    fields: List[str]
    measures: List[str]
    is_pair: List[bool]
    strengths: List[float]
    priors: List[float]
    timestamp_fields: List[str]
    label_fields: List[str]

    def __init__(
        self,
        features: Sequence[StatisticFeature],
        *,
        fields: List[str],
        tallies: Sequence[Tally],
        statistics_of: List[List[int]],
        of: List[List[str]],
        attributes: Inputs,
        numbers: Tuple[IdNumbers, IdNumbers],
        timestamp_fields: List[str],
        per_second: int,
        label_fields: List[str],
        positive_at_least: float,
        latest: int,
    ) -> None:
        super().__init__()
        self.fields = fields
        self.measures = [str(feature.measure) for feature in features]
        self.is_pair = [features[own[0]].role == "pair" for own in statistics_of]
        self.strengths = [feature.strength for feature in features]
        self.priors = [feature.prior for feature in features]
        self.tallies = nn.ModuleList(tallies)
        self.statistics_of = statistics_of
        self.earliest = EARLIEST
        self.of = of
        self.attributes = attributes
        self.user_numbers, self.item_numbers = numbers
        self.timestamp_fields = timestamp_fields
        self.per_second = per_second
        self.label_fields = label_fields
        self.positive_at_least = positive_at_least
        self.latest = latest

    def forward(
        self, records: List[Record], columns: Dict[str, List[List[int]]], times: List[int], is_pair: bool
    ) -> List[Record]:
        """The records with the statistics of pairs, or those of contexts, that they do not hold.

        Args:
            records: of each row; one record stands for all.
            columns: values of every feature that makes keys, by row; one row stands for all.
            times: the instant of each row.
            is_pair: which of the statistics.
        """
        completed = [records[min(row, len(records) - 1)].copy() for row in range(len(times))]
        for number, of in enumerate(self.of):
            if self.is_pair[number] == is_pair:
                tally: KeyTally = self.tallies[number]  # type: ignore[assignment]
                all_keys = _keys_by_row(columns, of, len(times))
                for row, time in enumerate(times):
                    sums = self._sums(tally, all_keys[row], time)
                    record = completed[row]
                    for position in self.statistics_of[number]:
                        if self.fields[position] not in record:
                            record[self.fields[position]] = self._value(position, sums, time)
        return completed

    def _sums(self, tally: KeyTally, keys: List[int], time: int) -> Tuple[float, float, float, int]:
        """Returns the mean of a tally's sums over the keys of a row, with the latest instant of any."""
        if len(keys) == 1:
            return tally.at(keys[0], time)
        count, positives, labels, last = 0.0, 0.0, 0.0, self.earliest
        share = 1.0 / float(max(len(keys), 1))
        for key in keys:
            its_count, its_positives, its_labels, its_last = tally.at(key, time)
            count += its_count * share
            positives += its_positives * share
            labels += its_labels * share
            last = max(last, its_last)
        return count, positives, labels, last

    def _value(self, position: int, sums: Tuple[float, float, float, int], time: int) -> Optional[float]:
        """One statistic of one row."""
        count, positives, labels, last = sums
        measure = self.measures[position]
        if measure == "count":
            return count
        if measure == "recency":
            return float(time - last) / 1e6 if last > self.earliest else None
        prior, strength = self.priors[position], self.strengths[position]
        total = positives if measure == "positive_share" else labels
        return (total + strength * prior) / (count + strength) if count + strength > 0.0 else prior

    @torch.jit.export
    def add(self, columns: Dict[str, List[List[int]]], times: List[int], labels: List[float]) -> None:
        """Counts events, in the order of time."""
        for number, of in enumerate(self.of):
            tally: KeyTally = self.tallies[number]  # type: ignore[assignment]
            all_keys = _keys_by_row(columns, of, len(times))
            for row, time in enumerate(times):
                positive = 1.0 if labels[row] >= self.positive_at_least else 0.0
                for key in all_keys[row]:
                    tally.add(key, time, positive, labels[row])
        for time in times:
            self.latest = max(self.latest, time)

    def columns(
        self,
        records: Records,
        rows: Rows,
        user_ids: List[Any],
        item_ids: List[Any],
        observed: bool,
    ) -> Dict[str, List[List[int]]]:
        """Values of every feature that makes keys, by row; of an attribute those that are known, each once.

        Args:
            records: of the users, contexts and items, by role.
            rows: where users and items stand, by role.
            user_ids: raw.
            item_ids: raw.
            observed: whether these are events; then none may lack an id, and new ids are remembered.
        """
        by_name: Dict[str, List[List[int]]] = {}
        user_rows: List[int] = rows["user"].tolist()
        item_rows: List[int] = rows["item"].tolist()
        by_name["user_id"] = self.user_numbers(user_rows, user_ids, observed)
        by_name["item_id"] = self.item_numbers(item_rows, item_ids, observed)
        bags = self.attributes.bags(records, rows)
        for name in bags.keys():  # noqa: SIM118 (scripted)
            values: List[int] = bags[name][0].tolist()
            lengths: List[int] = bags[name][1].tolist()
            by_name[name] = _distinct_by_row(values, lengths)
        return by_name

    def times(self, records: List[Record], observed: bool) -> List[int]:
        """The instant of each row in microseconds; after all that was observed where it has none.

        Where the data have no timestamps, rows that are observed follow one another.
        """
        instants: List[int] = []
        field = self.timestamp_fields[0] if len(self.timestamp_fields) > 0 else ""
        for position, value in enumerate(first_of(records, self.timestamp_fields)):
            time = as_microseconds(value, self.per_second, field)
            if time is None:
                if observed and len(self.timestamp_fields) > 0:
                    raise ValueError(f"`timestamp` of row {position}: an event that is observed needs one")
                time = self.latest + 1 + (position if observed else 0)
            instants.append(time)
        return instants

    def labels(self, records: List[Record]) -> List[float]:
        """The label of each event; 1 where every event is positive."""
        numbers: List[float] = []
        if len(self.label_fields) == 0:
            return [1.0 for _ in records]
        for position, value in enumerate(first_of(records, self.label_fields)):
            label = as_number(value, self.label_fields[0])
            if label is None:
                raise ValueError(f"`label` of row {position}: an event that is observed needs a number")
            numbers.append(label)
        return numbers


def _keys_by_row(columns: Dict[str, List[List[int]]], of: List[str], size: int) -> List[List[int]]:
    """The keys of each of `size` rows: values of one feature, or pairs of values of two."""
    first = _for_each(columns[of[0]], size)
    if len(of) == 1:
        return first
    second = _for_each(columns[of[1]], size)
    by_row: List[List[int]] = []
    for row in range(size):
        keys: List[int] = []
        for value in first[row]:
            for other in second[row]:
                keys.append(value * 4294967296 + other)  # noqa: PERF401 (scripted)
        by_row.append(keys)
    return by_row


def _for_each(column: List[List[int]], size: int) -> List[List[int]]:
    """A column with a value for each row; one value stands for all."""
    if len(column) == size:
        return column
    return [column[0] for _ in range(size)]


def _distinct_by_row(values: List[int], lengths: List[int]) -> List[List[int]]:
    """The values above 0 of each bag, each once."""
    by_row: List[List[int]] = []
    begin = 0
    for length in lengths:
        own: List[int] = []
        for value in values[begin : begin + length]:
            if value > 0 and value not in own:
                own.append(value)
        by_row.append(own)
        begin += length
    return by_row
