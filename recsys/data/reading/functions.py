"""Functions of values that engines write differently, under one name each.

An engine defines them when it starts: DuckDB as macros, Spark as SQL functions. Where Spark reads or writes a
value otherwise, its workers ask DuckDB for batches of values, so that both give the same rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import ibis

from recsys.schema.values import INSTANT_FORMS

# Quotes around an element of a list, and a character behind a backslash.
QUOTES, ESCAPED = r"^[\x27\x22]|[\x27\x22]$", r"\\(.)"


def _plain_instant(text: str) -> str:
    """DuckDB's expression of `recsys.schema.values.plain_instant`."""
    for pattern, plain in INSTANT_FORMS:
        text = f"regexp_replace({text}, '{pattern}', '{plain}')"
    return text


# DuckDB's expression of each function: of x, and of y where there are two arguments.
DEFINITIONS = {
    "recsys_floor": "floor(x)",
    "recsys_epoch_us": "epoch_us(x)",
    "recsys_draw": "CAST(md5_number_lower(x) // 4096 AS BIGINT)",
    "recsys_first_groups": r"regexp_replace(x, y, '\1', 'g')",
    "recsys_elements": (
        rf"[regexp_replace(regexp_replace(e, '{QUOTES}', '', 'g'), '{ESCAPED}', '\1', 'g') "
        "FOR e IN regexp_extract_all(x, y)]"
    ),
    "recsys_iso_us": (
        f"epoch_us(coalesce(TRY_CAST(x AS TIMESTAMPTZ), TRY_CAST({_plain_instant('x')} AS TIMESTAMPTZ)))"
    ),
    "recsys_strptime_us": "epoch_us(try_strptime(x, y))",
    "recsys_iso_text": "strftime(make_timestamp(x), '%Y-%m-%dT%H:%M:%S.%fZ')",
    "recsys_float_text": "CAST(x AS VARCHAR)",
    "recsys_float32_text": "CAST(x AS VARCHAR)",
    "recsys_instant_text": "CAST(make_timestamp(x) AS VARCHAR)",
    "recsys_nfc": "nfc_normalize(x)",
}
TWO_ARGUMENTS = frozenset(("recsys_first_groups", "recsys_elements", "recsys_strptime_us"))


def microseconds(instant: ibis.Value) -> ibis.Value:
    """Microseconds since 1970 (UTC) of a timestamp, int64; finer parts are cut off."""
    return _epoch_us(instant.cast("timestamp('UTC')"))


def floor(number: ibis.Value) -> ibis.Value:
    """The next lower whole number as float64; Ibis's own makes an int64 of it and fails beyond."""
    return _floor(number.cast("float64"))


def finite(number: ibis.Value) -> ibis.Value:
    """The number, null where it is NaN or an infinity."""
    # NaN is above all numbers in both engines; Ibis's own test for infinities misses some of Spark's.
    is_finite = number.cast("float64").abs() <= sys.float_info.max
    return is_finite.ifelse(number, ibis.null(number.type()))


def draw(key: ibis.Value) -> ibis.Value:
    """A number in [0, 2^52) drawn from the MD5 of a string: the same on every machine, in every version."""
    return _draw(key)


def text_of(value: ibis.Value) -> ibis.Value:
    """A value as text: floats with as few digits as tell them from the next, instants with a blank for T."""
    kind = value.type()
    if kind.is_floating():
        # Spark's workers do not tell NaN from null.
        text = _float32_text(value) if kind.is_float32() else _float_text(value)
        return value.isnan().ifelse("nan", text)
    if kind.is_timestamp() and kind.scale != _NANOSECONDS:
        text = _instant_text(microseconds(value))
        return text if kind.timezone is None else text + "+00"
    return value.cast("string")


_NANOSECONDS = 9


def engine_function(name: str, *arguments: str, result: str) -> Callable[..., Any]:
    """A function of the engine that Ibis does not know, of one argument or two.

    Args:
        name: of the function.
        arguments: their types.
        result: type of its value.
    """
    stand_in: Any = (lambda first: None) if len(arguments) == 1 else (lambda first, second: None)
    function: Callable[..., Any] = ibis.udf.scalar.builtin(stand_in, name=name, signature=(arguments, result))
    return function


_floor = engine_function("recsys_floor", "float64", result="float64")
_epoch_us = engine_function("recsys_epoch_us", "timestamp('UTC')", result="int64")
_draw = engine_function("recsys_draw", "string", result="int64")
_float_text = engine_function("recsys_float_text", "float64", result="string")
_float32_text = engine_function("recsys_float32_text", "float32", result="string")
_instant_text = engine_function("recsys_instant_text", "int64", result="string")
# Parts of text that a regular expression matches, without quotes around them and escapes.
elements = engine_function("recsys_elements", "string", "string", result="array<string>")
# Text in which the first group of each match of a regular expression stands for the match.
first_groups = engine_function("recsys_first_groups", "string", "string", result="string")
# Microseconds since 1970 of ISO text, UTC where it names no zone, and of text in a form of `strptime`.
iso_microseconds = engine_function("recsys_iso_us", "string", result="int64")
strptime_microseconds = engine_function("recsys_strptime_us", "string", "string", result="int64")
# ISO text of microseconds since 1970, in UTC.
iso_text = engine_function("recsys_iso_text", "int64", result="string")
# Text with accents composed (Unicode NFC).
nfc = engine_function("recsys_nfc", "string", result="string")
