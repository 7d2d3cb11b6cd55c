"""Recorded rows: test rows as raw requests and, beside them, as the batches that the trained model takes.

Every row is asked in several ways: by ids alone, with all raw values given, with an unknown user or item of
which raw values are given, with nothing known at all, without a history, and without a context.

Legend: B rows, V values of a jagged field.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
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
from recsys.exporting.fields import PER_SECOND, Fields
from recsys.schema import tables
from recsys.schema.batch import Batch, HistoryEvents
from recsys.schema.errors import InputError
from recsys.schema.feature_kinds import Role, StatisticFeature
from recsys.schema.features import EVENT_ROLES, HISTORY, ITEM_ID, QUERY_ROLES, USER_ID
from recsys.schema.jagged import JaggedColumn

Record = dict[str, Any]


@dataclasses.dataclass
class RecordedRequests:
    """B requests asked in one way.

    Args:
        name: of the way, for messages.
        users, contexts, items: [B] raw fields.
        histories: [B] raw item ids, oldest first.
        events: whose these requests are, as the model is to see them.
        is_stranger: whether the ids of users and items are unknown, and their features are not.
        batch: the same as the trained model takes it.
        seen: catalogue rows of the histories.
        times: [B] raw timestamps of the histories' items, for models that read them one by one.
        liked: [B] whether each item of the histories was liked, for models that read others too.
    """

    name: str
    users: list[Record]
    contexts: list[Record]
    items: list[Record]
    histories: list[list[Any]]
    events: Events
    is_stranger: bool
    batch: Batch
    seen: JaggedColumn
    times: list[list[Any]] | None = None
    liked: list[list[bool]] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def queries(self) -> list[Record]:
        """Each request as the arguments of a query, for messages and recordings."""
        parts = zip(self.users, self.histories, self.contexts, strict=True)
        found = [{"user": user, "history": history, "context": context} for user, history, context in parts]
        for name, values in (("history_times", self.times), ("history_liked", self.liked)):
            if values is not None:
                found = [{**query, name: value} for query, value in zip(found, values, strict=True)]
        return found

    def rows(self) -> list[Record]:
        """Each request as one flat row."""
        parts = zip(self.users, self.items, self.contexts, self.histories, strict=True)
        return [
            {**user, **item, **context, HISTORY: history or None} for user, item, context, history in parts
        ]


@dataclasses.dataclass
class Recorder:
    """Takes recorded rows out of a prepared dataset.

    Args:
        dataset: where they are.
        file: name of the file that is checked.
        fields: how requests call things.
        history_length: latest items of a history that the model sees.
        is_ranking: whether batches hold items too.
        events_read: which events the model reads, see `recsys.models.protocols.events_read`.
    """

    dataset: PreparedDataset
    file: str
    fields: Fields
    history_length: int
    is_ranking: bool
    events_read: HistoryEvents | None = None

    def __post_init__(self) -> None:
        self.users = RawRecords(self.dataset.raw_users(), self.fields.columns["user"], self._vectors("user"))
        self.items = RawRecords(self.dataset.raw_items(), self.fields.columns["item"], self._vectors("item"))
        self.unknown = {
            USER_ID: unknown_id(self.dataset.user_ids),
            ITEM_ID: unknown_id(self.dataset.item_ids),
        }

        self.sequences: Histories | None = None

    def ask(self, num_rows: int) -> list[RecordedRequests]:
        """The test rows (at most `num_rows`, evenly spaced) in every way."""
        return self.ask_rows(*self._table(num_rows))

    def ask_rows(self, split: Split, table: pa.Table) -> list[RecordedRequests]:
        """Rows of a split in every way."""
        events = Events.from_arrow(table, self.dataset.schema)
        history = self.dataset.histories(split).before(events)
        if self.events_read in ("positives", "all"):
            self.sequences = self.dataset.histories(split, events=self.events_read, with_timestamps=True)
        nothing = JaggedColumn.of_lists([[]] * len(events))
        row_0 = torch.zeros_like(events.user_rows)
        unknown = events.replace(user_rows=row_0, item_rows=row_0)
        known, given = self._known(table), self._given(table, events)
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

    def ask_queries(self, queries: Queries, positions: torch.Tensor) -> RecordedRequests:
        """Queries of the test split, as evaluation asks them: of users and items the ids alone.

        Args:
            queries: of `PreparedDataset.queries`.
            positions: [B] which of them.
        """
        table = self.dataset.split_table("test")
        table = table.filter(table[tables.POSITIVE])
        if queries.mode == "user":
            # What a query knows of its context is that of the user's first event.
            events = {user_id: row for row, user_id in reversed([*enumerate(table[USER_ID].to_pylist())])}
            rows = [events[user_id] for user_id in queries.user_ids[positions.numpy()].tolist()]
        else:
            rows = positions.tolist()
        table = table.take(pa.array(rows))
        past = queries.past(positions)
        asked = RecordedRequests(
            name="as evaluation asks",
            users=self._known(table)[USER_ID],
            contexts=self._contexts(table),
            items=[{} for _ in rows],
            histories=self._raw_histories(past),
            events=queries.events.select(positions),
            is_stranger=False,
            batch=queries.batch(positions),
            seen=past,
        )
        if queries.sequences is not None and queries.read is not None:
            asked.times, asked.liked = self._events_of(queries.sequences, queries.read.at(positions))
        return asked

    def _table(self, num_rows: int) -> tuple[Split, pa.Table]:
        """Rows of the test split, or of the validation split when it is empty; positives for retrieval."""
        splits: tuple[Split, ...] = ("test", "validation")
        for split in splits:
            table = self.dataset.split_table(split)
            if not self.is_ranking:
                table = table.filter(table[tables.POSITIVE])
            if table.num_rows:
                positions = np.linspace(0, table.num_rows - 1, min(num_rows, table.num_rows)).astype(np.int64)
                return split, table.take(pa.array(positions))
        raise InputError(
            f"the prepared dataset `{self.dataset.path}` must have rows in test or validation to check the "
            "export on, found none; prepare it with a split that has (`data.split`, `data.split_fractions`)"
        )

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
        collator: Collator = self.dataset.collator(self.history_length, self.events_read)
        times = liked = None
        if self.sequences is not None:
            history = self.sequences.before(events)
            history = history.latest(0) if without_history else history
        batch = (collator.rows if self.is_ranking else collator.queries)(events, history)
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
            events=events,
            is_stranger=forget,
            batch=with_unknown_ids(batch) if forget else batch,
            seen=history.compact().long(),
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

    def _vectors(self, role: Role) -> dict[str, torch.Tensor]:
        """By field, the vectors of all users or items."""
        store = self.dataset.users if role == "user" else self.dataset.items
        features = self.dataset.schema.vectors([role])
        held = store.vectors.columns if store.vectors is not None else {}
        return {self.fields.of(feature)[0]: held[feature.name] for feature in features}

    def _known(self, table: pa.Table) -> dict[str, list[Record]]:
        return {name: [{name: value} for value in raw_values(table[name])] for name in (USER_ID, ITEM_ID)}

    def _given(self, table: pa.Table, events: Events) -> dict[str, list[Record]]:
        known = self._known(table)
        users = self.users.of(events.user_rows.tolist())
        items = self.items.of(events.item_rows.tolist())
        return {
            USER_ID: [{**values, **record} for values, record in zip(users, known[USER_ID], strict=True)],
            ITEM_ID: [{**values, **record} for values, record in zip(items, known[ITEM_ID], strict=True)],
        }

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
        roles = EVENT_ROLES if self.is_ranking else QUERY_ROLES
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


class RawRecords:
    """Raw columns of the users or the items, as requests would give them.

    Args:
        table: with `raw.*` columns.
        fields: the field of each raw column that is read.
        vectors: by field, what is held of vectors beside the table.
    """

    def __init__(
        self, table: pa.Table, fields: Mapping[str, str], vectors: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        self.table = table
        self.vectors = vectors or {}
        self.fields = {
            tables.RAW_PREFIX + column: field
            for column, field in fields.items()
            if tables.RAW_PREFIX + column in table.column_names
        }

    def of(self, rows: Sequence[int]) -> list[Record]:
        """The records of these rows; one without fields for row 0, of which no values are known."""
        chosen = self.table.select(list(self.fields)).take(pa.array(rows, pa.int64()))
        columns = {field: raw_values(chosen[column]) for column, field in self.fields.items()}
        columns |= {field: held[torch.tensor(rows)].tolist() for field, held in self.vectors.items()}
        return [
            {field: values[at] for field, values in columns.items()} if row else {}
            for at, row in enumerate(rows)
        ]


def raw_values(column: pa.ChunkedArray) -> list[Any]:
    """A raw column as plain Python; instants and decimals as text, no value as None."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if any(is_other(column.type) for is_other in _AS_TEXT):
        column = column.cast(pa.string())
    return [_plain(value) for value in column.to_pylist()]


_AS_TEXT = (pa.types.is_temporal, pa.types.is_decimal, pa.types.is_uint64, pa.types.is_binary)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        # NOTE: torch can't pass an empty list inside a dictionary to TorchScript; None means the same.
        return [_plain(part) for part in value if part is not None] or None
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
