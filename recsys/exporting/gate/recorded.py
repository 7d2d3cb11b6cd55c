"""Recorded rows: test rows as raw requests and, beside them, as the batches that the trained model takes.

Every row is asked in several ways: by ids alone, with all raw values given, with an unknown user or item of
which raw values are given, with nothing known at all, without a history, and without a context.

Legend: B rows, V values of a jagged field.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torchrec import KeyedJaggedTensor

from recsys.data.collate import Collator
from recsys.data.dataset import PreparedDataset, Split
from recsys.data.events import Events
from recsys.data.histories import Histories
from recsys.data.queries import Queries
from recsys.exporting.fields import PER_SECOND
from recsys.exporting.records import raw_values
from recsys.exporting.stage import Stage
from recsys.models.protocols import events_read
from recsys.schema import tables
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Role, StatisticFeature
from recsys.schema.features import EVENT_ROLES, HISTORY, ITEM_ID, QUERY_ROLES, USER_ID
from recsys.schema.jagged import JaggedColumn

Record = dict[str, Any]
# A method of a program and its arguments.
Call = tuple[str, Record]

_HELD_OUT: tuple[Split, ...] = ("test", "validation")


@dataclasses.dataclass
class RecordedRequests:
    """B requests asked in one way.

    Args:
        name: of the way, for messages.
        users, contexts, items: [B] raw fields.
        histories: [B] raw item ids, oldest first.
        batch: the same as the trained model takes it.
        times: [B] raw timestamps of the histories' items, for models that read them one by one.
        liked: [B] whether each item of the histories was liked, for models that read others too.
    """

    name: str
    users: list[Record]
    contexts: list[Record]
    items: list[Record]
    histories: list[list[Any]]
    batch: Batch
    times: list[list[Any]] | None = None
    liked: list[list[bool]] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def arguments(self, rows: slice = slice(None)) -> list[Any]:
        """Users, histories, contexts, times and whether items were liked, of some of the requests."""
        parts = (self.users, self.histories, self.contexts, self.times, self.liked)
        return [None if part is None else part[rows] for part in parts]

    def queries(self) -> list[Record]:
        """Each request as the arguments of a query, for messages and recordings."""
        parts = zip(self.users, self.histories, self.contexts, strict=True)
        queries = [{"user": user, "history": history, "context": context} for user, history, context in parts]
        for name, values in (("history_times", self.times), ("history_liked", self.liked)):
            if values is not None:
                queries = [{**query, name: value} for query, value in zip(queries, values, strict=True)]
        return queries

    def rows(self) -> list[Record]:
        """Each request as one flat row."""
        parts = zip(self.users, self.items, self.contexts, self.histories, strict=True)
        return [
            {**user, **item, **context, HISTORY: history or None} for user, item, context, history in parts
        ]


@dataclasses.dataclass
class Recorder:
    """Takes recorded rows out of the dataset of a trained model.

    Args:
        stage: the model and its dataset.
        file: name of the file that is checked.
        flat: whether requests are rows of all tables; as the model's own file takes them when None.
    """

    stage: Stage
    file: str
    flat: bool | None = None

    def __post_init__(self) -> None:
        self.dataset = self.stage.dataset
        self.fields = self.stage.fields(flat=self.flat)
        self.unknown = {
            USER_ID: unknown_id(self.dataset.user_ids),
            ITEM_ID: unknown_id(self.dataset.item_ids),
        }
        self.events_read = events_read(self.stage.model)
        self.sequences: Histories | None = None

    def ask(self, num_rows: int) -> list[RecordedRequests]:
        """The test rows (at most `num_rows`, evenly spaced) in every way."""
        table = self._rows_of(self.split)
        positions = np.linspace(0, table.num_rows - 1, min(num_rows, table.num_rows)).astype(np.int64)
        return self.ask_rows(self.split, table.take(pa.array(positions)))

    def ask_rows(self, split: Split, table: pa.Table) -> list[RecordedRequests]:
        """Rows of a split in every way."""
        events = Events.from_arrow(table, self.dataset.schema)
        history = self.dataset.histories(split).before(events)
        if self.events_read in ("positives", "all"):
            self.sequences = self.dataset.histories(split, events=self.events_read, with_timestamps=True)
        nothing = JaggedColumn.of_lists([[]] * len(events))
        row_0 = torch.zeros_like(events.user_rows)
        unknown = events.replace(user_rows=row_0, item_rows=row_0)
        known = self._known(table)
        values = {
            USER_ID: self._values("user", self.dataset.raw_users, self.dataset.users, events.user_rows),
            ITEM_ID: self.values_of_items(events.item_rows),
        }
        given = {
            name: [{**others, **its_id} for others, its_id in zip(values[name], known[name], strict=True)]
            for name in known
        }
        strangers = {name: [{**r, name: self.unknown[name]} for r in given[name]] for name in given}
        nobody: dict[str, list[Record]] = {name: [{} for _ in range(len(events))] for name in known}
        # A statistic that a request leaves out is computed.
        missing = {self.fields.of(feature)[0]: None for feature in self._statistics()}
        empty: list[Record] = [dict(missing) for _ in range(len(events))]
        contexts = self._contexts(table)
        bare = events.without_context()
        return [
            self._asked("ids alone", events, history, contexts, known),
            self._asked("raw values given", events, history, contexts, given),
            self._asked("unknown ids, raw values given", events, history, contexts, strangers, forget=True),
            self._asked("nothing known", unknown, nothing, contexts, nobody, without_history=True),
            self._asked("no history", events, nothing, contexts, known, without_history=True),
            self._asked("no context", bare, history, empty, known),
        ]

    def ask_queries(
        self, queries: Queries, positions: torch.Tensor, split: Split = "test"
    ) -> RecordedRequests:
        """Queries of a split, as evaluation asks them: of users and items the ids alone.

        Args:
            queries: of `PreparedDataset.queries`.
            positions: [B] which of them.
            split: that they are of.
        """
        table = self.dataset.split_table(split)
        table = table.filter(table[tables.POSITIVE])
        if queries.mode == "user":
            # What a query knows of its context is that of the user's first event.
            events = {user_id: row for row, user_id in reversed([*enumerate(table[USER_ID].to_pylist())])}
            rows = [events[user_id] for user_id in queries.user_ids[positions.numpy()].tolist()]
        else:
            rows = positions.tolist()
        table = table.take(pa.array(rows))
        asked = RecordedRequests(
            name="as evaluation asks",
            users=self._known(table)[USER_ID],
            contexts=self._contexts(table),
            items=[{} for _ in rows],
            histories=self._raw_histories(queries.past(positions)),
            batch=queries.batch(positions),
        )
        if queries.sequences is not None and queries.read is not None:
            asked.times, asked.liked = self._events_of(queries.sequences, queries.read.at(positions))
        return asked

    @functools.cached_property
    def split(self) -> Split:
        """The split that requests are taken from: test, or validation where there are no rows in test.

        Raises:
            InputError: there are none in validation either.
        """
        for split in _HELD_OUT:
            if self._rows_of(split).num_rows:
                return split
        raise InputError(
            f"the prepared dataset `{self.dataset.path}` must have rows in test or validation to check the "
            "export on, found none; prepare it with a split that has (`data.split`, `data.split_fractions`)"
        )

    def _rows_of(self, split: Split) -> pa.Table:
        """The examples of a split."""
        table = self.dataset.split_table(split)
        are_rows = self.stage.reads.examples == "rows"
        return table if are_rows else table.filter(table[tables.POSITIVE])

    def _asked(
        self,
        name: str,
        events: Events,
        history: JaggedColumn,
        contexts: list[Record],
        records: Mapping[str, list[Record]],
        *,
        forget: bool = False,
        without_history: bool = False,
    ) -> RecordedRequests:
        collator: Collator = self.dataset.collator(self.stage.history_length, self.events_read)
        times = liked = None
        if self.sequences is not None:
            history = self.sequences.before(events)
            history = history.latest(0) if without_history else history
        batch = self.stage.reads.collate(collator, events, history)
        if self.sequences is not None:
            batch = collator.with_sequences(batch, self.sequences, history, events.timestamps)
            assert batch.sequences is not None
            batch.sequences.times_known &= torch.tensor([tables.TIMESTAMP in record for record in contexts])
            times, liked = self._events_of(self.sequences, history)
        return RecordedRequests(
            name=name,
            users=records[USER_ID],
            contexts=contexts,
            items=records[ITEM_ID],
            histories=self._raw_histories(history),
            batch=with_unknown_ids(batch) if forget else batch,
            times=times,
            liked=liked,
        )

    def _events_of(
        self, sequences: Histories, read: JaggedColumn
    ) -> tuple[list[list[Any]] | None, list[list[Any]] | None]:
        """Times of the events read, where there are any, and whether each was liked, where not all were."""
        times = self._raw_times(read.of(sequences.timestamps)) if sequences.has_times else None
        return times, read.of(sequences.positives).lists() if self.events_read == "all" else None

    def _raw_times(self, instants: JaggedColumn) -> list[list[Any]]:
        """Instants as timestamps of the raw table, in whole seconds."""
        instants = instants.compact()
        raw = raw_times(self.dataset, instants.values.numpy())
        return [raw[begin:end] for begin, end in itertools.pairwise(instants.offsets.tolist())]

    def values_of_items(self, item_rows: torch.Tensor) -> list[Record]:
        """Raw values of items, as requests would give them, by catalogue row; none of row 0."""
        return self._values("item", self.dataset.raw_items, self.dataset.items, item_rows)

    def _values(self, role: Role, table: pa.Table, store: Batch, rows: torch.Tensor) -> list[Record]:
        columns: dict[str, list[Any]] = {
            field: raw_values(table[tables.RAW_PREFIX + column].take(pa.array(rows.numpy())))
            for column, field in self.fields.columns[role].items()
            if tables.RAW_PREFIX + column in table.column_names
        }
        vectors = store.vectors.columns if store.vectors is not None else {}
        for feature in self.dataset.schema.vectors([role]):
            columns[self.fields.of(feature)[0]] = vectors[feature.name][rows].tolist()
        return [
            {field: values[at] for field, values in columns.items()} if row else {}
            for at, row in enumerate(rows.tolist())
        ]

    def _known(self, table: pa.Table) -> dict[str, list[Record]]:
        return {name: [{name: value} for value in raw_values(table[name])] for name in (USER_ID, ITEM_ID)}

    def _contexts(self, table: pa.Table) -> list[Record]:
        columns = {}
        if tables.RAW_PREFIX + tables.TIMESTAMP in table.column_names:
            columns[tables.TIMESTAMP] = raw_values(table[tables.RAW_PREFIX + tables.TIMESTAMP])
        of_events = {
            **self.fields.columns["context"],
            **{feature.name: self.fields.of(feature)[0] for feature in self._statistics()},
        }
        for column, field in of_events.items():
            if tables.RAW_PREFIX + column in table.column_names and field not in self.fields.timestamp:
                columns[field] = raw_values(table[tables.RAW_PREFIX + column])
        return [{name: values[row] for name, values in columns.items()} for row in range(table.num_rows)]

    def _statistics(self) -> list[StatisticFeature]:
        """Those that requests may give."""
        roles = QUERY_ROLES if self.stage.reads.asks_queries else EVENT_ROLES
        return [f for f in self.dataset.schema.statistics if f.role in roles]

    def _raw_histories(self, history: JaggedColumn) -> list[list[Any]]:
        ids, unknown = self.dataset.item_ids, self.unknown[ITEM_ID]
        return [[unknown if row == 0 else ids[row] for row in rows] for rows in history.lists()]


def raw_times(dataset: PreparedDataset, instants: npt.NDArray[np.int64]) -> list[Any]:
    """Instants (microseconds) as timestamps of the raw table, in whole seconds."""
    seconds = instants // 1_000_000
    unit = dataset.manifest["timestamp"]["unit"]
    raw: list[Any] = (
        np.datetime_as_string(seconds.astype("datetime64[s]"), timezone="UTC").tolist()
        if unit is None
        else (seconds * PER_SECOND[unit]).tolist()
    )
    return raw


def unknown_id(ids: Iterable[Any]) -> Any:
    """An id that is not among `ids`, of their type."""
    known = {known_id for known_id in ids if known_id is not None}
    if known and all(isinstance(known_id, int) for known_id in known):
        return -1 if -1 not in known else min(known) - 1
    candidate = "unknown"
    while candidate in known:
        candidate += "?"
    return candidate


def with_unknown_ids(batch: Batch, unknown: Sequence[str] = (USER_ID, ITEM_ID)) -> Batch:
    """The batch as of users and items whose ids are unknown but whose other features are not."""
    columns = batch.ids.to_dict()
    names = list(columns)
    values = [
        torch.zeros_like(columns[name].values()) if name in unknown else columns[name].values()
        for name in names
    ]
    lengths = torch.cat([columns[name].lengths() for name in names])
    return dataclasses.replace(
        batch, ids=KeyedJaggedTensor(keys=names, values=torch.cat(values), lengths=lengths)
    )
