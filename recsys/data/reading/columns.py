"""What raw columns hold: ids, numbers and instants, whatever type they came in.

All functions take a table and the name of a column and give Ibis expressions; a value that cannot be read is
null.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import ibis

from recsys.data.reading.engine import DuckDBEngine, microseconds
from recsys.schema.errors import InputError

ValueType = Literal["integer", "string"]
TimeUnit = Literal["s", "ms", "us", "ns"]

# How others write that there is no value.
NULL_WORDS = ("null", "NULL", "Null", "nan", "NaN", "NAN", "None", "NA", "N/A", "\\N", "<NA>", "NaT")
# A leading zero means something in an id ("007", zip codes), so such a value is no integer.
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_WHOLE = r"^(0|-?[1-9][0-9]{0,17})\.0+$"
_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
# Microseconds of the years 0 to 9999; beyond them an instant is a mistake.
_FIRST_INSTANT, _LAST_INSTANT = -62_167_219_200_000_000, 253_402_300_799_999_999
_PER_UNIT: dict[TimeUnit, int] = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclasses.dataclass(frozen=True)
class TextFacts:
    """How many values of a column of text there are, and how many of them read as what."""

    num_values: int
    num_integers: int
    num_whole: int
    num_numbers: int

    @property
    def is_integer(self) -> bool:
        """Every value is an integer without leading zeros."""
        return 0 < self.num_values == self.num_integers

    @property
    def is_whole(self) -> bool:
        """Every value is an integer, some written like 3.0."""
        return 0 < self.num_values == self.num_integers + self.num_whole

    @property
    def is_number(self) -> bool:
        """Every value is a number."""
        return 0 < self.num_values == self.num_numbers

    @property
    def is_mostly_numbers(self) -> bool:
        """More than half of the values are numbers."""
        return self.num_numbers * 2 > self.num_values


def text_facts(engine: DuckDBEngine, table: ibis.Table, columns: Iterable[str]) -> dict[str, TextFacts]:
    """Looks through those of the columns that are text, all of them in one pass."""
    chosen = [name for name in columns if table[name].type().is_string()]
    if not chosen:
        return {}
    counts: dict[str, Any] = {}
    for number, name in enumerate(chosen):
        value = known_text(table[name])
        counts[f"{number}_values"] = value.count()
        counts[f"{number}_integers"] = value.re_search(_INTEGER).sum()
        counts[f"{number}_whole"] = value.re_search(_WHOLE).sum()
        counts[f"{number}_numbers"] = value.re_search(_NUMBER).sum()
    row = engine.collect(table.aggregate(**counts)).to_pylist()[0]
    found = [
        [int(row[f"{n}_{what}"] or 0) for what in ("values", "integers", "whole", "numbers")]
        for n in range(len(chosen))
    ]
    return {name: TextFacts(*numbers) for name, numbers in zip(chosen, found, strict=True)}


def known_text(column: ibis.Value) -> ibis.Value:
    """Text, null where it is empty or a word for null."""
    return column.isin(("", *NULL_WORDS)).ifelse(ibis.null("string"), column)


def id_type(engine: DuckDBEngine, table: ibis.Table, name: str) -> ValueType:
    """Whether ids are integers: typed so, or whole floats (pandas, with nulls), or text of integers."""
    column = table[name]
    kind = column.type()
    if kind.is_string():
        found = text_facts(engine, table, [name])[name]
        return "integer" if found.is_integer or found.is_whole else "string"
    if kind.is_floating() or kind.is_decimal() or kind == ibis.dtype("uint64"):
        number = column.try_cast("float64")
        misfit = (number != number.floor()) | (number.abs() >= 2.0**63)
        return (
            "string"
            if engine.collect(table.aggregate(misfit=misfit.any()))["misfit"][0].as_py()
            else "integer"
        )
    return "integer" if kind.is_integer() or kind.is_boolean() else "string"


def read_id(column: ibis.Value, value_type: ValueType) -> ibis.Value:
    """Ids as int64 or as text; null where there is none."""
    kind = column.type()
    if kind.is_string():
        known = known_text(column)
        return known.re_replace(r"\.0+$", "").try_cast("int64") if value_type == "integer" else known
    if kind.is_floating():
        column = column.isnan().ifelse(ibis.null(kind), column)
    if value_type == "string":
        return column.cast("string")
    return column.try_cast("int64")


def read_typed(column: ibis.Value, facts: Mapping[str, TextFacts]) -> ibis.Value:
    """A feature's raw column as requests can hold it: integers, floats, booleans, text or lists of them.

    Text of a CSV file, for which there are facts, is read as what all its values are; dates and other rare
    types become text, decimals floats.
    """
    kind = column.type()
    found = facts.get(column.get_name())
    if found is not None:
        if found.is_integer:
            return known_text(column).try_cast("int64")
        return known_text(column).try_cast("float64") if found.is_number else column
    if kind.is_decimal():
        return column.cast("float64")
    return column.cast("string") if kind.is_temporal() or kind.is_uuid() else column


def read_number(column: ibis.Value) -> ibis.Value:
    """Finite numbers as float64; true is 1, false is 0."""
    kind = column.type()
    if kind.is_string():
        known = known_text(column)
        word = known.lower()
        flag = ibis.cases((word == "true", 1.0), (word == "false", 0.0))
        number = ibis.coalesce(known.try_cast("float64"), flag)
    elif kind.is_boolean():
        return column.cast("int64").cast("float64")
    else:
        number = column.try_cast("float64")
    return (number.isnan() | number.isinf()).ifelse(ibis.null("float64"), number)


@dataclasses.dataclass(frozen=True)
class TimeReading:
    """How a column of timestamps is typed.

    Args:
        kind: `integer`, `float` (with parts of a unit), `text` or `datetime`.
        unit: of a number.
    """

    kind: Literal["integer", "float", "text", "datetime"]
    unit: TimeUnit | None = None

    def read(self, column: ibis.Value) -> ibis.Value:
        """Instants in microseconds since 1970 (UTC), int64."""
        if self.unit is None:
            is_text = column.type().is_string()
            instant = known_text(column).try_cast("timestamp('UTC')") if is_text else column
            return _within(microseconds(instant), 1)
        number = known_text(column) if column.type().is_string() else column
        if self.kind == "float":
            return (
                _within(number.try_cast("float64") * float(_PER_UNIT.get(self.unit, 1)), 1)
                .round()
                .cast("int64")
            )
        whole = number.try_cast("int64")
        if self.unit == "ns":
            return (whole // 1000).cast("int64")
        return _within(whole, _PER_UNIT[self.unit]) * _PER_UNIT[self.unit]

    def to_microseconds(self, number: float) -> int:
        """Microseconds of a number in the column's unit."""
        assert self.unit is not None
        return int(number) // 1000 if self.unit == "ns" else round(number * _PER_UNIT[self.unit])

    def instant(self, value: Any, *, key: str) -> int:
        """Microseconds of a number in the column's unit, or of ISO text (UTC where it names no zone).

        Args:
            value: as given in the configuration.
            key: where it was given.

        Raises:
            ValueError: it is neither.
        """
        if isinstance(value, (int, float)) and self.unit is not None:
            return self.to_microseconds(value)
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError as error:
            raise InputError(
                f"`{key}` must be given as ISO text"
                f"{' or as a number in ' + self.unit if self.unit else ''}, got `{value}`"
            ) from error
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return (found - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    def from_microseconds(self, instant: int) -> int | float | str:
        """The instant as the raw column would have it: a number in its unit, or ISO text."""
        if self.unit is None:
            return iso(instant)
        if self.unit == "ns":
            return instant * 1000
        per_unit = _PER_UNIT[self.unit]
        return instant / per_unit if instant % per_unit else instant // per_unit

    def raw(self, column: ibis.Value, *, from_csv: bool) -> ibis.Value:
        """The column as people would write it back: numbers of a CSV file as numbers."""
        if self.kind == "integer" and (from_csv or column.type().is_floating()):
            return column.try_cast("int64")
        if self.kind == "float" and from_csv:
            return column.try_cast("float64")
        return column


def time_reading(
    engine: DuckDBEngine, table: ibis.Table, name: str, facts: Mapping[str, TextFacts]
) -> TimeReading:
    """Tells seconds, milliseconds, microseconds, nanoseconds, ISO text and datetimes from one another.

    The unit of numbers is the one in which the median lies between 1970 and the year 5138: seconds below
    1e11, milliseconds below 1e14, microseconds below 1e17.
    """
    column = table[name]
    kind = column.type()
    if kind.is_timestamp() or kind.is_date():
        return TimeReading(kind="datetime")
    if kind.is_string() and not facts[name].is_mostly_numbers:
        return TimeReading(kind="text")
    number = (known_text(column) if kind.is_string() else column).try_cast("float64")
    found = table.aggregate(middle=number.abs().quantile(0.5), parts=(number != number.floor()).any())
    row = engine.collect(found).to_pylist()[0]
    middle = row["middle"] or 0.0
    unit: TimeUnit = "s" if middle < 1e11 else "ms" if middle < 1e14 else "us" if middle < 1e17 else "ns"
    return TimeReading(kind="float" if row["parts"] and unit in ("s", "ms") else "integer", unit=unit)


def _within(number: ibis.Value, factor: int) -> ibis.Value:
    """The number, null where it is an instant beyond the years 0 to 9999 after multiplication."""
    fits = number.between(_FIRST_INSTANT // factor, _LAST_INSTANT // factor)
    return fits.ifelse(number, ibis.null(number.type()))


def iso(microseconds: int) -> str:
    """An instant as ISO text in UTC.

    >>> iso(1_500_000)
    '1970-01-01T00:00:01.500000+00:00'
    """
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()
