"""Columns of timestamps: numbers in some unit, text, dates; which of them one holds, and its instants."""

from __future__ import annotations

import dataclasses
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import ibis

from recsys.data.reading.columns import known_text, read_number
from recsys.data.reading.functions import (
    floor,
    iso_microseconds,
    iso_text,
    microseconds,
    strptime_microseconds,
    text_of,
)
from recsys.data.reading.tables import RawTable
from recsys.schema.errors import InputError
from recsys.schema.values import FIRST_YEAR, INSTANT, NUMBER, plain_instant

LOGGER = logging.getLogger(__name__)

# Microseconds of the years 0 to 9999; beyond them an instant is a mistake.
_FIRST_INSTANT, _LAST_INSTANT = -62_167_219_200_000_000, 253_402_300_799_999_999
_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
_UNIT_WORDS = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "days": "days of a spreadsheet",
    "yyyymmdd": "digits such as 20240531",
}
_DAY_MICROSECONDS = 86_400_000_000
# Spreadsheets count days from 1899-12-30.
_SPREADSHEET_DAYS = 25_569


@dataclasses.dataclass(frozen=True)
class TimeReading:
    """Reads a column of timestamps by its type and unit.

    Args:
        kind: `integer`, `float` (with parts of a unit), `text` or `datetime`, as prepared data holds it.
        unit: of a number.
        form: of raw values that prepared data holds as ISO text instead: `days`, `yyyymmdd`, or a format of
            `strptime`.
        is_limited: whether instants outside FIRST_YEAR to the next year are mistakes.
    """

    kind: Literal["integer", "float", "text", "datetime"]
    unit: str | None = None
    form: str | None = None
    is_limited: bool = False

    def read(self, column: ibis.Value) -> ibis.Value:
        """Instants in microseconds since 1970 (UTC), int64; null where there is none in the years allowed."""
        instant = self.read_any(column)
        if not self.is_limited:
            return instant
        first, end = _allowed_instants()
        return instant.between(first, end - 1).ifelse(instant, ibis.null("int64"))

    def read_any(self, column: ibis.Value) -> ibis.Value:
        """The same, of the years 0 to 9999."""
        is_text = column.type().is_string()
        value = known_text(column) if is_text else column
        if self.form == "days":
            days = value.try_cast("float64") - float(_SPREADSHEET_DAYS)
            return _rounded(days * float(_DAY_MICROSECONDS))
        if self.form == "yyyymmdd":
            digits = (value if is_text else value.try_cast("int64").cast("string")).re_replace(r"\.0+$", "")
            day = (digits.length() == 8).ifelse(digits, ibis.null("string"))
            second = (digits.length() == 14).ifelse(digits, ibis.null("string"))
            forms = strptime_microseconds(day, "%Y%m%d"), strptime_microseconds(second, "%Y%m%d%H%M%S")
            return ibis.coalesce(*forms)
        if self.form is not None:
            text = value if is_text else text_of(value)
            return _within(strptime_microseconds(text, self.form), 1)
        if self.unit is None:
            return _within(iso_microseconds(value) if is_text else microseconds(value), 1)
        if self.kind == "float":
            return _rounded(value.try_cast("float64") * float(_PER_UNIT.get(self.unit, 1)))
        whole = value.try_cast("int64")
        if self.unit == "ns":
            return (whole // 1000).cast("int64")
        return _within(whole, _PER_UNIT[self.unit]) * _PER_UNIT[self.unit]

    def fault(self, column: str) -> str:
        """Returns the message for values that cannot be read."""
        if self.form not in (None, "days", "yyyymmdd"):
            return f"unreadable timestamp in `{column}`, not of the form {self.form}"
        return f"unreadable timestamp in `{column}`"

    def limit(self, column: str) -> str:
        """Returns the message for instants outside the years allowed."""
        unit = self._numbers_unit
        read_as = f", read as {_UNIT_WORDS[unit]}" if unit in _UNIT_WORDS else ""
        return f"timestamp outside {FIRST_YEAR} to {_last_year()} in `{column}`{read_as}"

    @property
    def advice(self) -> str:
        """Returns the advice for a column most of whose timestamps cannot be used."""
        if self.kind == "text" and self.form is None:
            return (
                "timestamps are read as ISO text, such as 2024-05-31 13:45:10+02:00; for other forms give "
                "`data.interactions.columns.timestamp_format`, such as '%d.%m.%Y %H:%M'"
            )
        return f"`data.timestamp_unit={self._numbers_unit or 'iso'}` allows instants of all years"

    @property
    def _numbers_unit(self) -> str | None:
        return self.form if self.form in _UNIT_WORDS else self.unit

    def instant(self, value: Any, *, key: str) -> int:
        """Microseconds of a number in the column's unit, or of ISO text (UTC where it names no zone).

        Args:
            value: as given in the configuration.
            key: where it was given.

        Raises:
            InputError: it is neither.
        """
        if isinstance(value, (int, float)) and self.unit is not None:
            return int(value) // 1000 if self.unit == "ns" else round(value * _PER_UNIT[self.unit])
        try:
            instant = datetime.fromisoformat(plain_instant(str(value)))
        except ValueError as error:
            raise InputError(
                f"`{key}` must be given as ISO text"
                f"{' or as a number in ' + self.unit if self.unit else ''}, got `{value}`"
            ) from error
        return _microseconds(instant if instant.tzinfo else instant.replace(tzinfo=UTC))

    def from_microseconds(self, instant: int) -> int | float | str:
        """The instant as prepared data has it: a number in its unit, or ISO text."""
        if self.unit is None:
            return iso(instant)
        if self.unit == "ns":
            return instant * 1000
        per_unit = _PER_UNIT[self.unit]
        return instant / per_unit if instant % per_unit else instant // per_unit

    def raw(self, column: ibis.Value) -> ibis.Value:
        """The column as people would write it back: numbers in text as numbers, other forms as ISO text."""
        is_text = column.type().is_string()
        if self.form is not None:
            return iso_text(self.read_any(column))
        if self.kind == "text":
            # Requests read less than DuckDB does: no names of zones.
            return column.re_search(INSTANT).ifelse(column, iso_text(self.read_any(column)))
        if self.kind == "integer" and (is_text or column.type().is_floating()):
            return column.try_cast("int64")
        if self.kind == "float" and is_text:
            return column.try_cast("float64")
        return column


def time_reading(
    raw: RawTable,
    name: str,
    *,
    unit: str | None = None,
    form: str | None = None,
    key: str = "data.interactions.columns.timestamp",
) -> TimeReading:
    """Tells the units of numbers, digits of calendars, ISO text and datetimes from one another.

    Of numbers it is the unit in which most lie in the years allowed; no two units have one in common.

    Args:
        raw: the table.
        name: of the column.
        unit: `data.timestamp_unit`, which rules; then instants of all years are read.
        form: a format of `strptime`, for text.
        key: that named the column, for messages.

    Raises:
        InputError: most numbers are no instant of these years in any unit, or it holds no such values.
    """
    key = f"{key}={name}"
    column = raw.column(name)
    kind = column.type()
    limited = unit is None
    if form is not None:
        return TimeReading(kind="text", form=form, is_limited=limited)
    if kind.is_timestamp() or kind.is_date():
        return TimeReading(kind="datetime", is_limited=limited)
    if not (kind.is_string() or kind.is_numeric()) or kind.is_boolean():
        raise InputError(f"`{key}`: expected instants, found the type {kind}; name another column")
    if kind.is_string() and not _is_mostly_numbers(raw, name):
        return TimeReading(kind="text", is_limited=limited)
    if kind.is_float32():
        LOGGER.warning(
            "`%s` is float32, whose steps are 128 s where seconds are counted; write it as int64", name
        )
    numbers = raw.rows.select(_number=read_number(column))  # said once: it is a long expression
    number = numbers["_number"]
    fits = {known: number.between(*_range(known)) for known in _UNIT_WORDS}
    first, last = _range("yyyymmdd")
    fits["yyyymmdd"] |= number.between(first * 10**6, (last + 1) * 10**6)  # with the time of day
    row = raw.engine.row(
        numbers.aggregate(
            **{known: fit.sum() for known, fit in fits.items()},
            parts=(number != floor(number)).any(),
            least=number.min(),
            most=number.max(),
            count=number.count(),
        )
    )
    if unit is None:
        unit = max(_UNIT_WORDS, key=lambda known: row[known] or 0)
        if row["count"] and (row[unit] or 0) * 2 <= row["count"]:
            raise InputError(_no_instants(key, row["least"], row["most"]))
    if unit in ("days", "yyyymmdd"):
        return TimeReading(kind="text", form=unit, is_limited=limited)
    if unit == "iso":
        raise InputError(f"`data.timestamp_unit=iso` is for text and dates; `{name}` holds numbers")
    return TimeReading(
        kind="float" if row["parts"] and unit in ("s", "ms") else "integer", unit=unit, is_limited=limited
    )


def check_format(form: str) -> None:
    """Raises InputError when `data.interactions.columns.timestamp_format` does not write dates."""
    example = datetime(2024, 5, 31, 13, 45, tzinfo=UTC)
    try:
        if datetime.strptime(example.strftime(form), form).date() == example.date():
            return
        reason = "it does not say year, month and day"
    except ValueError as error:
        reason = str(error)
    raise InputError(
        f"`data.interactions.columns.timestamp_format={form}` must say how timestamps are written, as in "
        f"`%d.%m.%Y %H:%M`; {reason}"
    )


def iso(microseconds: int) -> str:
    """An instant as ISO text in UTC.

    >>> iso(1_500_000)
    '1970-01-01T00:00:01.500000+00:00'
    """
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()


def _is_mostly_numbers(raw: RawTable, name: str) -> bool:
    value = known_text(raw.column(name))
    row = raw.engine.row(raw.rows.aggregate(values=value.count(), numbers=value.re_search(NUMBER).sum()))
    return (row["numbers"] or 0) * 2 > (row["values"] or 0)


def _no_instants(key: str, least: float, most: float) -> str:
    seconds = [iso(int(min(max(value, -6.2e10), 2.5e11)) * 1_000_000)[:10] for value in (least, most)]
    return (
        f"`{key}`: expected instants between {FIRST_YEAR} and {_last_year()}, found numbers from "
        f"{least:.15g} to {most:.15g}, which are such in no unit (as seconds they are {seconds[0]} to "
        f"{seconds[1]}); say `data.timestamp_unit=` {', '.join(_UNIT_WORDS)} if they are right, name "
        "another column, or `null` and a split without time"
    )


def _range(unit: str) -> tuple[float, float]:
    """The numbers that are instants of the years allowed in a unit."""
    first, end = _allowed_instants()
    if unit == "yyyymmdd":
        return FIRST_YEAR * 10_000.0 + 101, _last_year() * 10_000.0 + 1231
    if unit == "days":
        return first / _DAY_MICROSECONDS + _SPREADSHEET_DAYS, end / _DAY_MICROSECONDS + _SPREADSHEET_DAYS
    per_microsecond = 1000.0 if unit == "ns" else 1.0 / _PER_UNIT[unit]
    return first * per_microsecond, end * per_microsecond


def _allowed_instants() -> tuple[int, int]:
    """Where the years begin and end that an instant may lie in unasked."""
    first, end = (datetime(year, 1, 1, tzinfo=UTC) for year in (FIRST_YEAR, _last_year() + 1))
    return _microseconds(first), _microseconds(end)


def _microseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _last_year() -> int:
    """The last year that an instant may lie in unasked: the next one."""
    return datetime.now(tz=UTC).year + 1


def _rounded(number: ibis.Value) -> ibis.Value:
    return _within(number, 1).round().cast("int64")


def _within(number: ibis.Value, factor: int) -> ibis.Value:
    """The number, null where it is an instant beyond the years 0 to 9999 after multiplication."""
    fits = number.between(_FIRST_INSTANT // factor, _LAST_INSTANT // factor)
    return fits.ifelse(number, ibis.null(number.type()))
