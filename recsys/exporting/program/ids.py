"""Raw ids <-> rows of the users or of the catalogue, as scripted modules.

Legend: N ids, R rows of the table; row 0 is the unknown one.
"""
# ruff: noqa: UP006, UP035 (scripted)

from typing import Any, Dict, List, Sequence

import torch
from torch import nn

from recsys.exporting.program.hashed import first_characters
from recsys.exporting.program.values import as_integer, as_text, shown, stripped


class IntegerIndex(nn.Module):
    """Rows of ids that are whole numbers.

    Args:
        ids: of rows 1, 2, ...
        field: how requests call the id.
    """

    sorted_ids: torch.Tensor
    sorted_rows: torch.Tensor

    def __init__(self, ids: Sequence[Any], *, field: str) -> None:
        super().__init__()
        self.field = field
        in_order, rows = torch.sort(torch.tensor(list(ids), dtype=torch.int64))
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
        is_known = (self.sorted_ids[places] == wanted) & torch.tensor(readable, dtype=torch.bool)
        return torch.where(is_known, self.sorted_rows[places], 0)

    @torch.jit.export
    def check_new(self, given: List[Any]) -> None:
        """Raises unless each is a whole number, unknown, and there once."""
        rows: List[int] = self.rows_of(given).tolist()
        places: Dict[int, int] = {}
        for position, value in enumerate(given):
            number = as_integer(value, self.field)
            if number is None:
                raise ValueError(_id_missing(self.field, position, "a whole number"))
            if rows[position] > 0:
                raise ValueError(_id_known(self.field, position, str(number)))
            if number in places:
                raise ValueError(_id_repeated(self.field, position, str(number), places[number]))
            places[number] = position

    @torch.jit.export
    def add(self, given: List[Any], first_row: int) -> None:
        """Gives new ids the rows from `first_row` on; see `check_new`."""
        numbers: List[int] = []
        for value in given:
            number = as_integer(value, self.field)
            numbers.append(number if number is not None else 0)
        added = torch.tensor(numbers, dtype=torch.int64)
        rows = torch.cat([self.sorted_rows, torch.arange(added.numel()) + first_row])
        in_order, places = torch.sort(torch.cat([self.sorted_ids, added]))
        self.sorted_ids = in_order
        self.sorted_rows = rows[places]


class ValueIndex(nn.Module):
    """Rows of values that are text; a whole number stands for its digits.

    What is not known is looked up again without the blanks around it.

    Args:
        values: of rows 1, 2, ...
        field: how requests call the value.
        prefix: so many characters tell values from each other; 0 for all.
    """

    rows: Dict[str, int]

    def __init__(self, values: Sequence[Any], *, field: str, prefix: int = 0) -> None:
        super().__init__()
        self.field = field
        self.prefix = prefix
        self.rows = {str(value): row for row, value in enumerate(values, start=1)}

    @torch.jit.export
    def rows_of(self, given: List[Any]) -> torch.Tensor:
        """Rows [N] of raw values; 0 for one that is unknown or missing."""
        rows: List[int] = []
        for value in given:
            text = as_text(value, self.field)
            row = 0
            if text is not None:
                # Mostly there are no blanks to take away, and to see that takes longer than a look-up.
                row = self._row_of(text)
                if row == 0:
                    bare = stripped(text)
                    row = self._row_of(bare) if len(bare) < len(text) else 0
            rows.append(row)
        return torch.tensor(rows, dtype=torch.int64)

    def _row_of(self, text: str) -> int:
        return self.rows.get(first_characters(text, self.prefix) if self.prefix > 0 else text, 0)


class StringIndex(ValueIndex):
    """Rows of ids that are text.

    NOTE: a class of its own, though values are looked up alike: TorchScript keeps the types of a process,
    each with the methods that its first use needs, and values are never added to.
    """

    @torch.jit.export
    def check_new(self, given: List[Any]) -> None:
        """Raises unless each is text or a number, unknown, and there once."""
        places: Dict[str, int] = {}
        for position, value in enumerate(given):
            text = as_text(value, self.field)
            bare = stripped(text) if text is not None else ""
            if len(bare) == 0:
                raise ValueError(_id_missing(self.field, position, "text"))
            if bare in self.rows:
                raise ValueError(_id_known(self.field, position, shown(bare)))
            if bare in places:
                raise ValueError(_id_repeated(self.field, position, shown(bare), places[bare]))
            places[bare] = position

    @torch.jit.export
    def add(self, given: List[Any], first_row: int) -> None:
        """Gives new ids the rows from `first_row` on; see `check_new`."""
        for position, value in enumerate(given):
            text = as_text(value, self.field)
            if text is not None:
                self.rows[stripped(text)] = first_row + position


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

    def add(self, given: List[Any]) -> None:
        """Adds new ids behind the others."""
        numbers: List[int] = []
        for value in given:
            number = as_integer(value, "item_id")
            numbers.append(number if number is not None else 0)
        self.ids = torch.cat([self.ids, torch.tensor(numbers, dtype=torch.int64)])

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

    def add(self, given: List[Any]) -> None:
        """Adds new ids behind the others."""
        for value in given:
            text = as_text(value, "item_id")
            self.ids.append(stripped(text) if text is not None else "")

    def lists_of(self, rows: List[torch.Tensor]) -> List[List[str]]:
        """Raw ids of several lists of rows."""
        return [self.ids_of(some) for some in rows]


def _id_missing(field: str, position: int, expected: str) -> str:
    """The error of a new item without an id."""
    return f"`{field}` of item {position}: a new item needs an id, {expected}; nothing was added"


def _id_known(field: str, position: int, given: str) -> str:
    """The error of a new item whose id is known already."""
    return (
        f"`{field}` of item {position} is `{given}`, which is known already; leave such items out, what was "
        "learnt of them stays until the next training; nothing was added"
    )


def _id_repeated(field: str, position: int, given: str, first: int) -> str:
    """The error of a new item that is there twice."""
    return (
        f"`{field}` of item {position} is `{given}`, as that of item {first}; give every new item once; "
        "nothing was added"
    )
