"""RankingProgram: what becomes `ranking.pt`; raw rows in, probabilities out.

Legend: B rows, N candidates of one request.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)
# mypy: allow-untyped-calls, no-warn-return-any

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from recsys.export.inputs import Network
from recsys.export.known import Known, unread
from recsys.export.values import elements, is_list
from recsys.schema.labels import AuxiliaryLabel


class RankingProgram(nn.Module):
    """Scores rows of user, item and context.

    Args:
        known: users and items by raw id.
        network: the head behind its inputs.
        read_fields: fields that a row may hold to some effect.
        ambiguous: columns that several tables have; a row must name the table too, as in `users.city`.
        labels: the auxiliary labels that the network has heads for.
    """

    read_fields: List[str]
    ambiguous: List[str]
    heads: List[str]
    head_kinds: List[str]
    head_means: List[float]
    head_stds: List[float]

    def __init__(
        self,
        known: Known,
        *,
        network: Network,
        read_fields: List[str],
        ambiguous: List[str],
        labels: Sequence[AuxiliaryLabel] = (),
    ) -> None:
        super().__init__()
        self.known = known
        self.network = network
        self.read_fields = read_fields
        self.ambiguous = ambiguous
        self.heads = [label.name for label in labels]
        self.head_kinds = ["log" if label.transform == "log" else label.kind for label in labels]
        self.head_means = [label.mean for label in labels]
        self.head_stds = [label.std for label in labels]

    def forward(self, rows: List[Dict[str, Any]]) -> torch.Tensor:
        """Probabilities [B] that each row is a positive.

        Args:
            rows: fields of the users', the items' and the interactions' tables; of a known user or item the
                id is enough. `history` may hold the raw ids of the items the user liked before, oldest first.
        """
        bags, dense = self.features(rows)
        return torch.sigmoid(self.main_logits(bags, dense))

    @torch.jit.export
    def predict_heads(self, rows: List[Dict[str, Any]]) -> Dict[str, torch.Tensor]:
        """What every head predicts [B]: probabilities, and numbers as they stand in the raw table.

        `main` is what `predict` gives; the others are the auxiliary labels that the model was trained with.
        """
        bags, dense = self.features(rows)
        outputs = self.network(bags, dense)
        if outputs.dim() == 1:
            return {"main": torch.sigmoid(outputs)}
        found = {"main": torch.sigmoid(outputs[:, 0])}
        for position, name in enumerate(self.heads):
            values = outputs[:, position + 1]
            kind = self.head_kinds[position]
            if kind == "binary":
                found[name] = torch.sigmoid(values)
            else:
                numbers = self.head_means[position] + self.head_stds[position] * values
                found[name] = torch.expm1(numbers) if kind == "log" else numbers
        return found

    def main_logits(
        self, bags: Dict[str, Tuple[torch.Tensor, torch.Tensor]], dense: torch.Tensor
    ) -> torch.Tensor:
        """Logits [B] of the label."""
        outputs = self.network(bags, dense)
        return outputs if outputs.dim() == 1 else outputs[:, 0]

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
        history_rows, lengths = self.known.history_rows([history])
        bags, dense = self.features_of(records, self.known.rows_of_items(item_ids), history_rows, lengths)
        return torch.sigmoid(self.main_logits(bags, dense))

    @torch.jit.export
    def unread_fields(self, row: Dict[str, Any]) -> List[str]:
        """Fields of a row that no feature reads, to find mistyped names; elsewhere they do nothing."""
        return unread(row, self.read_fields)

    def features(
        self, rows: List[Dict[str, Any]]
    ) -> Tuple[Dict[str, Tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
        """Bags of the sparse features and dense values [B, ...] of rows."""
        histories: List[List[Any]] = []
        for row in rows:
            for name in self.ambiguous:
                if name in row:
                    raise ValueError(ambiguous_field(name))
            history: List[Any] = []
            if "history" in row:
                history = as_history(row["history"])
            histories.append(history)
        history_rows, lengths = self.known.history_rows(histories)
        records = {"user": rows, "context": rows, "item": rows}
        return self.features_of(records, self.known.item_rows(rows), history_rows, lengths)

    def features_of(
        self,
        records: Dict[str, List[Dict[str, Any]]],
        item_rows: torch.Tensor,
        history_rows: torch.Tensor,
        history_lengths: torch.Tensor,
    ) -> Tuple[Dict[str, Tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
        """Bags and dense values of records by role."""
        user_rows = self.known.user_rows(records["user"])
        rows = {"user": user_rows, "context": torch.zeros_like(user_rows), "item": item_rows}
        bags = self.network.inputs.bags(records, rows)
        bags["history"] = self.known.histories(history_rows, history_lengths)
        return bags, self.network.inputs.numbers(records, rows, item_rows.numel())


def as_history(value: Any) -> List[Any]:
    """The item ids of a history held in a row."""
    if not is_list(value) and (isinstance(value, int) or not torch.jit.isinstance(value, Optional[int])):
        raise ValueError("`history` must be a list of item ids or None")
    return elements(value)


def ambiguous_field(name: str) -> str:
    """What to say when a row holds a column that several tables have."""
    return f"`{name}` is a column of several tables; name the table, as in `users.{name}` or `items.{name}`"
