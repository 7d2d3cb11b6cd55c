"""Raw values as requests bring them, read as text, whole numbers, numbers or pieces.

Everything here runs the same in Python and as TorchScript. A value that can't be read as what a feature wants
is None, and answered like a missing one; a list where one value is wanted is an error that names the field.

NOTE: TorchScript iterates a string by UTF-8 bytes where Python does so by characters.

NOTE: in a nested block, torch 2.13 miscompiles `f(a, b)` where `b` comes out of a loop that reads `a`, when
nothing else is carried out of the loop and nothing else reads `b`: the loop is moved between the operands,
after `a` was given up. `tests/exporting/test_graphs.py` searches all that is scripted for it.
"""
# ruff: noqa: UP006, UP035, UP045, PERF402 (scripted)
# mypy: allow-untyped-calls, no-warn-return-any

from typing import Any, List, Optional

import torch


def as_text(value: Any, field: str) -> Optional[str]:
    """`value` as text, None when that is empty; 17.0 is `17`, truth values are `True` and `False`."""
    if isinstance(value, str):
        # TorchScript copies a text to compare it.
        size = len(value)
        if size == 4 and (value == "true" or value == "TRUE"):
            return "True"
        if size == 5 and (value == "false" or value == "FALSE"):
            return "False"
        return value if size > 0 else None
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _decimal_text(value)
    if torch.jit.isinstance(value, Optional[int]):
        return None
    raise ValueError(f"`{field}` must be one value: text, a number or None; got a list or another collection")


def as_integer(value: Any, field: str) -> Optional[int]:
    """`value` as a whole number: 17, 17.0, "17" and " 17.0 " are 17; truth values are 1 and 0."""
    if isinstance(value, bool):
        return 1 if value else 0
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return _whole(value)
    text = as_text(value, field)
    if text is None:
        return None
    if text == "True" or text == "False":
        return 1 if text == "True" else 0
    bare = stripped(text)
    exact = parse_integer(bare)
    if exact is not None:
        return exact
    number = parse_number(bare)
    return None if number is None else _whole(number)


def as_digits_or_text(value: Any, field: str, is_integer: bool) -> Optional[str]:
    """`value` as the text that it is told from others by: digits where the raw column holds whole numbers."""
    if is_integer:
        number = as_integer(value, field)
        return None if number is None else str(number)
    return as_text(value, field)


def as_number(value: Any, field: str) -> Optional[float]:
    """`value` as a finite number; truth values are 1 and 0."""
    if isinstance(value, bool):
        return 1.0 if value else 0.0
    if isinstance(value, int):
        return float(value)
    if isinstance(value, float):
        return value if abs(value) < 1e300 else None  # NaN compares false
    text = as_text(value, field)
    return None if text is None else parse_number(stripped(text))


def as_pieces(value: Any, delimiter: str, field: str) -> List[str]:
    """The values of a list or of a delimited string, without blanks around them; empty ones are left out."""
    found: List[Any] = []
    if isinstance(value, str):
        for part in value.split(delimiter):
            found.append(part)
    elif is_list(value):
        found = elements(value)
    else:
        found.append(value)
    pieces: List[str] = []
    for element in found:
        text = as_text(element, field)
        bare = stripped(text) if text is not None else ""
        if len(bare) > 0:
            pieces.append(bare)
    return pieces


def is_list(value: Any) -> bool:
    """True for a list of text, of whole numbers or of fractions, None among them allowed."""
    if torch.jit.isinstance(value, (List[str], List[int], List[float], List[None])):
        return True
    return torch.jit.isinstance(value, (List[Optional[str]], List[Optional[int]], List[Optional[float]]))


def elements(value: Any) -> List[Any]:
    """Returns the elements of such a list."""
    found: List[Any] = []
    if torch.jit.isinstance(value, List[str]):
        for text in value:
            found.append(text)
    elif torch.jit.isinstance(value, List[int]):
        for number in value:
            found.append(number)
    elif torch.jit.isinstance(value, List[float]):
        for fraction in value:
            found.append(fraction)
    else:
        found = _elements_or_none(value)
    return found


def _elements_or_none(value: Any) -> List[Any]:
    """Returns the elements of a list that holds None too."""
    found: List[Any] = []
    if torch.jit.isinstance(value, List[Optional[str]]):
        for text in value:
            found.append(text)
    elif torch.jit.isinstance(value, List[Optional[int]]):
        for number in value:
            found.append(number)
    elif torch.jit.isinstance(value, List[Optional[float]]):
        for fraction in value:
            found.append(fraction)
    elif torch.jit.isinstance(value, List[None]):
        for nothing in value:
            found.append(nothing)
    return found


def parse_integer(text: str) -> Optional[int]:
    """The whole number that `text` spells in digits, when it fits 64 bits."""
    # Reading a text character by character takes TorchScript the square of its length.
    if len(text) > 1000:
        return None
    is_signed = len(text) > 1 and (text[0] == "-" or text[0] == "+")
    digits = text[1:] if is_signed else text
    if not _are_digits(digits):
        return None
    significant = "0" + digits.lstrip("0")
    if len(significant) > 20 or (len(significant) == 20 and significant > "09223372036854775807"):
        return None
    return -int(significant) if text[0] == "-" else int(significant)


def parse_number(text: str) -> Optional[float]:
    """The finite number that `text` spells, as 12, -1.5, .5 or 2e-3."""
    if len(text) > 1000:
        return None
    # TorchScript's float() raises on what it can't read or hold, and that can't be caught: ask first.
    parts = text.lower().split("e")
    exponent: Optional[int] = 0
    if len(parts) == 2:
        exponent = parse_integer(parts[1])
    mantissa = parts[0]
    if len(mantissa) > 0 and (mantissa[0] == "-" or mantissa[0] == "+"):
        mantissa = mantissa[1:]
    digits = mantissa.split(".")
    if len(parts) > 2 or exponent is None or len(digits) > 2 or not _are_digits("".join(digits)):
        return None
    if len(mantissa) + abs(exponent) > 300:
        return 0.0 if exponent < 0 else None
    return float(text)


def _are_digits(text: str) -> bool:
    """True when `text` is one or more of 0-9 (isdigit() takes other scripts' digits in Python)."""
    for character in text:
        code = ord(character)
        if code < 48 or code > 57:
            return False
    return len(text) > 0


def _whole(number: float) -> Optional[int]:
    """`number` when it has no fraction and a float holds it exactly."""
    # NaN fails the first test.
    if not abs(number) <= 9007199254740992.0:
        return None
    truncated = int(number)
    return truncated if float(truncated) == number else None


def _decimal_text(number: float) -> Optional[str]:
    """The shortest decimal that reads back as `number`; 17.0 is 17. None where it needs an exponent."""
    if not abs(number) <= 9007199254740992.0:
        return None
    size = abs(number)
    sign = "-" if number < 0.0 else ""
    power = 1
    for places in range(16):
        scaled = round(size * float(power))
        if scaled <= 9007199254740992.0 and scaled / float(power) == size:
            digits = str(int(scaled))
            while len(digits) <= places:
                digits = "0" + digits
            if places == 0:
                return sign + digits
            return sign + digits[: len(digits) - places] + "." + digits[len(digits) - places :]
        power = power * 10
    return None


def shown(text: str) -> str:
    """Text as an error quotes it: an error of TorchScript ends at a NUL."""
    return text.replace(chr(0), "\\0")


def stripped(text: str) -> str:
    """`text` without ASCII blanks around it; strip() in TorchScript and in Python disagree on what is one."""
    # A carriage return that depends on `text`, lest it be folded into a literal that TorchScript can't load.
    return text.strip(" \t\n\v\f" + chr(13 + min(len(text), 0)))
