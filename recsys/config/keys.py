"""Lists the dotted keys that a configuration may have, and finds the one that a mistyped key meant."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from recsys.config.register import TARGET, imported, load
from recsys.config.signatures import Parameter
from recsys.config.targets import SCALARS, arms, fields

# Share of a name that must agree before another is suggested for it.
_SIMILAR = 0.6


def known_keys(hint: Any, value: Any) -> list[str]:
    """Every dotted key that `hint` names, given the `_target_` nodes of `value`."""
    return list(dict(described_keys(hint, value)))


def described_keys(hint: Any, value: Any, key: str = "") -> Iterator[tuple[str, Parameter]]:
    """Every dotted key that `hint` names below `key`, with its type, default and description."""
    if isinstance(value, Mapping) and TARGET in value:
        yield f"{key}.{TARGET}", Parameter(str, None, "Dotted name of the class.")
    for arm in arms(hint):
        for name, field in fields(arm, value, key).items():
            child = value.get(name) if isinstance(value, Mapping) else None
            path = f"{key}.{name}" if key else name
            yield path, field
            yield from described_keys(field.hint, child, path)


def spelled_out(value: Any, hint: Any, key: str = "") -> Any:
    """Plain configuration with the defaults of `hint` filled in, so that a later release reads the same.

    Args:
        value: plain configuration in which nothing is wrong.
        hint: its type hint.
        key: dotted key of `value`.

    Example:
        >>> import dataclasses
        >>> @dataclasses.dataclass
        ... class Size:
        ...     width: int = 3
        ...     height: int = 4
        >>> spelled_out({"height": 5}, Size)
        {'width': 3, 'height': 5}
    """
    for arm in arms(hint):
        known = fields(arm, value, key) if isinstance(value, Mapping) else {}
        if known:
            there = {
                name: spelled_out(given, known[name].hint, f"{key}.{name}" if key else name)
                if name in known
                else given
                for name, given in value.items()
            }
            filled = _defaults(arm, value, key) | there
            order = [name for name in (TARGET, *known, *there) if name in filled]
            return {name: filled[name] for name in dict.fromkeys(order)}
    return value


def flattened(value: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys and their values; lists stay whole.

    Example:
        >>> flattened({"a": {"b": 1, "c": [2, 3]}, "d": {}})
        {'a.b': 1, 'a.c': [2, 3], 'd': {}}
    """
    flat: dict[str, Any] = {}
    for key, child in value.items():
        below = flattened(child) if isinstance(child, Mapping) else {}
        flat |= {f"{key}.{name}": inner for name, inner in below.items()} or {key: child}
    return flat


def put(plain: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key of a plain configuration, making the sections above it where there are none.

    Example:
        >>> plain = {"a": {"b": 1}, "d": None}
        >>> put(plain, "a.c", 2)
        >>> put(plain, "d.e", 3)
        >>> plain
        {'a': {'b': 1, 'c': 2}, 'd': {'e': 3}}
    """
    *parents, name = key.split(".")
    for parent in parents:
        if not isinstance(plain.get(parent), dict):
            plain[parent] = {}
        plain = plain[parent]
    plain[name] = value


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The known dotted key that `key` most likely meant.

    Example:
        >>> nearest("batch_size", ["seed", "data.batch_size"])
        'data.batch_size'
    """
    parent, _, name = key.rpartition(".")
    best, best_score = None, 0.0
    for candidate in known:
        its_parent, _, its_name = candidate.rpartition(".")
        similarity = _similarity(name, its_name)
        # The place counts a little, and not at all for a key that was given without one.
        score = similarity + 0.3 * (_similarity(parent, its_parent) if parent else not its_parent)
        if similarity >= _SIMILAR and score > best_score and not key.startswith(f"{candidate}."):
            best, best_score = candidate, score
    return best


def _similarity(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, name, other).ratio()


def _defaults(hint: Any, value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Defaults of what may stand in a node of this hint, those left out that are no plain data."""
    target = load(value[TARGET], key) if TARGET in value else imported(hint)
    if dataclasses.is_dataclass(target):
        defaults = {
            field.name: field.default
            if field.default_factory is dataclasses.MISSING
            else field.default_factory()
            for field in dataclasses.fields(target)
            if field.init
        }
    else:
        defaults = {
            name: parameter.default for name, parameter in inspect.signature(target).parameters.items()
        }
    plain = {name: _as_plain(default) for name, default in defaults.items()}
    return {name: default for name, default in plain.items() if default is not inspect.Parameter.empty}


def _as_plain(value: Any) -> Any:
    """Dataclasses as dictionaries, tuples as lists, paths as text; Parameter.empty for anything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_as_plain(part) for part in value]
    if isinstance(value, Mapping):
        return {key: _as_plain(part) for key, part in value.items()}
    if isinstance(value, Path):
        return str(value)
    return value if value is None or isinstance(value, SCALARS) else inspect.Parameter.empty
