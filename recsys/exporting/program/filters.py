"""Filters: which items of the catalogue may be recommended, by their attributes and by what is available.

An attribute is a raw column of the items. Its values are kept as they are, whatever a model makes of them: a
hash, a vocabulary of the train split or a limit of values would let in what does not hold a value, or hide
what does.

Legend: I catalogue rows, V values that items hold, U different ones, N items.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)
# mypy: no-warn-return-any

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from recsys.exporting.program.columns import gather, pick
from recsys.exporting.program.interfaces import AttributeIndex
from recsys.exporting.program.values import as_digits_or_text, as_pieces, shown, stripped
from recsys.schema.feature_kinds import LookupFeature, MultiIdFeature


class Attribute(nn.Module):
    """Which items hold which values of one column.

    Args:
        feature: how values of the column are read; nothing else of it matters here.
        values: [I] raw, by catalogue row.
    """

    numbers: Dict[str, int]
    added_numbers: List[int]
    added_rows: List[int]
    owners: torch.Tensor
    offsets: torch.Tensor

    def __init__(self, feature: LookupFeature, values: Sequence[Any]) -> None:
        super().__init__()
        self.field = feature.column
        self.is_integer = feature.value_type == "integer"
        self.is_multivalued = feature.is_multivalued
        self.delimiter = feature.delimiter if isinstance(feature, MultiIdFeature) else ""
        self.numbers = {}
        # Items that came later; few enough to be looked through.
        self.added_numbers = []
        self.added_rows = []
        held, owners = self._read(values)
        by_value = torch.sort(held, stable=True)[1]
        offsets = torch.zeros(len(self.numbers) + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(held, minlength=len(self.numbers)), 0, out=offsets[1:])
        self.register_buffer("owners", owners[by_value].int())
        self.register_buffer("offsets", offsets)

    @torch.jit.export
    def rows_of_any(self, given: List[Any]) -> torch.Tensor:
        """Catalogue rows of the items that hold any of the given values, repeats among them."""
        wanted: Dict[int, bool] = {}
        old: List[int] = []
        for value in given:
            for key in self._keys_of(value):
                number = self.numbers.get(key, -1)
                if number >= 0 and number not in wanted:
                    wanted[number] = True
                    if number < self.offsets.numel() - 1:
                        old.append(number)
        numbers = torch.tensor(old, dtype=torch.int64)
        starts = self.offsets[numbers]
        rows = gather(self.owners, starts, self.offsets[numbers + 1] - starts).long()
        added: List[int] = []
        for position, number in enumerate(self.added_numbers):
            if number in wanted:
                added.append(self.added_rows[position])
        return torch.cat([rows, torch.tensor(added, dtype=torch.int64)])

    @torch.jit.export
    def add(self, given: List[Any], rows: List[int]) -> None:
        """Takes up the values of items that were not there before, at new catalogue rows."""
        for position, value in enumerate(given):
            for key in self._keys_of(value):
                number = self.numbers.get(key, -1)
                if number < 0:
                    number = len(self.numbers)
                    self.numbers[key] = number
                self.added_numbers.append(number)
                self.added_rows.append(rows[position])

    def _keys_of(self, value: Any) -> List[str]:
        """Returns the values in a raw value, as text that is the same for all ways of writing them."""
        pieces: List[Any] = []
        if self.is_multivalued:
            for piece in as_pieces(value, self.delimiter, self.field):
                pieces.append(piece)  # noqa: PERF402 (scripted)
        else:
            pieces.append(value)
        keys: List[str] = []
        for piece in pieces:
            text = as_digits_or_text(piece, self.field, self.is_integer)
            key = stripped(text) if text is not None else ""
            if len(key) > 0:
                keys.append(key)
        return keys

    def _read(self, values: Sequence[Any]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Numbers of the values that items hold [V] and the catalogue rows of those items [V]."""
        known: Dict[Any, List[int]] = {}
        held: List[int] = []
        owners: List[int] = []
        for row, value in enumerate(values):
            raw = tuple(value) if isinstance(value, list) else value
            if raw not in known:
                keys = dict.fromkeys(self._keys_of(value))
                known[raw] = [self.numbers.setdefault(key, len(self.numbers)) for key in keys]
            held += known[raw]
            owners += [row] * len(known[raw])
        return torch.tensor(held, dtype=torch.int64), torch.tensor(owners, dtype=torch.int64)


class Filters(nn.Module):
    """Attributes of the items, and which items are available.

    Args:
        attributes: `Attribute` modules by name.
        num_rows: of the catalogue, row 0 included.
    """

    names: List[str]
    available: torch.Tensor

    def __init__(self, attributes: Dict[str, nn.Module], num_rows: int) -> None:
        super().__init__()
        self.names = list(attributes)
        self.attributes = nn.ModuleList(attributes.values())
        self.num_unavailable = 0
        available = torch.ones(num_rows, dtype=torch.bool)
        available[:1] = False  # the unknown item
        self.register_buffer("available", available)

    @torch.jit.export
    def allowed(self, where: Optional[Dict[str, List[Any]]]) -> Optional[torch.Tensor]:
        """[I] whether each item may be recommended; None when all of them may.

        Args:
            where: raw values by attribute; of each, an item must hold one. Nothing holds one of no values.
        """
        if where is None or len(where) == 0:
            return self.available if self.num_unavailable > 0 else None
        allowed = self.available
        for name in where.keys():  # noqa: SIM118 (scripted)
            if name not in self.names:
                there = "`, `".join(self.names)
                there = f"`{there}`" if len(self.names) > 0 else "there are none"
                raise ValueError(f"`where` must name attributes of the items: {there}; got `{shown(name)}`")
            attribute: AttributeIndex = self.attributes[self.names.index(name)]  # type: ignore[assignment]
            holding = torch.zeros_like(allowed)
            holding[attribute.rows_of_any(where[name])] = torch.tensor(True)
            allowed = torch.logical_and(allowed, holding)
        return allowed

    @torch.jit.export
    def set_available(self, rows: torch.Tensor, available: bool) -> int:
        """Marks catalogue rows; how many of them are known items."""
        known = rows[rows > 0]
        self.available[known] = torch.tensor(available)
        self.num_unavailable = self.available.numel() - 1 - int(self.available.sum())
        return known.numel()

    @torch.jit.export
    def check(self, items: List[Dict[str, Any]]) -> None:
        """Raises where an attribute of items that are to be added can't be read."""
        for place, name in enumerate(self.names):
            attribute: AttributeIndex = self.attributes[place]  # type: ignore[assignment]
            attribute.rows_of_any(pick(items, [name])[0])

    @torch.jit.export
    def add(self, items: List[Dict[str, Any]], first_row: int) -> None:
        """Takes up items [N], available, whose catalogue rows begin at `first_row`; see `check`."""
        self.available = torch.cat([self.available, torch.ones(len(items), dtype=torch.bool)])
        for place, name in enumerate(self.names):
            attribute: AttributeIndex = self.attributes[place]  # type: ignore[assignment]
            given, positions = pick(items, [name])
            attribute.add(given, [first_row + position for position in positions])
