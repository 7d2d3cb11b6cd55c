"""Checks plain configuration against type hints, imports nothing and collects every mistake."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from recsys.config.register import TARGET, lookup
from recsys.config.signatures import signature_of
from recsys.config.targets import (
    MAPPINGS,
    SCALARS,
    SEQUENCES,
    arms,
    configurable,
    is_class,
    is_factory,
    is_one_of,
    is_union,
    names_target,
)
from recsys.schema.places import at_home

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


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An object that is to be made, once everything is known to be right.

    Args:
        key: where it stands.
        name: of its class, which the configuration names; empty for the dataclass of the hint.
        hint: the dataclass that it is to be, if any.
        arguments: values and recipes.
        is_factory: it is made by code later, with more arguments.
    """

    key: str
    arguments: Mapping[str, Any]
    name: str = ""
    hint: Any = None
    is_factory: bool = False


BROKEN = object()  # stands for what cannot be made


def check(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    """The value as `hint` asks for it, with recipes in the place of objects; imports nothing."""
    if value == MISSING:
        problems.append(Problem(key, f"`{key}` must be given: {key}=..."))
        return BROKEN
    if hint in (Any, object):
        return value
    classes = [arm for arm in arms(hint) if is_class(arm)]
    if classes and names_target(value):
        return _check_named(value, classes, key, problems)
    if is_class(hint):
        if is_factory(hint) or not signature_of(hint).is_dataclass:
            text = f"expected a node with `{TARGET}: package.Class` for `{key}`, got {value!r}"
            problems.append(Problem(key, text))
            return BROKEN
        return _check_dataclass(value, hint, key, problems)
    return next(one for applies, one in _CHECKS if applies(hint))(value, hint, key, problems)


def _check_named(value: Mapping[str, Any], hints: Sequence[Any], key: str, problems: list[Problem]) -> Any:
    name = value[TARGET]
    signature = lookup(name, key)
    if isinstance(signature, str):
        where = f"{key}.{TARGET}"
        problems.append(
            Problem(where, f"expected the name of a class for `{where}`, got {name!r}: {signature}")
        )
        return BROKEN
    known = configurable(signature, key)
    before = len(problems)
    arguments = {}
    for argument, given in value.items():
        where = f"{key}.{argument}"
        if argument in known:
            arguments[argument] = check(given, known[argument].hint, where, problems)
        elif argument != TARGET and signature.is_open and argument not in signature.parameters:
            arguments[argument] = given
        elif argument != TARGET:
            problems.append(Problem(where, f"`{name}` takes no `{argument}`", unknown=True))
    problems += [
        Problem(f"{key}.{argument}", f"`{key}.{argument}` must be given: `{name}` has no default for it")
        for argument, parameter in sorted(known.items())
        if parameter.is_required and argument not in value
    ]
    if len(problems) > before:
        arguments[""] = BROKEN  # the others are made, for what their constructors refuse
    is_kept = any(is_factory(hint) for hint in hints)
    kinds = [hint for hint in hints if not is_factory(hint) and signature_of(hint).is_dataclass]
    return Recipe(key, arguments, name=name, hint=kinds[0] if kinds else None, is_factory=is_kept)


def _check_dataclass(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(Problem(key, f"expected keys below `{key}`, got {value!r}"))
        return BROKEN
    known = signature_of(hint).parameters
    arguments = {}
    before = len(problems)
    for name, given in value.items():
        where = f"{key}.{name}" if key else str(name)
        if name in known:
            arguments[name] = check(given, known[name].hint, where, problems)
        else:
            problems.append(Problem(where, f"there is no key `{where}`", unknown=True))
    for name, field in known.items():
        if field.is_required and name not in value:
            check(MISSING, field.hint, f"{key}.{name}" if key else name, problems)
    if len(problems) > before:
        arguments[""] = BROKEN
    return Recipe(key, arguments, hint=hint)


def _check_union(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    members = [arm for arm in get_args(hint) if arm is not types.NoneType]
    if value is None and len(members) < len(get_args(hint)):
        return None
    if len(members) == 1 and value is not None and not _is_scalar(members[0]):
        return check(value, members[0], key, problems)
    for arm in members:
        mistakes: list[Problem] = []
        made = check(value, arm, key, mistakes)
        if not mistakes:
            return made
    allowed = [choice for arm in members if get_origin(arm) is Literal for choice in get_args(arm)]
    return refuse(value, hint, key, problems, _guessed(value, allowed))


def _check_literal(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    if value in get_args(hint):
        return value
    return refuse(value, hint, key, problems, _guessed(value, get_args(hint)))


def _guessed(value: Any, allowed: Sequence[Any]) -> str:
    guess = difflib.get_close_matches(str(value), [str(choice) for choice in allowed], n=1)
    return f"; did you mean {guess[0]}?" if guess else ""


def _check_scalar(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number:
        return float(value)
    if hint is Path and isinstance(value, str):
        return at_home(value)
    if hint is str and number:  # a column that is called 0
        return str(value)
    if type(value) is hint:
        return value
    return refuse(value, hint, key, problems)


def _check_mapping(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    if not isinstance(value, Mapping):
        return refuse(value, hint, key, problems)
    inner = (*get_args(hint), Any, Any)[1]
    return {name: check(given, inner, f"{key}.{name}", problems) for name, given in value.items()}


def _check_sequence(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    origin, inner = get_origin(hint) or hint, get_args(hint)
    fixed = origin is tuple and inner and inner[-1] is not ...
    element = inner[0] if inner and not fixed else Any
    if not isinstance(value, list | tuple):
        if fixed or isinstance(value, Mapping) or value is None or not _is_scalar(element):
            return refuse(value, hint, key, problems)
        mistakes: list[Problem] = []
        only = check(value, element, key, mistakes)  # evaluation.k=10
        if mistakes:
            return refuse(value, hint, key, problems)
        return [only] if origin is list else (only,)
    if fixed and len(value) != len(inner):
        return refuse(value, hint, key, problems)
    hints = inner if fixed else [element] * len(value)
    made = [
        check(element_value, its, f"{key}[{i}]", problems)
        for i, (element_value, its) in enumerate(zip(value, hints, strict=True))
    ]
    return made if origin is list else tuple(made)


def _is_scalar(hint: Any) -> bool:
    return hint in SCALARS or get_origin(hint) is Literal


_CHECKS: tuple[tuple[Callable[[Any], bool], Callable[[Any, Any, str, list[Problem]], Any]], ...] = (
    (is_union, _check_union),
    (lambda hint: get_origin(hint) is Literal, _check_literal),
    (is_one_of(SCALARS), _check_scalar),
    (is_one_of(MAPPINGS), _check_mapping),
    (is_one_of(SEQUENCES), _check_sequence),
)


def refuse(value: Any, hint: Any, key: str, problems: list[Problem], hinted: str = "") -> Any:
    """Reports that a value is not what `hint` asks for; returns what stands for it."""
    problems.append(Problem(key, f"expected {type_name(hint)} for `{key}`, got {value!r}{hinted}"))
    return BROKEN


def type_name(hint: Any) -> str:
    """Names a type in a message."""
    origin, inner = get_origin(hint), get_args(hint)
    if is_union(hint):
        return " or ".join(type_name(arm) for arm in inner)
    if origin is Literal:
        return f"one of {', '.join(str(part) for part in inner)}"
    if origin is tuple and inner[-1] is not ...:
        return f"a list of {len(inner)} ({', '.join(type_name(part) for part in inner)})"
    if hint in SEQUENCES or origin in SEQUENCES:
        return f"a list of {type_name(inner[0])}" if inner else "a list"
    if hint in MAPPINGS or origin in MAPPINGS:
        return "keys and values"
    return {types.NoneType: "null", Path: "path", str: "text"}.get(hint, getattr(hint, "__name__", str(hint)))
