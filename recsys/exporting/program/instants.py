"""Instants: timestamps as requests bring them, as microseconds or seconds since 1970 (UTC).

Runs the same in Python and as TorchScript, and reads what preparing reads (`recsys.data.reading.instants`).
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)

from typing import Any, Optional, Tuple

from recsys.exporting.program.values import as_text, parse_integer, parse_number, stripped


def as_seconds(value: Any, per_second: int, field: str) -> Optional[int]:
    """Whole seconds since 1970 (rounded down) of a timestamp, see `as_microseconds`."""
    microseconds = as_microseconds(value, per_second, field)
    return None if microseconds is None else microseconds // 1000000


def as_microseconds(value: Any, per_second: int, field: str) -> Optional[int]:
    """Microseconds since 1970 of a timestamp; None when it is missing or can't be read.

    Args:
        value: a number or its text, `per_second` of them to a second; or ISO 8601 text
            (2024-05-31, 2024-05-31 13:45, 2024-05-31T13:45:10.5+02:00), UTC where it names no offset.
        per_second: 1, 1_000, 1_000_000 or 1_000_000_000.
        field: named in errors.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return _from_whole(value, per_second)
    if isinstance(value, float):
        return _from_fraction(value, per_second)
    text = as_text(value, field)
    if text is None:
        return None
    bare = stripped(text)
    exact = parse_integer(bare)
    if exact is not None:
        return _from_whole(exact, per_second)
    number = parse_number(bare)
    if number is not None:
        return _from_fraction(number, per_second)
    return _parse_iso(bare)


def _from_whole(number: int, per_second: int) -> Optional[int]:
    """Microseconds in `number`; finer parts are cut off."""
    if _within_years(number // per_second) is None:
        return None
    return number // 1000 if per_second > 1000000 else number * (1000000 // per_second)


def _from_fraction(number: float, per_second: int) -> Optional[int]:
    """Microseconds in `number`, rounded."""
    microseconds = number * (1e6 / float(per_second))
    if not abs(microseconds) < 9e18:  # NaN fails too
        return None
    rounded = int(round(microseconds))  # noqa: RUF046 (a float in TorchScript)
    return None if _within_years(rounded // 1000000) is None else rounded


def _within_years(seconds: int) -> Optional[int]:
    """`seconds` when they lie in the years 0 to 9999; beyond them an instant is a mistake."""
    return seconds if seconds >= -62167219200 and seconds <= 253402300799 else None


def _parse_iso(text: str) -> Optional[int]:
    """Microseconds since 1970 of ISO 8601 text; one digit may do for month, day, hour; a slash for a dash."""
    year, at = _read_digits(text, 0, 4)
    if at >= len(text) or (text[at] != "-" and text[at] != "/"):
        return None
    separator = text[at]
    month, at = _read_digits(text, at + 1, 2)
    if at >= len(text) or text[at] != separator:
        return None
    day, at = _read_digits(text, at + 1, 2)
    if year < 0 or month < 1 or month > 12 or day < 1 or day > _days_of(year, month):
        return None
    midnight = _days_since_1970(year, month, day) * 86400000000
    if at == len(text):
        return midnight
    if text[at] != "T" and text[at] != "t" and text[at] != " ":
        return None
    of_day = _parse_clock(text[at + 1 :])
    return None if of_day is None else midnight + of_day


def _parse_clock(text: str) -> Optional[int]:
    """Microseconds since midnight UTC of HH:MM, HH:MM:SS or HH:MM:SS.fraction with an optional offset."""
    hour, at = _read_digits(text, 0, 2)
    if at >= len(text) or text[at] != ":":
        return None
    minute, at = _read_digits(text, at + 1, 2)
    second = 0
    microsecond = 0
    if at < len(text) and text[at] == ":":
        second, at = _read_digits(text, at + 1, 2)
        if at < len(text) and text[at] == ".":
            begin = at + 1
            _, at = _read_digits(text, begin, 9)
            if at > begin:
                # Nine digits after the point are nanoseconds.
                microsecond = int(text[begin:at] + "000000000"[at - begin :]) // 1000
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return None
    ahead = _parse_offset(stripped(text[at:]))
    if ahead is None:
        return None
    return (hour * 3600 + minute * 60 + second - ahead) * 1000000 + microsecond


def _parse_offset(text: str) -> Optional[int]:
    """Seconds that a local clock with this offset (Z, UTC, +02, +02:00, +0200 or none) is ahead of UTC."""
    if len(text) == 0 or text == "Z" or text == "z" or text == "UTC":
        return 0
    if text[0] != "+" and text[0] != "-":
        return None
    hours, at = _read_digits(text, 1, 2)
    minutes = 0
    if at < len(text):
        minutes, at = _read_digits(text, at + 1 if text[at] == ":" else at, 2)
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59 or at < len(text):
        return None
    ahead = hours * 3600 + minutes * 60
    return -ahead if text[0] == "-" else ahead


def _read_digits(text: str, begin: int, at_most: int) -> Tuple[int, int]:
    """The number that up to `at_most` digits from `begin` on spell, -1 without one, and where they end."""
    end = begin
    while end < len(text) and end - begin < at_most and ord(text[end]) >= 48 and ord(text[end]) <= 57:
        end += 1
    return int(text[begin:end]) if end > begin else -1, end


def _days_of(year: int, month: int) -> int:
    """Days of a month."""
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if leap else 28
    return 30 if month in [4, 6, 9, 11] else 31


def _days_since_1970(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01, in the Gregorian calendar."""
    # Years that begin in March put the leap day last; 719468 days lie between 0000-03-01 and 1970-01-01.
    shifted = year - 1 if month <= 2 else year
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400 + day_of_year - 719468
