"""Collator: events of a split -> Batch.

User and item features are looked up in the feature stores held by the dataset; events bring rows only.

Legend: B examples, V values of bags, F features.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torchrec import KeyedJaggedTensor

from recsys.data.events import Events
from recsys.data.histories import Histories
from recsys.schema.batch import Batch, HistoryItems, Sequences, VectorColumns
from recsys.schema.feature_kinds import Role
from recsys.schema.features import EVENT_ROLES, HISTORY, ITEM_ID, QUERY_ROLES, FeatureSchema
from recsys.schema.jagged import JaggedColumn


@dataclasses.dataclass
class StateQueries:
    """Q states of sequences that are queries: of which sequence, after how many events, and when."""

    sequences: torch.Tensor
    states: torch.Tensor
    instants: torch.Tensor


@dataclasses.dataclass
class Collator:
    """Builds batches out of events.

    Args:
        schema: the features.
        users: features of all users, by user row.
        items: features of the whole catalogue, by item row.
        history_length: latest positives that a model sees; 0 shows it none.
        with_content: whether batches bring the features of the items of the histories (`Batch.history`).
    """

    schema: FeatureSchema
    users: Batch
    items: Batch
    history_length: int
    with_content: bool = False

    def __post_init__(self) -> None:
        # Catalogue row -> row of the item table: the history reads the same table as the item itself.
        self._item_id_rows = self.items.ids[ITEM_ID].values()
        self._query_runs = self._runs(QUERY_ROLES)
        self._row_runs = self._runs(EVENT_ROLES)
        self._num_dense_of_query = len(self.schema.dense(["context"]))
        self._ones = torch.ones(0, dtype=torch.int32)

    @property
    def needs_history(self) -> bool:
        """Whether anything of a history comes into the batches."""
        return HISTORY in self.schema and self.history_length > 0

    def queries(self, events: Events, history: JaggedColumn | None) -> Batch:
        """User and context features of the events, and the latest `history_length` items of each history.

        A `history` of None is empty for every event.
        """
        parts = [self._of_events(events, run) for run in self._query_runs]
        # Those of a pair of user and candidate stand last.
        batch = self._batch(events, history, parts, [events.dense[:, : self._num_dense_of_query]])
        if self.with_content:
            batch.history = self._history_items(history, len(events))
        return batch

    def sequences(
        self,
        users: torch.Tensor,
        histories: Histories,
        read: JaggedColumn,
        *,
        ends: torch.Tensor,
        queries: StateQueries,
    ) -> Batch:
        """Features of users, and parts of their histories event by event.

        Args:
            users: [B] rows of the users.
            histories: of the split.
            read: the items of each part, of `histories`.
            ends: [B] microseconds, when what follows each part happened.
            queries: which states are queries.
        """
        return Batch(
            ids=self._jagged([_looked_up(self.users, users)], len(users)),
            dense=self.users.dense[users],
            vectors=_vectors([self.users], [users]),
            sequences=self._sequences(histories, read, ends=ends, queries=queries),
        )

    def with_sequences(
        self, batch: Batch, histories: Histories, read: JaggedColumn, instants: torch.Tensor
    ) -> Batch:
        """The queries with their latest `history_length` events one by one, after which they are asked."""
        latest = read.latest(self.history_length)
        queries = StateQueries(torch.arange(len(latest)), latest.lengths, instants)
        sequences = self._sequences(histories, latest, ends=instants, queries=queries)
        return dataclasses.replace(batch, sequences=sequences)

    def _sequences(
        self, histories: Histories, read: JaggedColumn, *, ends: torch.Tensor, queries: StateQueries
    ) -> Sequences:
        events = read.positions
        rows, positions = torch.unique(read.values[events].long(), return_inverse=True)
        if not len(rows):
            rows = torch.zeros(1, dtype=torch.int64)  # tables want an example
        return Sequences(
            items=self.items.select(rows),
            positions=positions,
            lengths=read.lengths,
            positives=histories.positives[events],
            timestamps=histories.timestamps[events],
            ends=ends,
            times_known=torch.full((len(read),), histories.has_times),
            query_sequences=queries.sequences,
            query_states=queries.states,
            query_instants=queries.instants,
        )

    def rows(self, events: Events, history: JaggedColumn | None) -> Batch:
        """User, context, pair and item features of the events, for a ranking task."""
        item_rows = events.item_rows
        parts = [self._of_events(events, run) for run in self._row_runs]
        parts.append(_looked_up(self.items, item_rows))
        batch = self._batch(events, history, parts, [events.dense, self.items.dense[item_rows]])
        vectors = _vectors([self.users, self.items], [events.user_rows, item_rows])
        return dataclasses.replace(batch, vectors=vectors)

    def _runs(self, roles: Sequence[Role]) -> list[list[str]]:
        """Features of events of these roles, neighbours together that are all single- or all multi-valued."""
        names = [f.name for f in self.schema.sparse(role for role in EVENT_ROLES if role in roles)]
        many = {f.name for f in self.schema.features if f.is_multivalued}
        return [list(run) for _, run in itertools.groupby(names, key=many.__contains__)]

    def _batch(
        self, events: Events, history: JaggedColumn | None, parts: list[_Bags], dense: list[torch.Tensor]
    ) -> Batch:
        """The users' features and history, followed by `parts` and `dense`."""
        user_rows = events.user_rows
        of_users = [_looked_up(self.users, user_rows)]
        if HISTORY in self.schema:
            of_users.append(self._history(history, len(events)))
        return Batch(
            ids=self._jagged([*of_users, *parts], len(events)),
            dense=_side_by_side([self.users.dense[user_rows], *dense]),
            vectors=_vectors([self.users], [user_rows]),
            labels=events.positives.float(),
            weights=events.weights,
            auxiliary_labels=events.labels if events.labels.shape[1] else None,
            item_rows=events.item_rows,
            user_keys=events.history_rows,
        )

    def _history(self, history: JaggedColumn | None, size: int) -> _Bags:
        if history is None:
            nothing = torch.zeros(0, dtype=torch.int64)
            return _Bags([HISTORY], values=nothing, lengths=torch.zeros(size, dtype=torch.int32))
        visible = history.latest(self.history_length).compact()
        values = self._item_id_rows.index_select(0, visible.values)
        return _Bags([HISTORY], values=values, lengths=visible.lengths.int())

    def _history_items(self, history: JaggedColumn | None, size: int) -> HistoryItems:
        if history is None:
            history = JaggedColumn.of_lengths(torch.zeros(0, dtype=torch.int64), torch.zeros(size).long())
        visible = history.latest(self.history_length).compact()
        rows, positions = torch.unique(visible.values.long(), return_inverse=True)
        if not len(rows):
            rows = torch.zeros(1, dtype=torch.int64)  # tables want an example
        return HistoryItems(self.items.select(rows), positions, visible.lengths.long())

    def _of_events(self, events: Events, run: list[str]) -> _Bags:
        """Neighbouring features that are all single-valued or all multi-valued."""
        if run[0] in events.bags:
            return _laid_out({name: events.bags[name] for name in run})
        begin = events.single_valued.index(run[0])
        values = torch.empty(len(run), len(events), dtype=torch.int64)
        np.copyto(values.numpy(), events.single_rows[:, begin : begin + len(run)].numpy().T)
        return _Bags(run, values=values.view(-1), lengths=None)

    def _jagged(self, parts: Sequence[_Bags], size: int) -> KeyedJaggedTensor:
        keys = [key for part in parts for key in part.keys]
        values = torch.cat([part.values for part in parts])
        if all(part.lengths is None for part in parts):
            lengths = self._ones_of(len(values))
        else:
            lengths = torch.cat(
                [self._ones_of(len(part.values)) if part.lengths is None else part.lengths for part in parts]
            )
        return KeyedJaggedTensor(keys=keys, values=values, lengths=lengths, stride=size)

    def _ones_of(self, size: int) -> torch.Tensor:
        """Ones that all batches share."""
        if len(self._ones) < size:
            self._ones = torch.ones(size, dtype=torch.int32)
        return self._ones[:size]


@dataclasses.dataclass
class _Bags:
    """Neighbouring keys of a KeyedJaggedTensor in the making; lengths None where every bag holds one row."""

    keys: list[str]
    values: torch.Tensor
    lengths: torch.Tensor | None


def feature_store(
    columns: dict[str, JaggedColumn], dense: torch.Tensor, vectors: dict[str, torch.Tensor] | None = None
) -> Batch:
    """A whole table's features held as one Batch, to be looked up with `select`."""
    bags = _laid_out(columns)
    ids = KeyedJaggedTensor(keys=bags.keys, values=bags.values, lengths=bags.lengths)
    return Batch(ids=ids, dense=dense, vectors=VectorColumns(vectors) if vectors else None)


def _vectors(stores: Sequence[Batch], rows: Sequence[torch.Tensor]) -> VectorColumns | None:
    """The vectors of examples, of each store at rows of its own; None where there are none."""
    found: dict[str, torch.Tensor] = {}
    for store, own in zip(stores, rows, strict=True):
        if store.vectors is not None:
            found |= store.vectors.select(own.long()).columns
    return VectorColumns(found) if found else None


def _looked_up(store: Batch, rows: torch.Tensor) -> _Bags:
    values, lengths = store.gather(rows)
    return _Bags(list(store.ids.keys()), values=values, lengths=lengths)


def _laid_out(columns: dict[str, JaggedColumn]) -> _Bags:
    return _Bags(
        list(columns),
        values=torch.cat([column.values for column in columns.values()]).long(),
        lengths=torch.cat([column.lengths for column in columns.values()]).int(),
    )


def _side_by_side(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Matrices [B, ...] as one; the only one with columns is returned as it is."""
    wide = [part for part in parts if part.shape[1]]
    return torch.cat(wide, dim=1) if len(wide) > 1 else (wide or parts)[0]
