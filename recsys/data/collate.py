"""Collator: events of a split -> Batch.

User and item features are looked up in the feature stores held by the dataset; events bring rows only.

Legend: B examples.
"""

from __future__ import annotations

import dataclasses

import torch
from torchrec import JaggedTensor, KeyedJaggedTensor

from recsys.data.events import Bags, Events
from recsys.schema.batch import Batch, concatenate_keys
from recsys.schema.features import HISTORY, ITEM_ID, FeatureSchema


@dataclasses.dataclass
class Collator:
    """Builds batches out of events.

    Args:
        schema: the features.
        users: features of all users, by user row.
        items: features of the whole catalogue, by item row.
        history_length: latest positives that a model sees.
    """

    schema: FeatureSchema
    users: Batch
    items: Batch
    history_length: int

    def __post_init__(self) -> None:
        # Catalogue row -> row of the item table: the history reads the same table as the item itself.
        self._item_id_rows = self.items.ids[ITEM_ID].values()

    def queries(self, events: Events, history: Bags) -> Batch:
        """User and context features of the events; `history` as catalogue rows, already cut to length."""
        parts = [self.users.select(events.user_rows).ids]
        if HISTORY in self.schema:
            parts.append(_keyed({HISTORY: Bags(self._item_id_rows[history.values], history.offsets)}))
        if events.sparse:
            parts.append(_keyed(events.sparse))
        dense = torch.cat([self.users.dense[events.user_rows], events.dense], dim=1)
        return Batch(
            ids=concatenate_keys(parts),
            dense=dense,
            labels=events.positives.float(),
            item_rows=events.item_rows,
            user_keys=events.history_rows,
        )

    def rows(self, events: Events, history: Bags) -> Batch:
        """User, context and item features of the events, for a ranking task."""
        query = self.queries(events, history)
        candidate = self.items.select(events.item_rows)
        return dataclasses.replace(
            query,
            ids=concatenate_keys([query.ids, candidate.ids]),
            dense=torch.cat([query.dense, candidate.dense], dim=1),
        )


def as_jagged(bag: Bags) -> JaggedTensor:
    """The bags as TorchRec's jagged tensor."""
    return JaggedTensor(values=bag.values, lengths=bag.lengths.int())


def _keyed(columns: dict[str, Bags]) -> KeyedJaggedTensor:
    return KeyedJaggedTensor(
        keys=list(columns),
        values=torch.cat([bag.values for bag in columns.values()]),
        lengths=torch.cat([bag.lengths for bag in columns.values()]).int(),
    )


def feature_store(columns: dict[str, Bags], dense: torch.Tensor) -> Batch:
    """A whole table's features held as one Batch, to be looked up with `select`."""
    return Batch(ids=_keyed(columns), dense=dense)
