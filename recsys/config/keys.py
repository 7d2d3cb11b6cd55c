"""Which dotted keys a configuration may have, and which one a mistyped key meant."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recsys.config.targets import SCALARS, TARGET, arms, fields, locate, unmarked


def known_keys(hint: Any, value: Any, key: str = "") -> list[str]:
    """Every dotted key that `hint` names below `key`, given the `_target_` nodes of `value`."""
    inner, injected = unmarked(hint)
    found = [key] if key else []
    for arm in arms(inner):
        for name, field in fields(arm, value).items():
            if name not in injected:
                child = value.get(name) if isinstance(value, Mapping) else None
                found += known_keys(field, child, f"{key}.{name}" if key else name)
    return found


def spelled_out(value: Any, hint: Any) -> Any:
    """Plain configuration with the defaults of `hint` filled in, so that a later release reads the same.

    Args:
        value: plain configuration in which nothing is wrong.
        hint: its type hint.

    Example:
        >>> import dataclasses
        >>> @dataclasses.dataclass
        ... class Size:
        ...     width: int = 3
        ...     height: int = 4
        >>> spelled_out({"height": 5}, Size)
        {'width': 3, 'height': 5}
    """
    inner, injected = unmarked(hint)
    for arm in arms(inner):
        known = fields(arm, value) if isinstance(value, Mapping) else {}
        if known:
            there = {name: spelled_out(given, known.get(name, Any)) for name, given in value.items()}
            filled = _defaults(arm, value) | there
            order = [name for name in (*known, *there) if name in filled and name not in injected]
            return {name: filled[name] for name in dict.fromkeys(order)}
    return value


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The known dotted key that `key` most likely meant.

    Example:
        >>> nearest("batch_size", ["seed", "data.batch_size"])
        'data.batch_size'
    """
    candidates = [one for one in known if not key.startswith(f"{one}.")]
    same_ending = [one for one in candidates if one.rpartition(".")[2] == key.rpartition(".")[2]]
    by_ending = {one.rpartition(".")[2]: one for one in reversed(candidates)}
    ending = difflib.get_close_matches(key.rpartition(".")[2], by_ending, n=1, cutoff=0.75)
    guesses = (
        difflib.get_close_matches(key, candidates, n=1, cutoff=0.8)
        or difflib.get_close_matches(key, same_ending, n=1, cutoff=0.0)
        or [by_ending[one] for one in ending]
        or difflib.get_close_matches(key, candidates, n=1, cutoff=0.7)
    )
    return guesses[0] if guesses else None


def _defaults(hint: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of what may stand in a node of this hint, those left out that are no plain data."""
    if TARGET not in value:
        found = {
            field.name: field.default
            if field.default_factory is dataclasses.MISSING
            else field.default_factory()
            for field in dataclasses.fields(hint)
            if field.init
        }
    else:
        target = locate(value[TARGET])
        assert not isinstance(target, str)
        found = {name: one.default for name, one in inspect.signature(target).parameters.items()}
    plain = {name: _as_plain(default) for name, default in found.items()}
    return {name: default for name, default in plain.items() if default is not inspect.Parameter.empty}


def _as_plain(value: Any) -> Any:
    """Dataclasses as dictionaries, tuples as lists, paths as text; Parameter.empty for anything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_as_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _as_plain(one) for key, one in value.items()}
    if isinstance(value, Path):
        return str(value)
    return value if value is None or isinstance(value, SCALARS) else inspect.Parameter.empty
