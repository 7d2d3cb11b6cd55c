"""Reads raw values of tables and requests: ids, numbers, truth values, lists and what is missing.

Everything that reads a value keeps to these rules: reading of tables (in DuckDB, whose regular expressions
are those here) and requests to a bundle (in TorchScript).

| written | is |
|---|---|
| `""`, `null`, `NaN`, `n/a`, `-` ... (`NULL_WORDS`) | missing |
| `5`, `-5`, 5, `5.0` in a column of whole numbers | the whole number 5 |
| `007`, `0044`, `1E2`, `+4912345678`, 19 digits and more | text: a code |
| `1.5`, `.5`, `1.5e3`, `1e-05`, `−5` (a Unicode minus) | a number |
| `1,234.5`, `1 234`, `1.234,50`, `12,50`, `€4.48`, `45 %` | a number, where a whole column is written so |
| `true`, `True`, `TRUE`, JSON `true` | the truth value `True`, which is 1 |
| `yes`, `y`, `t`, `on`, `no` ... | text, but 1 and 0 where a whole column of labels is written so |
| `["a", "b"]`, `['a', 'b']`, `{a,b}`, `('a',)` | a list, where a whole column is written so |
| `2024-05-31`, `2024-05-31T13:45:10+02:00`, `20240531T134510,5 +0200` | an instant, in a column of instants |
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Literal

# How others write that there is no value.
NULL_WORDS = (
    *("null", "NULL", "Null", "nan", "NaN", "NAN", "None", "NA", "N/A", "n/a", "\\N", "<NA>", "NaT"),
    *("#N/A", "#NA", "-", "--"),
)
TRUE_WORDS = ("True", "true", "TRUE")
FALSE_WORDS = ("False", "false", "FALSE")
# Of labels, whose column is meant to hold truth values or numbers.
YES_WORDS = ("yes", "y", "t", "on")
NO_WORDS = ("no", "n", "f", "off")

# Regular expressions that Python and RE2 read alike. A leading zero means something ("007", zip codes), so
# such a value is no integer.
INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
WHOLE = r"^(0|-?[1-9][0-9]{0,17})\.0+$"
MINUS = "\u2212"
NUMBER = rf"^[-+{MINUS}]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+{MINUS}]?[0-9]+)?$"
CODE = r"^(-?0[0-9]+|[0-9]+[eE][0-9]+|\+[0-9]{7,}|-?[0-9]{19,})$"
# How a spreadsheet shows long digits, and then writes them.
SHORTENED = r"^-?[0-9][.,][0-9]+E\+[0-9]{2,}$"
LIST = r"^\s*(\[[^{}]*\]|\([^(){}]*,[^(){}]*\)|\{[^{}:]*\})\s*$"
OBJECTS = r"^\s*(\[\s*)?\{.*:.*\}(\s*\])?\s*$"

_SPACES = " \u00a0\u202f'\u2019"
_CURRENCY = r"(?:[A-Z]{0,2}[$€£¥₹₽₩]|USD|EUR|GBP|JPY|CNY|INR|CHF|AUD|CAD|SEK|NOK|DKK|PLN|BRL|kr|zł|Fr\.)"
# Currency at either end, behind a sign or before it, and blanks about it.
MONEY = rf"^([-+{MINUS}]?)\s*{_CURRENCY}\s*|\s*{_CURRENCY}$"
PERCENT = r"\s*%$"
HAS_CURRENCY = rf"^[-+{MINUS}]?\s*{_CURRENCY}|{_CURRENCY}$"

NumberStyle = Literal["plain", "point", "comma"]


def _grouped(separators: str, decimal: str) -> str:
    return (
        rf"^[-+{MINUS}]?(?:[1-9][0-9]{{0,2}}(?:[{separators}][0-9]{{3}})+|0|[1-9][0-9]*)(?:{decimal}[0-9]+)?$"
    )


# By what stands before the fraction: numbers that may be written with groups of three digits.
STYLES: Mapping[NumberStyle, str] = {
    "plain": NUMBER,
    "point": _grouped(",_" + _SPACES, r"\."),
    "comma": _grouped("." + _SPACES, ","),
}
# Characters that mean nothing in a number of each style.
SEPARATORS: Mapping[NumberStyle, str] = {
    "plain": "",
    "point": rf"[,_{_SPACES}]",
    "comma": rf"[.{_SPACES}]",
}
# The elements of a list in text: in quotation marks of either kind, or bare.
ELEMENT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s,'"\[\](){}](?:[^,'"\[\](){}]*[^\s,'"\[\](){}])?"""

# ISO 8601 with a dash or a slash, as every reader takes it; groups: year, month (either), day, and of the
# clock hour, minute, second.
INSTANT = (
    r"^([0-9]{1,4})(?:-([0-9]{1,2})-|/([0-9]{1,2})/)([0-9]{1,2})"
    r"(?:[T ]([0-9]{1,2}):([0-9]{1,2})(?::([0-9]{1,2})(?:\.[0-9]*)?)?"
    r"\s*(?:Z|UTC|[+-][0-9]{1,2}(?::?[0-9]{2})?)?)?$"
)
# Unasked, an instant before it is a mistake: of the unit, or a placeholder such as 0.
FIRST_YEAR = 1990
_CLOCK_END = r"(:[0-9]{2}(?:\.[0-9]+)?)"
# What else people write of ISO 8601, as text that INSTANT matches: patterns, replaced one after the other.
INSTANT_FORMS = (
    (MINUS, "-"),
    (r"^([0-9]{4})([0-9]{2})([0-9]{2})[Tt ]", r"\1-\2-\3T"),
    (r"^([0-9]{4}[-/][0-9]{2}[-/][0-9]{2})[Tt ]([0-9]{2})([0-9]{2})([0-9]{2})", r"\1T\2:\3:\4"),
    (r"^([0-9]{4}[-/][0-9]{2}[-/][0-9]{2})[Tt ]([0-9]{2})([0-9]{2})", r"\1T\2:\3"),
    (r"^([0-9/-]+)t", r"\1T"),
    (r"(:[0-9]{2}),([0-9])", r"\1.\2"),
    (_CLOCK_END + r"\s*(?:[Zz]|UTC|GMT|utc|gmt)$", r"\1Z"),
    (_CLOCK_END + r"\s+([+-])", r"\1\2"),
)


def plain_instant(text: str) -> str:
    """Text of an instant as `INSTANT` has it, where it is written in one of `INSTANT_FORMS`.

    >>> plain_instant("20240123T204358,5 +0100")
    '2024-01-23T20:43:58.5+0100'
    """
    for pattern, plain in INSTANT_FORMS:
        text = re.sub(pattern, plain, text)
    return text


def is_missing(text: str) -> bool:
    """True for empty text and the words for null."""
    return text == "" or text in NULL_WORDS


def number_of(text: str, style: NumberStyle = "plain") -> float | None:
    """The finite number that text spells; None where it spells none.

    >>> number_of("1,234.5", "point"), number_of("12,50 €", "comma"), number_of("45 %", "point")
    (1234.5, 12.5, 0.45)
    """
    bare = text.strip()
    is_percent = style != "plain" and re.search(PERCENT, bare) is not None
    if style != "plain":
        bare = re.sub(MONEY, r"\1", re.sub(PERCENT, "", bare))
    if not re.search(STYLES[style], bare):
        return None
    bare = re.sub(SEPARATORS[style], "", bare) if SEPARATORS[style] else bare
    number = float(bare.replace(",", ".").replace(MINUS, "-"))
    if not math.isfinite(number):
        return None
    return number / 100 if is_percent else number


@dataclasses.dataclass(frozen=True)
class TextCounts:
    """Counts the values of a column of text, and those of them that are written in each way.

    Args:
        values: that are not missing.
        integers, whole, plain, point, comma: numbers, see above; `whole` are like `3.0`.
        codes: with leading zeros and the like.
        truths: truth values.
        answers: yes and no.
        lists, objects: JSON or Python lists, and such of objects.
        money: numbers with a currency.
        shortened: digits that a spreadsheet has shortened; only counted of ids.
    """

    values: int = 0
    integers: int = 0
    whole: int = 0
    plain: int = 0
    point: int = 0
    comma: int = 0
    codes: int = 0
    truths: int = 0
    answers: int = 0
    lists: int = 0
    objects: int = 0
    money: int = 0
    shortened: int = 0


Kind = Literal["empty", "integer", "number", "truth", "answer", "list", "objects", "text"]
# Of the values of a column of numbers, how many must read as numbers; the others are missing then.
NUMBER_SHARE = 0.9


@dataclasses.dataclass(frozen=True)
class TextKind:
    """Says what a column of text is taken for, and why, in words.

    Args:
        kind: integers, numbers, truth values, lists, text ...
        style: of numbers.
        num_read: how many values can be read so.
        num_values: how many there are that are not missing.
        why: a few words.
    """

    kind: Kind
    num_read: int
    why: str
    style: NumberStyle = "plain"
    num_values: int = 0


def kind_of_text(counts: TextCounts) -> TextKind:
    """Decides what a column of text holds.

    One code ("007") makes text of it: codes of the same column that look like numbers are not their values.
    Numbers with a few others between them stay numbers.
    """
    values = counts.values
    others: tuple[tuple[Kind, int, float, str], ...] = (
        ("empty", 0, 1.0, "no value"),
        ("truth", counts.truths, 1.0, "true and false"),
        ("answer", counts.answers, 1.0, "yes and no"),
        ("list", counts.lists, NUMBER_SHARE, "lists written as text"),
        ("objects", counts.objects, NUMBER_SHARE, "objects written as text"),
    )
    for kind, count, share, why in others:
        if count >= share * values:
            return TextKind(kind, count, why, num_values=values)
    if counts.codes:
        return TextKind("text", values, "codes, such as numbers with leading zeros", num_values=values)
    return _number_kind(counts) or TextKind("text", values, "words", num_values=values)


def _number_kind(counts: TextCounts) -> TextKind | None:
    enough = NUMBER_SHARE * counts.values
    if counts.integers >= enough and counts.integers + counts.whole >= counts.plain:
        kind: Kind = "number" if counts.whole else "integer"
        return TextKind(kind, counts.integers + counts.whole, "whole numbers", num_values=counts.values)
    if max(counts.integers, counts.plain) >= enough:
        return TextKind("number", counts.plain, "numbers", num_values=counts.values)
    num_read = max(counts.point, counts.comma)
    if num_read < enough:
        return None
    # Where both fit, as in `1,234`, groups of three digits are likelier than three decimals.
    style: NumberStyle = "comma" if counts.comma > counts.point else "point"
    what = "amounts of money" if counts.money else "numbers"
    why = f"{what} with a decimal {style}"
    return TextKind("number", num_read, why, style, num_values=counts.values)
