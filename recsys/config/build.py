"""Checks plain configuration against type hints and builds what the hints name, collecting every mistake."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from recsys.config.targets import (
    MAPPINGS,
    SCALARS,
    SEQUENCES,
    TARGET,
    Factory,
    arms,
    fields,
    is_class,
    is_one_of,
    is_union,
    locate,
    names_target,
    parameters,
    unmarked,
)

MISSING = "???"


@dataclasses.dataclass(frozen=True)
class Problem:
    """One mistake in the configuration.

    Args:
        key: dotted key it is about.
        text: what was expected and what was found.
        unknown: nobody reads the key, so the nearest right one is worth naming.
    """

    key: str
    text: str
    unknown: bool = False


def build(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    """The object that `hint` asks for, made from plain data.

    Args:
        value: None, scalars, lists and dictionaries.
        hint: a type hint: scalars, Path, Literal, unions, sequences, mappings, dataclasses; any other class
            stands for a node with `_target_`, instantiated, or kept as a `Factory` where the hint is that.
        key: dotted key of `value`.
        problems: gets every mistake found; when it grows the returned object is of no use.
    """
    hint, injected = unmarked(hint)
    if value == MISSING:
        problems.append(Problem(key, f"`{key}` must be given: {key}=..."))
        return None
    if hint in (Any, object):
        return value
    if Factory in arms(hint):
        return None if value is None and hint is not Factory else _factory(value, key, problems, injected)
    if is_class(hint) and (not dataclasses.is_dataclass(hint) or names_target(value)):
        return _build_instance(value, hint, key, problems)
    return next(builder for applies, builder in _BUILDERS if applies(hint))(value, hint, key, problems)


def _factory(value: Any, key: str, problems: list[Problem], injected: Sequence[str] = ()) -> Factory | None:
    if not names_target(value):
        problems.append(
            Problem(key, f"expected a node with `{TARGET}: package.Class` for `{key}`, got {value!r}")
        )
        return None
    target = locate(value[TARGET])
    if isinstance(target, str):
        where = f"{key}.{TARGET}"
        problems.append(
            Problem(where, f"expected the name of a class for `{where}`, got {value[TARGET]!r}: {target}")
        )
        return None
    hints, required, is_open = parameters(target)
    arguments = {}
    for name, given in value.items():
        where = f"{key}.{name}"
        if name == TARGET:
            continue
        if (name not in hints and not is_open) or name in injected:
            problems.append(Problem(where, f"`{value[TARGET]}` takes no `{name}`", unknown=True))
        else:
            arguments[name] = build(given, hints.get(name, Any), where, problems)
    problems += [
        Problem(f"{key}.{name}", f"`{key}.{name}` must be given: `{value[TARGET]}` has no default for it")
        for name in sorted(required - set(value) - set(injected))
    ]
    return Factory(target, arguments)


def _call(factory: Callable[[], Any], key: str, problems: list[Problem]) -> Any:
    """What `factory` makes; what the constructor refuses is one more problem."""
    try:
        return factory()
    except (TypeError, ValueError) as error:
        problems.append(
            Problem(key, str(error) if f"`{key}" in str(error) or not key else f"`{key}`: {error}")
        )
        return None


def _build_instance(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    before = len(problems)
    factory = _factory(value, key, problems)
    if factory is None or len(problems) > before:
        return None
    made = _call(factory, key, problems)
    if (
        len(problems) == before
        and dataclasses.is_dataclass(hint)
        and not isinstance(made, typing.cast(Any, hint))
    ):
        _refuse(value[TARGET], hint, f"{key}.{TARGET}", problems)
    return made


def _build_dataclass(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(Problem(key, f"expected keys below `{key}`, got {value!r}"))
        return None
    known = fields(hint, value)
    arguments = {}
    before = len(problems)
    for name, given in value.items():
        where = f"{key}.{name}" if key else str(name)
        if name in known:
            arguments[name] = build(given, known[name], where, problems)
        else:
            problems.append(Problem(where, f"there is no key `{where}`", unknown=True))
    for field in dataclasses.fields(hint):
        without = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if without and field.init and field.name not in value:
            build(MISSING, known[field.name], f"{key}.{field.name}" if key else field.name, problems)
    return None if len(problems) > before else _call(functools.partial(hint, **arguments), key, problems)


def _build_union(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    arms = [arm for arm in get_args(hint) if arm is not types.NoneType]
    if value is None and len(arms) < len(get_args(hint)):
        return None
    if len(arms) == 1 and value is not None and not _is_scalar(arms[0]):
        return build(value, arms[0], key, problems)
    for arm in arms:
        mistakes: list[Problem] = []
        made = build(value, arm, key, mistakes)
        if not mistakes:
            return made
        if names_target(value) and is_class(arm):
            problems += mistakes
            return None
    allowed = [one for arm in arms if get_origin(arm) is Literal for one in get_args(arm)]
    return _refuse(value, hint, key, problems, _guessed(value, allowed))


def _build_literal(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    if value in get_args(hint):
        return value
    return _refuse(value, hint, key, problems, _guessed(value, get_args(hint)))


def _guessed(value: Any, allowed: Sequence[Any]) -> str:
    guess = difflib.get_close_matches(str(value), [str(one) for one in allowed], n=1)
    return f"; did you mean {guess[0]}?" if guess else ""


def _build_scalar(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number:
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value).expanduser()
    if hint is str and number:  # a column that is called 0
        return str(value)
    if type(value) is hint:
        return value
    return _refuse(value, hint, key, problems)


def _build_mapping(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    if not isinstance(value, Mapping):
        return _refuse(value, hint, key, problems)
    inner = (*get_args(hint), Any, Any)[1]
    return {name: build(given, inner, f"{key}.{name}", problems) for name, given in value.items()}


def _build_sequence(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    origin, inner = get_origin(hint) or hint, get_args(hint)
    fixed = origin is tuple and inner and inner[-1] is not ...
    element = inner[0] if inner and not fixed else Any
    if not isinstance(value, list | tuple):
        if fixed or isinstance(value, Mapping) or value is None or not _is_scalar(element):
            return _refuse(value, hint, key, problems)
        value = [value]  # evaluation.k=10
    if fixed and len(value) != len(inner):
        return _refuse(value, hint, key, problems)
    hints = inner if fixed else [element] * len(value)
    made = [
        build(one, its, f"{key}[{i}]", problems)
        for i, (one, its) in enumerate(zip(value, hints, strict=True))
    ]
    return made if origin is list else tuple(made)


def _is_scalar(hint: Any) -> bool:
    return hint in SCALARS or get_origin(hint) is Literal


_BUILDERS: tuple[tuple[Callable[[Any], bool], Callable[[Any, Any, str, list[Problem]], Any]], ...] = (
    (is_union, _build_union),
    (lambda hint: get_origin(hint) is Literal, _build_literal),
    (is_one_of(SCALARS), _build_scalar),
    (is_one_of(MAPPINGS), _build_mapping),
    (is_one_of(SEQUENCES), _build_sequence),
    (dataclasses.is_dataclass, _build_dataclass),
)


def _refuse(value: Any, hint: Any, key: str, problems: list[Problem], hinted: str = "") -> None:
    problems.append(Problem(key, f"expected {_name(hint)} for `{key}`, got {value!r}{hinted}"))


def _name(hint: Any) -> str:
    """How a type is called in a message."""
    origin, inner = get_origin(hint), get_args(hint)
    if is_union(hint):
        return " or ".join(_name(arm) for arm in inner)
    if origin is Literal:
        return f"one of {', '.join(str(one) for one in inner)}"
    if origin is tuple and inner[-1] is not ...:
        return f"a list of {len(inner)} ({', '.join(_name(one) for one in inner)})"
    if hint in SEQUENCES or origin in SEQUENCES:
        return f"a list of {_name(inner[0])}" if inner else "a list"
    if hint in MAPPINGS or origin in MAPPINGS:
        return "keys and values"
    return {types.NoneType: "null", Path: "path", str: "text"}.get(hint, getattr(hint, "__name__", str(hint)))
