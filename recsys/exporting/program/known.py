"""Known: the users and items that a file knows, by raw id, and histories of them.

Legend: B requests, N ids, V values of a jagged field, I catalogue rows.
"""
# ruff: noqa: UP006, UP035 (scripted)

from typing import Any, Dict, List, cast

import torch
from torch import nn

from recsys.exporting.program.interfaces import IdIndex
from recsys.exporting.program.types import Bag, Record


class Known(nn.Module):
    """Raw ids -> rows of the users and of the catalogue.

    Args:
        users, items: an `IdIndex` each.
        user_fields, item_fields: names under which a record may hold its id, in order of precedence.
        histories: what models read of a history.
    """

    users: IdIndex
    items: IdIndex
    user_fields: List[str]
    item_fields: List[str]

    def __init__(
        self,
        users: nn.Module,
        items: nn.Module,
        *,
        user_fields: List[str],
        item_fields: List[str],
        histories: "Histories",
    ) -> None:
        super().__init__()
        self.users = cast(IdIndex, users)
        self.items = cast(IdIndex, items)
        self.user_fields = user_fields
        self.item_fields = item_fields
        self.histories = histories

    def user_rows(self, records: List[Record]) -> torch.Tensor:
        """Rows [B] of the users of records; 0 where the id is unknown or left out."""
        return self.users.rows_of(first_of(records, self.user_fields))

    def item_rows(self, records: List[Record]) -> torch.Tensor:
        """Catalogue rows [B] of the items of records; 0 where the id is unknown or left out."""
        return self.items.rows_of(first_of(records, self.item_fields))

    def rows_of_items(self, ids: List[Any]) -> torch.Tensor:
        """Catalogue rows [N] of raw item ids."""
        return self.items.rows_of(ids)

    def history_rows(self, histories: List[List[Any]]) -> Bag:
        """Catalogue rows [V] and lengths [B] of histories of raw ids."""
        flat: List[Any] = []
        for history in histories:
            flat.extend(history)
        lengths = [len(history) for history in histories]
        return self.items.rows_of(flat), torch.tensor(lengths, dtype=torch.int64)

    def add_items(self, ids: List[Any]) -> None:
        """Gives new ids the catalogue rows behind the others; see `IdIndex.check_new`."""
        self.items.add(ids, self.histories.item_id_rows.size(0))
        self.histories.append(len(ids))


class Histories(nn.Module):
    """Histories of catalogue rows -> bags of the item table that models read.

    Args:
        item_id_rows: [I] row of the item table of every catalogue row.
        length: latest items that a model sees.
    """

    item_id_rows: torch.Tensor

    def __init__(self, item_id_rows: torch.Tensor, *, length: int) -> None:
        super().__init__()
        self.length = length
        self.register_buffer("item_id_rows", item_id_rows.int())

    def forward(self, item_rows: torch.Tensor, lengths: torch.Tensor) -> Bag:
        """Values and lengths [B] of B histories of catalogue rows [V], oldest first."""
        ends = torch.cumsum(lengths, 0)
        from_the_end = torch.repeat_interleave(ends, lengths) - torch.arange(item_rows.numel())
        latest = item_rows[from_the_end <= self.length]
        return self.item_id_rows[latest].long(), lengths.clamp(max=self.length)

    def append(self, num_items: int) -> None:
        """Has new items read as unknown ones, for whom row 0 of the table was trained."""
        self.item_id_rows = torch.cat([self.item_id_rows, torch.zeros(num_items, dtype=torch.int32)])


def empty_records(count: int) -> List[Record]:
    """Records without fields."""
    nothing: Record = {}
    return [nothing for _ in range(count)]


def first_of(records: List[Record], fields: List[str]) -> List[Any]:
    """The value of each record under the first of the names that it has; None without."""
    values: List[Any] = []
    for record in records:
        value: Any = None
        for field in fields:
            if field in record:
                value = record[field]
                break
        values.append(value)
    return values


def unread(record: Record, read: List[str]) -> List[str]:
    """The fields of a record that are not among those read."""
    fields: List[str] = []
    for field in record.keys():  # noqa: SIM118 (scripted)
        if field not in read:
            fields.append(field)  # noqa: PERF401 (scripted)
    return fields


def renamed(record: Record, names: Dict[str, str]) -> Record:
    """The record with other names for some of its fields."""
    if len(names) == 0:
        return record
    named: Record = {}
    for field in record.keys():  # noqa: SIM118 (scripted)
        named[names.get(field, field)] = record[field]
    return named
