"""Reads JSON files that may be damaged or somebody else's: bounded, and their types looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from recsys.schema.errors import InputError

Kinds = Mapping[str, type | tuple[type, ...]]
NUMBER = (int, float)
LIMIT_BYTES = 256 * 2**20
_MOST_DEPTH = 64
_NAMES = {str: "text", type(None): "null"}


class Section(dict[str, Any]):
    """A part of a JSON file; a key that is not there is the file's mistake, named with its place."""

    def __init__(self, content: Mapping[str, Any], *, path: Path, place: str = "") -> None:
        super().__init__(
            (key, Section(value, path=path, place=f"{place}{key}.") if isinstance(value, dict) else value)
            for key, value in content.items()
        )
        self._where = path, place

    def plain(self) -> dict[str, Any]:
        """The same in plain dictionaries."""
        return {key: value.plain() if isinstance(value, Section) else value for key, value in self.items()}

    def __missing__(self, key: str) -> NoReturn:
        path, place = self._where
        raise InputError(f"`{path}` is damaged: expected a key `{place}{key}`, found none")


def read_json(path: Path, kinds: Kinds | None = None, *, limit_bytes: int = LIMIT_BYTES) -> Section:
    """The keys and values of a JSON file; a key that it lacks raises InputError where it is looked up.

    Args:
        path: the file.
        kinds: types of the keys that a reader relies on; a dot goes one level down.
        limit_bytes: size beyond which it is not read.

    Raises:
        InputError: it is no JSON, nested too deep, too large, or a key is missing or of another type.
    """
    content = _parsed(path, limit_bytes)
    if not isinstance(content, dict):
        raise InputError(f"`{path}` is damaged: expected keys and values, found {type(content).__name__}")
    section = Section(content, path=path)
    check_kinds(section, kinds or {}, path)
    return section


def read_json_of_ours(path: Path) -> Section | None:
    """The same of a file that is made again where it is not there, or damaged: then None."""
    try:
        return read_json(path)
    except InputError:
        return None


def read_json_list(path: Path) -> list[Any]:
    """The values of a JSON file that holds a list.

    Raises:
        InputError: it is no JSON, nested too deep, too large or no list.
    """
    content = _parsed(path, LIMIT_BYTES)
    if not isinstance(content, list):
        raise InputError(f"`{path}` is damaged: expected a list, found {type(content).__name__}")
    return content


def check_kinds(section: Section, kinds: Kinds, path: Path) -> None:
    """Raises InputError where a key of `section` is missing or of another type than `kinds` says."""
    for key, kind in kinds.items():
        value: Any = section
        for part in key.split("."):
            value = value[part]
        if not isinstance(value, kind):
            wanted = " or ".join(
                _NAMES.get(one, one.__name__) for one in (kind if isinstance(kind, tuple) else (kind,))
            )
            raise InputError(
                f"`{path}` is damaged: expected `{key}` to be {wanted}, found {str(value)[:80]!r}"
            )


def _parsed(path: Path, limit_bytes: int) -> Any:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > limit_bytes:
        raise InputError(f"`{path}` must be a file of at most {limit_bytes:,} bytes")
    try:
        content = json.loads(
            path.read_bytes(),
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_no_repeats,
        )
        _check_depth(content)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"`{path}` is damaged ({reason})") from error
    return content


def _check_depth(content: Any) -> None:
    """Raises RecursionError for what those who walk over it would, at some depth of their own."""
    level = [content] if isinstance(content, dict | list) else []
    for _ in range(_MOST_DEPTH):
        level = [
            part
            for one in level
            for part in (one.values() if isinstance(one, dict) else one)
            if isinstance(part, dict | list)
        ]
        if not level:
            return
    raise RecursionError


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _no_constant(text)
    return number


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"`{text[:80]}` is no JSON number")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key occurs twice")
    return content
