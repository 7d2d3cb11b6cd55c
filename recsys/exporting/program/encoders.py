"""Encoders: raw values of one feature -> rows of its table, as preparing does it; a module for each kind.

Each maps the N raw values that requests bring to values [V] and lengths [N] of N bags of rows, or, for a
dense feature, to [N] floats. Missing and unreadable values are answered as in the prepared data: row 0, an
empty bag, or the train mean.

Legend: N values of requests, V rows.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)

from typing import Any, Dict, List, Optional, Sequence, Tuple, cast

import torch
from torch import nn

from recsys.exporting.program.hashed import first_characters, hash_row, ngram_rows
from recsys.exporting.program.ids import ValueIndex
from recsys.exporting.program.instants import as_seconds
from recsys.exporting.program.interfaces import RowIndex
from recsys.exporting.program.types import Bag
from recsys.exporting.program.values import (
    as_digits_or_text,
    as_integer,
    as_number,
    as_pieces,
    as_text,
    elements,
    is_list,
)
from recsys.schema.feature_kinds import (
    Feature,
    IdFeature,
    LookupFeature,
    MultiIdFeature,
    NumberFeature,
    SentenceFeature,
    TextFeature,
    TimeFeature,
    VectorFeature,
)


def bag_encoder(feature: Feature, *, vocabulary: Sequence[Any], per_second: int) -> nn.Module:
    """The encoder of a sparse feature.

    Args:
        feature: its declaration.
        vocabulary: raw values of rows 1, 2, ... of its table, where it has one.
        per_second: units of a numeric timestamp to the second.
    """
    match feature:
        case IdFeature():
            return _OneId(_row_index(feature, vocabulary))
        case MultiIdFeature():
            return _ManyIds(feature, _row_index(feature, vocabulary))
        case NumberFeature():
            return _Buckets(feature)
        case TimeFeature():
            return _TimePart(feature, per_second=per_second)
        case TextFeature():
            return _Words(feature)
    raise AssertionError(feature.kind)


def _row_index(feature: LookupFeature, vocabulary: Sequence[Any]) -> nn.Module:
    """Rows of single values of an id or a multi-valued id."""
    if feature.is_hashed:
        return _HashLookup(feature)
    if feature.value_type == "integer" and not feature.prefix:
        return _IntegerLookup(vocabulary, field=feature.column)
    return ValueIndex(vocabulary, field=feature.column, prefix=feature.prefix)


class _OneId(nn.Module):
    """An id: always one row, 0 when it is missing or unknown."""

    lookup: RowIndex

    def __init__(self, lookup: nn.Module) -> None:
        super().__init__()
        self.lookup = cast(RowIndex, lookup)

    def forward(self, given: List[Any]) -> Bag:
        """Values [N] and lengths [N]."""
        rows = self.lookup.rows_of(given)
        return rows, torch.ones_like(rows)


class _ManyIds(nn.Module):
    """A multi-valued id: the rows of its known values, the first `max_length` of them."""

    lookup: RowIndex

    def __init__(self, feature: MultiIdFeature, lookup: nn.Module) -> None:
        super().__init__()
        self.lookup = cast(RowIndex, lookup)
        self.field = feature.column
        self.delimiter = feature.delimiter
        self.max_length = feature.max_length

    def forward(self, given: List[Any]) -> Bag:
        """Values [V] and lengths [N]."""
        pieces: List[Any] = []
        examples: List[int] = []
        for position, value in enumerate(given):
            for piece in as_pieces(value, self.delimiter, self.field):
                pieces.append(piece)
                examples.append(position)
        rows = self.lookup.rows_of(pieces)
        example = torch.tensor(examples, dtype=torch.int64)
        example, rows = example[rows > 0], rows[rows > 0]
        starts = torch.searchsorted(example, example)
        kept = torch.arange(rows.numel()) - starts < self.max_length
        return rows[kept], torch.bincount(example[kept], minlength=len(given))


class _Words(nn.Module):
    """A text: the rows of its hashed word n-grams."""

    def __init__(self, feature: TextFeature) -> None:
        super().__init__()
        self.field = feature.column
        self.ngrams = feature.ngrams
        self.max_length = feature.max_length
        self.num_buckets = feature.num_buckets

    def forward(self, given: List[Any]) -> Bag:
        """Values [V] and lengths [N]."""
        rows: List[int] = []
        lengths: List[int] = []
        for value in given:
            text = as_text(value, self.field)
            own: List[int] = []
            if text is not None:
                own = ngram_rows(text, self.ngrams, self.max_length, self.num_buckets)
            rows.extend(own)
            lengths.append(len(own))
        return torch.tensor(rows, dtype=torch.int64), torch.tensor(lengths, dtype=torch.int64)


class _TimePart(nn.Module):
    """The hour or the weekday of a timestamp (UTC); row 0 when it is missing."""

    def __init__(self, feature: TimeFeature, *, per_second: int) -> None:
        super().__init__()
        self.field = feature.column
        self.per_second = per_second
        self.is_hour = feature.part == "hour"

    def forward(self, given: List[Any]) -> Bag:
        """Values [N] and lengths [N]."""
        parts: List[int] = []
        for value in given:
            seconds = as_seconds(value, self.per_second, self.field)
            if seconds is None:
                parts.append(0)
            elif self.is_hour:
                parts.append(1 + (seconds // 3600) % 24)
            else:
                parts.append(1 + (seconds // 86400 + 3) % 7)  # 1970 began on a Thursday
        rows = torch.tensor(parts, dtype=torch.int64)
        return rows, torch.ones_like(rows)


class _Buckets(nn.Module):
    """A bucketised number; row 0 when it is missing."""

    boundaries: torch.Tensor

    def __init__(self, feature: NumberFeature) -> None:
        super().__init__()
        self.field = feature.column
        self.register_buffer("boundaries", torch.tensor(feature.boundaries, dtype=torch.float32))

    def forward(self, given: List[Any]) -> Bag:
        """Values [N] and lengths [N]."""
        numbers, known = _read_numbers(given, self.field)
        rows = torch.where(known, 1 + torch.searchsorted(self.boundaries, numbers, right=True), 0)
        return rows, torch.ones_like(rows)


class Vector(nn.Module):
    """An embedding made elsewhere: its numbers as float16 holds them; zeros where it is missing."""

    def __init__(self, feature: VectorFeature) -> None:
        super().__init__()
        self.field = feature.name if isinstance(feature, SentenceFeature) else feature.column
        self.size = feature.size

    def forward(self, given: List[Any]) -> Bag:
        """Values [N x size] and lengths [N], all of them the size."""
        vectors = torch.zeros(len(given), self.size)
        for position, value in enumerate(given):
            if is_list(value):
                vectors[position] = self._numbers(elements(value))
            elif not _is_nothing(value):
                raise ValueError(f"`{self.field}` must be a list of {self.size} numbers or None")
        return vectors.half().float().flatten(), torch.full([len(given)], self.size, dtype=torch.int64)

    def _numbers(self, given: List[Any]) -> torch.Tensor:
        """The numbers of one vector [size]."""
        numbers: List[float] = []
        for element in given:
            number = as_number(element, self.field)
            if number is not None and abs(number) <= 65504.0:
                numbers.append(number)
        if len(given) != self.size or len(numbers) != self.size:
            raise ValueError(
                f"`{self.field}` must be a list of {self.size} numbers that float16 holds, got "
                f"{len(numbers)} of them among {len(given)} values"
            )
        return torch.tensor(numbers, dtype=torch.float32)


def _is_nothing(value: Any) -> bool:
    """Whether a value is None."""
    return torch.jit.isinstance(value, Optional[int]) and not isinstance(value, int)  # type: ignore[no-untyped-call]


class Numeric(nn.Module):
    """A standardised number; 0, the train mean, when it is missing.

    Absurd ones stop at a thousand million standard deviations; beyond, a network's arithmetic would overflow.
    """

    def __init__(self, feature: NumberFeature) -> None:
        super().__init__()
        self.field = feature.column
        self.is_log = feature.transform == "log"
        self.mean = feature.mean
        self.std = feature.std

    def forward(self, given: List[Any]) -> torch.Tensor:
        """[N] float32."""
        numbers, known = _read_numbers(given, self.field)
        wide = numbers.double()
        if self.is_log:
            wide = torch.log1p(wide.clamp(min=0.0))
        scaled = ((wide - self.mean) / self.std).clamp(-1e9, 1e9)
        return torch.where(known, scaled, 0.0).float()


def _read_numbers(given: List[Any], field: str) -> Tuple[torch.Tensor, torch.Tensor]:
    """Numbers [N] float32, 0 where there is none, and whether there is one that float32 can hold [N]."""
    numbers: List[float] = []
    known: List[bool] = []
    for value in given:
        number = as_number(value, field)
        known.append(number is not None)
        numbers.append(number if number is not None else 0.0)
    narrow = torch.tensor(numbers, dtype=torch.float64).float()
    finite = torch.isfinite(narrow)
    return torch.where(finite, narrow, 0.0), torch.tensor(known, dtype=torch.bool) & finite


class _IntegerLookup(nn.Module):
    """Rows in a vocabulary of whole numbers."""

    rows: Dict[int, int]

    def __init__(self, vocabulary: Sequence[int], *, field: str) -> None:
        super().__init__()
        self.field = field
        self.rows = {value: row for row, value in enumerate(vocabulary, start=1)}

    @torch.jit.export
    def rows_of(self, given: List[Any]) -> torch.Tensor:
        """[N] rows, 0 for what is missing or unknown."""
        rows: List[int] = []
        for value in given:
            number = as_integer(value, self.field)
            rows.append(self.rows.get(number, 0) if number is not None else 0)
        return torch.tensor(rows, dtype=torch.int64)


class _HashLookup(nn.Module):
    """Rows by hashing the value's text; where the raw column holds whole numbers, their digits."""

    def __init__(self, feature: LookupFeature) -> None:
        super().__init__()
        self.field = feature.column
        self.prefix = feature.prefix
        self.num_buckets = feature.num_buckets
        self.is_integer = feature.value_type == "integer"

    @torch.jit.export
    def rows_of(self, given: List[Any]) -> torch.Tensor:
        """[N] rows, 0 for what is missing."""
        rows: List[int] = []
        for value in given:
            text = as_digits_or_text(value, self.field, self.is_integer)
            if text is not None and self.prefix > 0:
                text = first_characters(text, self.prefix)
            rows.append(hash_row(text, self.num_buckets) if text is not None else 0)
        return torch.tensor(rows, dtype=torch.int64)
