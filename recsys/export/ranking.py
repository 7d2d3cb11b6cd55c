"""RankingProgram: what becomes `ranking.pt`; raw rows in, probabilities out.

Legend: B rows, N candidates of one request.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)
# mypy: allow-untyped-calls, no-warn-return-any

from typing import Any, Dict, List, Optional, Tuple, cast

import torch
from torch import nn

from recsys.export.inputs import Histories, Inputs
from recsys.export.interfaces import Head, RowIndex
from recsys.export.retrieval import first_of
from recsys.export.values import elements, is_list


class RankingProgram(nn.Module):
    """Scores rows of user, item and context.

    Args:
        users, items: rows of raw ids.
        user_fields, item_fields: names under which a row may hold its ids.
        ambiguous: columns that several tables have; a row must name the table too, as in `users.city`.
        histories: turns catalogue rows into what models read.
        inputs: of the head.
        head: of the trained model.
    """

    user_fields: List[str]
    item_fields: List[str]
    ambiguous: List[str]
    users: RowIndex
    items: RowIndex
    head: Head

    def __init__(
        self,
        *,
        users: nn.Module,
        items: nn.Module,
        user_fields: List[str],
        item_fields: List[str],
        ambiguous: List[str],
        histories: Histories,
        inputs: Inputs,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.users = cast(RowIndex, users)
        self.items = cast(RowIndex, items)
        self.user_fields = user_fields
        self.item_fields = item_fields
        self.ambiguous = ambiguous
        self.histories = histories
        self.inputs = inputs
        self.head = cast(Head, head)

    def forward(self, rows: List[Dict[str, Any]]) -> torch.Tensor:
        """Probabilities [B] that each row is a positive.

        Args:
            rows: fields of the users', the items' and the interactions' tables; of a known user or item the
                id is enough. `history` may hold the raw ids of the items the user liked before, oldest first.
        """
        bags, dense = self.features(rows)
        return torch.sigmoid(self.head.forward(self.inputs.embed(bags, len(rows)), dense))

    @torch.jit.export
    def predict(self, rows: List[Dict[str, Any]]) -> torch.Tensor:
        """The same as `forward`."""
        return self.forward(rows)

    @torch.jit.export
    def predict_items(
        self,
        user: Dict[str, Any],
        item_ids: List[Any],
        history: List[Any],
        context: Optional[Dict[str, Any]] = None,
    ) -> torch.Tensor:
        """Probabilities [N] of many items for one user, whose features are read once."""
        nothing: Dict[str, Any] = {}
        size = len(item_ids)
        records = {
            "user": [user],
            "context": [nothing if context is None else context],
            "item": [nothing for _ in range(size)],
        }
        for name in self.ambiguous:
            if name in user or name in records["context"][0]:
                raise ValueError(ambiguous_field(name))
        history_rows = self.items.rows_of(history)
        bags, dense = self.features_of(
            records, self.items.rows_of(item_ids), history_rows, torch.tensor([history_rows.numel()])
        )
        return torch.sigmoid(self.head.forward(self.inputs.embed(bags, size), dense))

    def features(
        self, rows: List[Dict[str, Any]]
    ) -> Tuple[Dict[str, Tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
        """Bags of the sparse features and dense values [B, ...] of rows."""
        flat: List[Any] = []
        lengths: List[int] = []
        for row in rows:
            for name in self.ambiguous:
                if name in row:
                    raise ValueError(ambiguous_field(name))
            history: List[Any] = []
            if "history" in row:
                history = as_history(row["history"])
            flat.extend(history)
            lengths.append(len(history))
        return self.features_of(
            {"user": rows, "context": rows, "item": rows},
            self.items.rows_of(first_of(rows, self.item_fields)),
            self.items.rows_of(flat),
            torch.tensor(lengths, dtype=torch.int64),
        )

    def features_of(
        self,
        records: Dict[str, List[Dict[str, Any]]],
        item_rows: torch.Tensor,
        history_rows: torch.Tensor,
        history_lengths: torch.Tensor,
    ) -> Tuple[Dict[str, Tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
        """Bags and dense values of records by role."""
        user_rows = self.users.rows_of(first_of(records["user"], self.user_fields))
        rows = {"user": user_rows, "context": torch.zeros_like(user_rows), "item": item_rows}
        bags = self.inputs.bags(records, rows)
        bags["history"] = self.histories(history_rows, history_lengths)
        return bags, self.inputs.numbers(records, rows, item_rows.numel())


def as_history(value: Any) -> List[Any]:
    """The item ids of a history held in a row."""
    if not is_list(value) and (isinstance(value, int) or not torch.jit.isinstance(value, Optional[int])):
        raise ValueError("`history` must be a list of item ids or None")
    return elements(value)


def ambiguous_field(name: str) -> str:
    """What to say when a row holds a column that several tables have."""
    return f"`{name}` is a column of several tables; name the table, as in `users.{name}` or `items.{name}`"
