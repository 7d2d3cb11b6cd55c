"""Reads raw values of tables and requests: ids, numbers, truth values, lists and what is missing.

Everything that reads a value keeps to these rules: reading of tables (in DuckDB, whose regular expressions
are those here) and requests to a bundle (in TorchScript, tested against the functions here).

| written | is |
|---|---|
| `""`, `null`, `NaN`, `n/a`, `-` ... (`NULL_WORDS`) | missing |
| `5`, `-5`, 5, `5.0` in a column of whole numbers | the whole number 5 |
| `007`, `0044`, `1E2`, `+4912345678`, 19 digits and more | text: a code |
| `1.5`, `.5`, `1.5e3`, `1e-05` | a number |
| `1,234.5`, `1 234`, `1.234,50`, `12,50`, `€4.48`, `45 %` | a number, where a whole column is written so |
| `true`, `True`, `TRUE`, JSON `true` | the truth value `True`, which is 1 |
| `yes`, `y`, `t`, `on`, `no` ... | text, but 1 and 0 where a whole column of labels is written so |
| `["a", "b"]`, `['a', 'b']`, `{a,b}`, `('a',)` | a list, where a whole column is written so |
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
NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
CODE = r"^(-?0[0-9]+|[0-9]+[eE][0-9]+|\+[0-9]{7,}|-?[0-9]{19,})$"
LIST = r"^\s*(\[[^{}]*\]|\([^(){}]*,[^(){}]*\)|\{[^{}:]*\})\s*$"
OBJECTS = r"^\s*(\[\s*)?\{.*:.*\}(\s*\])?\s*$"

_SPACES = " \u00a0\u202f'\u2019"
_CURRENCY = r"(?:[A-Z]{0,2}[$€£¥₹₽₩]|USD|EUR|GBP|JPY|CNY|INR|CHF|AUD|CAD|SEK|NOK|DKK|PLN|BRL|kr|zł|Fr\.)"
# Currency at either end, behind a sign or before it, and blanks about it.
MONEY = rf"^([-+]?)\s*{_CURRENCY}\s*|\s*{_CURRENCY}$"
PERCENT = r"\s*%$"
HAS_CURRENCY = rf"^[-+]?\s*{_CURRENCY}|{_CURRENCY}$"

NumberStyle = Literal["plain", "point", "comma"]


def _grouped(separators: str, decimal: str) -> str:
    return rf"^[-+]?(?:[1-9][0-9]{{0,2}}(?:[{separators}][0-9]{{3}})+|0|[1-9][0-9]*)(?:{decimal}[0-9]+)?$"


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


def is_missing(text: str) -> bool:
    """True for empty text and the words for null."""
    return text == "" or text in NULL_WORDS


def as_known_text(value: object) -> str | None:
    """A value as the text that stands for it in vocabularies; None where it is missing.

    >>> [as_known_text(value) for value in (True, "true", 5.0, 7, "007", "n/a", float("nan"))]
    ['True', 'True', '5', '7', '007', None, None]
    """
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    text = str(value) if value is not None else ""
    if is_missing(text):
        return None
    return "True" if text in TRUE_WORDS else "False" if text in FALSE_WORDS else text


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
    found = float(bare.replace(",", "."))
    if not math.isfinite(found):
        return None
    return found / 100 if is_percent else found


def elements_of(text: str) -> list[str] | None:
    """The elements of a list written as text; None where it is none.

    >>> elements_of("['War', 'Sci-Fi']"), elements_of("[18, 35]"), elements_of("War, Drama")
    (['War', 'Sci-Fi'], ['18', '35'], None)
    """
    if not re.search(LIST, text):
        return None
    found = [
        re.sub(r"\\(.)", r"\1", element.strip("'\"")) for element in re.findall(ELEMENT, text.strip()[1:-1])
    ]
    return [element for element in found if not is_missing(element)]


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
    return dataclasses.replace(_kind_of_text(counts), num_values=counts.values)


def _kind_of_text(counts: TextCounts) -> TextKind:
    values = counts.values
    if not values:
        return TextKind("empty", 0, "no value")
    others: tuple[tuple[Kind, int, float, str], ...] = (
        ("truth", counts.truths, 1.0, "true and false"),
        ("answer", counts.answers, 1.0, "yes and no"),
        ("list", counts.lists, NUMBER_SHARE, "lists written as text"),
        ("objects", counts.objects, NUMBER_SHARE, "objects written as text"),
    )
    for kind, count, share, why in others:
        if count >= share * values:
            return TextKind(kind, count, why)
    if counts.codes:
        return TextKind("text", values, "codes, such as numbers with leading zeros")
    return _number_kind(counts) or TextKind("text", values, "words")


def _number_kind(counts: TextCounts) -> TextKind | None:
    values = counts.values
    if counts.integers >= NUMBER_SHARE * values:
        if counts.integers + counts.whole >= counts.plain:
            kind: Kind = "number" if counts.whole else "integer"
            return TextKind(kind, counts.integers + counts.whole, "whole numbers")
        return TextKind("number", counts.plain, "numbers")
    if counts.plain >= NUMBER_SHARE * values:
        return TextKind("number", counts.plain, "numbers")
    if max(counts.point, counts.comma) >= NUMBER_SHARE * values:
        # Where both fit, as in `1,234`, groups of three digits are likelier than three decimals.
        style: NumberStyle = "comma" if counts.comma > counts.point else "point"
        what = "amounts of money" if counts.money else "numbers"
        mark = "a decimal comma" if style == "comma" else "a decimal point"
        return TextKind("number", max(counts.point, counts.comma), f"{what} with {mark}", style)
    return None
