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
from torchrec import JaggedTensor, KeyedJaggedTensor

from recsys.data.events import Bags, Events, select_spans
from recsys.data.timelines import Timelines
from recsys.schema.batch import Batch
from recsys.schema.features import EVENT_ROLES, HISTORY, ITEM_ID, QUERY_ROLES, FeatureSchema, Role
from recsys.schema.sequences import Sequences


@dataclasses.dataclass
class Keyed:
    """Keys of a KeyedJaggedTensor to be; lengths None where every bag holds one row."""

    keys: list[str]
    values: torch.Tensor
    lengths: torch.Tensor | None


@dataclasses.dataclass
class Asked:
    """T states of sequences that are asked: of which sequence, after how many events, and when."""

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
    """

    schema: FeatureSchema
    users: Batch
    items: Batch
    history_length: int

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

    def queries(self, events: Events, history: Bags | None) -> Batch:
        """User and context features of the events; `history` as catalogue rows, already cut to length.

        A `history` of None is empty for every event.
        """
        parts = [self._of_events(events, run) for run in self._query_runs]
        # Those of a pair of user and candidate stand last.
        return self._batch(events, history, parts, [events.dense[:, : self._num_dense_of_query]])

    def sequences(
        self,
        timelines: Timelines,
        *,
        users: torch.Tensor,
        history: tuple[torch.Tensor, torch.Tensor],
        instants: torch.Tensor,
        asked: Asked,
    ) -> Batch:
        """Features of the users and stretches of timelines, event by event.

        Args:
            timelines: of the split.
            users: [B] rows of the users.
            history: [B] each, where the stretches begin and end in `timelines`.
            instants: [B] microseconds, of what follows each stretch.
            asked: what is asked.
        """
        found = _looked_up(self.users, users)
        return Batch(
            ids=self._jagged([found], len(users)),
            dense=self.users.dense[users],
            sequences=self._stretches(timelines, history, instants, asked),
        )

    def _stretches(
        self,
        timelines: Timelines,
        history: tuple[torch.Tensor, torch.Tensor],
        instants: torch.Tensor,
        asked: Asked,
    ) -> Sequences:
        events = select_spans(torch.arange(len(timelines.items)), *history)
        rows, positions = torch.unique(timelines.items[events.values].long(), return_inverse=True)
        if not len(rows):
            rows = torch.zeros(1, dtype=torch.int64)  # tables want an example
        return Sequences(
            items=self.items.select(rows),
            positions=positions,
            lengths=events.lengths,
            positives=timelines.positives[events.values],
            timestamps=timelines.timestamps[events.values],
            ends=instants,
            times_known=torch.full((len(events),), timelines.has_times),
            asked_sequences=asked.sequences,
            asked_states=asked.states,
            asked_instants=asked.instants,
        )

    def with_sequences(
        self,
        batch: Batch,
        timelines: Timelines,
        history: tuple[torch.Tensor, torch.Tensor],
        instants: torch.Tensor,
    ) -> Batch:
        """The queries with their latest `history_length` events one by one; their last states are asked."""
        begins, ends = history
        begins = torch.maximum(begins, ends - self.history_length)
        asked = Asked(torch.arange(len(begins)), ends - begins, instants)
        sequences = self._stretches(timelines, (begins, ends), instants, asked)
        return dataclasses.replace(batch, sequences=sequences)

    def rows(self, events: Events, history: Bags | None) -> Batch:
        """User, context, pair and item features of the events, for a ranking task."""
        item_rows = events.item_rows
        parts = [self._of_events(events, run) for run in self._row_runs]
        parts.append(_looked_up(self.items, item_rows))
        return self._batch(events, history, parts, [events.dense, self.items.dense[item_rows]])

    def _runs(self, roles: Sequence[Role]) -> list[list[str]]:
        """Features of events of these roles, neighbours together that are all single- or all multi-valued."""
        names = [f.name for f in self.schema.sparse(role for role in EVENT_ROLES if role in roles)]
        many = {f.name for f in self.schema.features if f.is_multivalued}
        return [list(run) for _, run in itertools.groupby(names, key=many.__contains__)]

    def _batch(
        self, events: Events, history: Bags | None, parts: list[Keyed], dense: list[torch.Tensor]
    ) -> Batch:
        """The users' features and history, followed by `parts` and `dense`."""
        user_rows = events.user_rows
        of_users = [_looked_up(self.users, user_rows)]
        if HISTORY in self.schema:
            of_users.append(self._history(history, len(events)))
        return Batch(
            ids=self._jagged([*of_users, *parts], len(events)),
            dense=_side_by_side([self.users.dense[user_rows], *dense]),
            labels=events.positives.float(),
            auxiliary_labels=events.labels if events.labels.shape[1] else None,
            item_rows=events.item_rows,
            user_keys=events.history_rows,
        )

    def _history(self, history: Bags | None, size: int) -> Keyed:
        if history is None:
            nothing = torch.zeros(0, dtype=torch.int64)
            return Keyed([HISTORY], values=nothing, lengths=torch.zeros(size, dtype=torch.int32))
        values = self._item_id_rows.index_select(0, history.values)
        return Keyed([HISTORY], values=values, lengths=history.lengths.int())

    def _of_events(self, events: Events, run: list[str]) -> Keyed:
        """Neighbouring features that are all single-valued or all multi-valued."""
        if run[0] in events.bags:
            return _keyed({name: events.bags[name] for name in run})
        begin = events.single_valued.index(run[0])
        values = torch.empty(len(run), len(events), dtype=torch.int64)
        np.copyto(values.numpy(), events.single_rows[:, begin : begin + len(run)].numpy().T)
        return Keyed(run, values=values.view(-1), lengths=None)

    def _jagged(self, parts: Sequence[Keyed], size: int) -> KeyedJaggedTensor:
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


def as_jagged(bag: Bags) -> JaggedTensor:
    """The bags as TorchRec's jagged tensor."""
    return JaggedTensor(values=bag.values, lengths=bag.lengths.int())


def feature_store(columns: dict[str, Bags], dense: torch.Tensor) -> Batch:
    """A whole table's features held as one Batch, to be looked up with `select`."""
    keyed = _keyed(columns)
    return Batch(
        ids=KeyedJaggedTensor(keys=keyed.keys, values=keyed.values, lengths=keyed.lengths), dense=dense
    )


def _looked_up(store: Batch, rows: torch.Tensor) -> Keyed:
    values, lengths = store.gather(rows)
    return Keyed(list(store.ids.keys()), values=values, lengths=lengths)


def _keyed(columns: dict[str, Bags]) -> Keyed:
    return Keyed(
        list(columns),
        values=torch.cat([bag.values for bag in columns.values()]).long(),
        lengths=torch.cat([bag.lengths for bag in columns.values()]).int(),
    )


def _side_by_side(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Matrices [B, ...] as one; the only one with columns is returned as it is."""
    wide = [part for part in parts if part.shape[1]]
    return torch.cat(wide, dim=1) if len(wide) > 1 else (wide or parts)[0]
