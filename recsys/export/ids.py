"""Raw ids <-> rows of the users or of the catalogue, as scripted modules.

Legend: N ids, R rows of the table; row 0 is the unknown one.
"""
# ruff: noqa: UP006, UP035 (scripted)

from typing import Any, Dict, List, Sequence

import torch
from torch import nn

from recsys.export.values import as_integer, as_text, stripped


class IntegerIndex(nn.Module):
    """Rows of ids that are whole numbers.

    Args:
        ids: [R] raw ids; that of row 0 is never read.
        field: how requests call the id.
    """

    sorted_ids: torch.Tensor
    sorted_rows: torch.Tensor

    def __init__(self, ids: Sequence[Any], *, field: str) -> None:
        super().__init__()
        self.field = field
        in_order, rows = torch.sort(torch.tensor(list(ids[1:]), dtype=torch.int64))
        self.register_buffer("sorted_ids", in_order)
        self.register_buffer("sorted_rows", rows + 1)

    @torch.jit.export
    def rows_of(self, given: List[Any]) -> torch.Tensor:
        """Rows [N] of raw ids; 0 for one that is unknown, missing or not a whole number."""
        numbers: List[int] = []
        readable: List[bool] = []
        for value in given:
            number = as_integer(value, self.field)
            readable.append(number is not None)
            numbers.append(number if number is not None else 0)
        wanted = torch.tensor(numbers, dtype=torch.int64)
        if self.sorted_ids.numel() == 0:
            return torch.zeros_like(wanted)
        places = torch.searchsorted(self.sorted_ids, wanted).clamp(max=self.sorted_ids.numel() - 1)
        found = (self.sorted_ids[places] == wanted) & torch.tensor(readable, dtype=torch.bool)
        return torch.where(found, self.sorted_rows[places], 0)


class StringIndex(nn.Module):
    """Rows of ids that are text; a whole number stands for its digits.

    Args:
        ids: [R] raw ids; that of row 0 is never read.
        field: how requests call the id.
    """

    rows: Dict[str, int]

    def __init__(self, ids: Sequence[Any], *, field: str) -> None:
        super().__init__()
        self.field = field
        self.rows = {str(known): row for row, known in enumerate(ids) if row > 0}

    @torch.jit.export
    def rows_of(self, given: List[Any]) -> torch.Tensor:
        """Rows [N] of raw ids; 0 for one that is unknown or missing."""
        rows: List[int] = []
        for value in given:
            text = as_text(value, self.field)
            rows.append(self.rows.get(stripped(text), 0) if text is not None else 0)
        return torch.tensor(rows, dtype=torch.int64)


class IntegerIds(nn.Module):
    """Raw ids that are whole numbers, by row."""

    ids: torch.Tensor

    def __init__(self, ids: Sequence[Any]) -> None:
        super().__init__()
        self.register_buffer("ids", torch.tensor([0, *ids[1:]], dtype=torch.int64))

    def ids_of(self, rows: torch.Tensor) -> List[int]:
        """Raw ids of rows [N]."""
        ids: List[int] = self.ids[rows].tolist()
        return ids

    def lists_of(self, rows: List[torch.Tensor]) -> List[List[int]]:
        """Raw ids of several lists of rows."""
        return [self.ids_of(some) for some in rows]


class StringIds(nn.Module):
    """Raw ids that are text, by row."""

    ids: List[str]

    def __init__(self, ids: Sequence[Any]) -> None:
        super().__init__()
        self.ids = ["", *(str(known) for known in ids[1:])]

    def ids_of(self, rows: torch.Tensor) -> List[str]:
        """Raw ids of rows [N]."""
        numbers: List[int] = rows.tolist()
        return [self.ids[row] for row in numbers]

    def lists_of(self, rows: List[torch.Tensor]) -> List[List[str]]:
        """Raw ids of several lists of rows."""
        return [self.ids_of(some) for some in rows]
