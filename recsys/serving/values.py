"""Raw values of requests, checked and made plain before TorchScript sees them.

What is missing is decided by `recsys.schema.values`, as for tables. What TorchScript cannot convert, it
refuses with an error that names no field: whole numbers beyond 64 bits, lists of mixed types, lone
surrogates, empty lists within a record. Each reader here returns what the file reads to the same meaning, or
raises `Refused`.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import math
import re
import reprlib
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np

from recsys.schema.errors import InputError
from recsys.schema.requests import FieldKind, RequestLimits
from recsys.schema.values import (
    INSTANT,
    MINUS,
    NULL_WORDS,
    NumberStyle,
    is_missing,
    number_of,
    plain_instant,
)

Reader = Callable[[Any], Any]

_LEAST, _GREATEST = -(2**63), 2**63 - 1
# Python spells out no whole number of more digits unasked, for the time that it takes.
_MOST_DIGITS_BITS = 14_000
# What spells out more is no number that a float holds.
_NUMBER_CHARACTERS = 300
_STYLES: tuple[NumberStyle, ...] = ("point", "comma")
_LISTS = (list, tuple, np.ndarray)
_BLANKS = " \t\n\v\f\r"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_INSTANT = re.compile(INSTANT)


class Refused(ValueError):  # noqa: N818 (never leaves this folder: `RequestError` does)
    """A value is not what it must be; the message says what that is."""


class RequestError(InputError):
    """A request that a bundle does not answer.

    Args:
        message: what was expected and what was received.
        field: the argument or the field of a record that it is about, as in `user.age`.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def readers_of(limits: RequestLimits) -> dict[FieldKind, Reader]:
    """Returns the reader of each kind of field."""
    return {
        "id": functools.partial(_one_value, most_characters=limits.category_characters),
        "text": functools.partial(_one_value, most_characters=limits.text_characters),
        "list": functools.partial(_list, limits=limits),
        "number": _number,
        "time": functools.partial(read_instant, limits=limits),
        "vector": functools.partial(_vector, limits=limits),
    }


def read_id(value: Any) -> Any:
    """A user's or an item's id as text or a whole number; None where no bundle can know it.

    Digits of any number are an id. One beyond what Python spells out is nobody's.
    """
    kind = type(value)
    if kind is str:
        return _encodable(value)
    if kind is int:
        return value if _LEAST <= value <= _GREATEST else _digits(value)
    return _one_value(value, None)


def shown(value: Any) -> str:
    """A value for a message, cut short."""
    short = reprlib.Repr()
    short.maxstring, short.maxother, short.maxlong = 80, 80, 40
    try:
        text = short.repr(value)
    except ValueError:  # a whole number of more digits than Python spells out
        text = f"a whole number of {value.bit_length()} bits"
    return f"{text} ({type(value).__name__})"


def _one_value(value: Any, most_characters: int | None) -> Any:
    value = _plain(value)
    if isinstance(value, str):
        if most_characters is not None and len(value) > most_characters:
            raise Refused(f"text of at most {most_characters} characters")
        return _encodable(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if _LEAST <= value <= _GREATEST else _digits(value)
    raise Refused("one value: text, a number, a truth value or None")


def _number(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if _LEAST <= value <= _GREATEST:
            return value
        # What a float cannot hold either is as if it were not given.
        return float(value) if value.bit_length() < 1_000 else None
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, str) and len(value) <= _NUMBER_CHARACTERS:
        bare = value.strip(_BLANKS).replace(MINUS, "-")
        if is_missing(bare):
            return None
        if _NUMBER.fullmatch(bare):
            return bare
        # As tables have them: `€4.48`, `12,50`, `45 %`; `$1,234` may be either of two.
        read = {number_of(bare, style) for style in _STYLES} - {None}
        if len(read) == 1:
            return read.pop()
    raise Refused("a number, its digits as text, or None")


def read_instant(value: Any, limits: RequestLimits) -> Any:
    """A timestamp as a number or as text that the file can read; None for none."""
    value = _plain(value)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_of_instant(value, limits)
    if isinstance(value, str) and len(value) <= 100:
        bare = plain_instant(value.strip(_BLANKS))
        if is_missing(bare):
            return None
        if _NUMBER.fullmatch(bare):
            return None if _number_of_instant(float(bare), limits) is None else bare
        if _is_instant(bare):
            return bare
    raise Refused("an instant: a number, ISO 8601 text (`2026-05-31T13:45:10+02:00`) or None")


def _number_of_instant(number: float, limits: RequestLimits) -> float | None:
    """The number where it can be an instant in the unit of the data; None for NaN."""
    if limits.instant_to:
        if isinstance(number, float) and math.isnan(number):
            return None
        if not limits.instant_from <= number <= limits.instant_to:
            raise Refused(
                f"an instant in the unit of the data, a number from {limits.instant_from} to "
                f"{limits.instant_to}, or ISO 8601 text (`2026-05-31T13:45:10+02:00`)"
            )
    return number if isinstance(number, float) or _LEAST <= number <= _GREATEST else None


def _is_instant(text: str) -> bool:
    parts = _INSTANT.search(text)
    if parts is None:
        return False
    year, month, day = int(parts[1]), int(parts[2] or parts[3]), int(parts[4])
    hour, minute, second = (int(parts[at] or 0) for at in (5, 6, 7))
    try:
        datetime.datetime(max(year, 1), month, day, hour, minute, second)
    except ValueError:
        return False
    return True


def _list(value: Any, limits: RequestLimits) -> Any:
    """A list that TorchScript can take: of one type, or None in place of an empty one."""
    if not isinstance(value, _LISTS):
        return _one_value(value, limits.text_characters)
    if len(value) > limits.list_values:
        raise Refused(f"a list of at most {limits.list_values} values")
    parts = [_one_value(part, limits.category_characters) for part in value]
    kinds = {type(part) for part in parts} - {type(None)}
    if not kinds:
        return None
    if kinds == {str} and sum(len(part) for part in parts if part) > limits.text_characters:
        raise Refused(f"a list of at most {limits.text_characters} characters")
    if len(kinds) == 1 and bool not in kinds:
        return parts
    return [as_text(part) for part in parts]


def _vector(value: Any, limits: RequestLimits) -> list[float] | None:
    """An embedding made elsewhere; None where it is missing. How long it must be the file knows."""
    if value is None:
        return None
    if not isinstance(value, _LISTS) or len(value) > limits.list_values:
        raise Refused(f"a list of at most {limits.list_values} numbers, or None")
    numbers = [_plain(part) for part in value]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise Refused("a list of numbers, or None")
    found = [float(number) if abs(number) < 1e300 else math.inf for number in numbers]
    if not all(map(math.isfinite, found)):
        raise Refused("a list of finite numbers, or None")
    return found or None


def as_text(value: Any) -> str | None:
    """A plain value as the file reads it as text; see `as_text` of the file."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        if not abs(value) <= 2.0**53:
            return None
        text = str(int(value)) if value.is_integer() else repr(value)
        return None if "e" in text else text
    return str(value)


def _plain(value: Any) -> Any:
    """NumPy's scalars, instants, decimals, UUIDs, enumerations, what pandas misses: as plain Python."""
    if isinstance(value, str):
        return str.__str__(value)  # `str` of a member of an enumeration is its name
    if type(value).__name__ == "NAType":
        return None
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, datetime.date):
        # The missing instant of pandas is one, and equal to nothing.
        return value.isoformat() if value == value else None
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _encodable(text: str) -> str | None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refused("text that UTF-8 can write; it holds half of a surrogate pair") from None
    return None if text in NULL_WORDS else text


def _digits(number: int) -> str | None:
    return str(number) if number.bit_length() <= _MOST_DIGITS_BITS else None
