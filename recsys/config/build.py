"""Checks plain configuration against type hints and builds what the hints name, collecting every mistake."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

from recsys.config.keys import known_keys, nearest
from recsys.config.register import PLACES, TARGET, imported, load, lookup
from recsys.config.signatures import signature_of
from recsys.config.targets import (
    MAPPINGS,
    SCALARS,
    SEQUENCES,
    Factory,
    arms,
    configurable,
    is_class,
    is_factory,
    is_one_of,
    is_union,
    names_target,
)
from recsys.schema.errors import InputError

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
class _Recipe:
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


_BROKEN = object()  # stands for what cannot be made


def build(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    """The object that `hint` asks for, made from plain data.

    First everything is checked without importing anything; then option classes without a mistake are made,
    so that what they refuse is reported together with mistakes elsewhere; then, where nothing is wrong, the
    rest, which may import torch.

    Args:
        value: None, scalars, lists and dictionaries.
        hint: a type hint: scalars, Path, Literal, unions, sequences, mappings, dataclasses; any other class
            stands for a node with `_target_`, instantiated, or kept as a `Factory` where the hint is that.
        key: dotted key of `value`.
        problems: gets every mistake found; when it grows the returned object is of no use.
    """
    before = len(problems)
    checked = _check(value, hint, key, problems)
    made = _made(checked, problems, only_light=True)
    if len(problems) == before and made is _BROKEN:
        made = _made(checked, problems)
    return made if len(problems) == before else None


def built(plain: Any, hint: Any, key: str = "", *, before: str = "", behind: str = "") -> Any:
    """Builds plain data, as `build` does.

    Args:
        plain: see `build`.
        hint: see `build`.
        key: see `build`.
        before: begins each line of the message.
        behind: ends it.

    Raises:
        InputError: naming all mistakes, a line each.
    """
    problems: list[Problem] = []
    made = build(plain, hint, key, problems)
    if problems:
        known = known_keys(hint, plain)
        lines = [f"{before}{problem.text}{advice(problem, known)}{behind}" for problem in problems]
        raise InputError("\n".join(lines))
    return made


def advice(problem: Problem, known: Sequence[str]) -> str:
    """The nearest right key, or those there are beside the wrong one."""
    if not problem.unknown:
        return ""
    guess = nearest(problem.key, known)
    if guess:
        return f"; did you mean `{guess}`?"
    parent = problem.key.rpartition(".")[0]
    names = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent and "/" not in key]
    return f"; there are: {', '.join(names)}" if names else ""


def _check(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    """The value as `hint` asks for it, with recipes in the place of objects; imports nothing."""
    if value == MISSING:
        problems.append(Problem(key, f"`{key}` must be given: {key}=..."))
        return _BROKEN
    if hint in (Any, object):
        return value
    classes = [arm for arm in arms(hint) if is_class(arm)]
    if classes and names_target(value):
        return _check_named(value, classes, key, problems)
    if is_class(hint):
        if is_factory(hint) or not signature_of(hint).is_dataclass:
            text = f"expected a node with `{TARGET}: package.Class` for `{key}`, got {value!r}"
            problems.append(Problem(key, text))
            return _BROKEN
        return _check_dataclass(value, hint, key, problems)
    return next(check for applies, check in _CHECKS if applies(hint))(value, hint, key, problems)


def _check_named(value: Mapping[str, Any], hints: Sequence[Any], key: str, problems: list[Problem]) -> Any:
    name = value[TARGET]
    signature = lookup(name, key)
    if isinstance(signature, str):
        where = f"{key}.{TARGET}"
        problems.append(
            Problem(where, f"expected the name of a class for `{where}`, got {name!r}: {signature}")
        )
        return _BROKEN
    known = configurable(signature, key)
    before = len(problems)
    arguments = {}
    for argument, given in value.items():
        where = f"{key}.{argument}"
        if argument in known:
            arguments[argument] = _check(given, known[argument].hint, where, problems)
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
        arguments[""] = _BROKEN  # the others are made, for what their constructors refuse
    is_kept = any(is_factory(hint) for hint in hints)
    kinds = [hint for hint in hints if not is_factory(hint) and signature_of(hint).is_dataclass]
    return _Recipe(key, arguments, name=name, hint=kinds[0] if kinds else None, is_factory=is_kept)


def _check_dataclass(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(Problem(key, f"expected keys below `{key}`, got {value!r}"))
        return _BROKEN
    known = signature_of(hint).parameters
    arguments = {}
    before = len(problems)
    for name, given in value.items():
        where = f"{key}.{name}" if key else str(name)
        if name in known:
            arguments[name] = _check(given, known[name].hint, where, problems)
        else:
            problems.append(Problem(where, f"there is no key `{where}`", unknown=True))
    for name, field in known.items():
        if field.is_required and name not in value:
            _check(MISSING, field.hint, f"{key}.{name}" if key else name, problems)
    if len(problems) > before:
        arguments[""] = _BROKEN
    return _Recipe(key, arguments, hint=hint)


def _made(checked: Any, problems: list[Problem], *, only_light: bool = False) -> Any:
    """Carries out the recipes in what `_check` has returned; what constructors refuse becomes a problem."""
    if isinstance(checked, list | tuple):
        parts = [_made(part, problems, only_light=only_light) for part in checked]
        return _BROKEN if _BROKEN in parts else type(checked)(parts)
    if isinstance(checked, Mapping):
        members = {name: _made(part, problems, only_light=only_light) for name, part in checked.items()}
        return _BROKEN if _BROKEN in members.values() else members
    if not isinstance(checked, _Recipe):
        return checked
    arguments = _made(checked.arguments, problems, only_light=only_light)
    if arguments is _BROKEN:
        return _BROKEN
    if checked.is_factory:
        return Factory(checked.name, checked.key, arguments)
    key = checked.key
    if only_light and not _is_light(checked.name.rpartition(".")[0] or checked.hint.__module__):
        return _BROKEN
    try:
        target = load(checked.name, key) if checked.name else imported(checked.hint)
        made = target(**arguments)
    except (TypeError, ValueError) as error:
        text = str(error) if f"`{key}" in str(error) or not key else f"`{key}`: {error}"
        problems.append(Problem(key, text))
        return _BROKEN
    if checked.hint and not isinstance(made, cast(type, imported(checked.hint))):
        return _refuse(checked.name, checked.hint, f"{key}.{TARGET}", problems)
    return made


def _is_light(module: str) -> bool:
    """True for a module whose import costs little: one that is there, one of options or of a dataset."""
    return module in sys.modules or module.endswith(".options") or module.startswith(PLACES["source"].package)


def _check_union(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    members = [arm for arm in get_args(hint) if arm is not types.NoneType]
    if value is None and len(members) < len(get_args(hint)):
        return None
    if len(members) == 1 and value is not None and not _is_scalar(members[0]):
        return _check(value, members[0], key, problems)
    for arm in members:
        mistakes: list[Problem] = []
        made = _check(value, arm, key, mistakes)
        if not mistakes:
            return made
    allowed = [choice for arm in members if get_origin(arm) is Literal for choice in get_args(arm)]
    return _refuse(value, hint, key, problems, _guessed(value, allowed))


def _check_literal(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    if value in get_args(hint):
        return value
    return _refuse(value, hint, key, problems, _guessed(value, get_args(hint)))


def _guessed(value: Any, allowed: Sequence[Any]) -> str:
    guess = difflib.get_close_matches(str(value), [str(choice) for choice in allowed], n=1)
    return f"; did you mean {guess[0]}?" if guess else ""


def _check_scalar(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
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


def _check_mapping(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    if not isinstance(value, Mapping):
        return _refuse(value, hint, key, problems)
    inner = (*get_args(hint), Any, Any)[1]
    return {name: _check(given, inner, f"{key}.{name}", problems) for name, given in value.items()}


def _check_sequence(value: Any, hint: Any, key: str, problems: list[Problem]) -> Any:
    origin, inner = get_origin(hint) or hint, get_args(hint)
    fixed = origin is tuple and inner and inner[-1] is not ...
    element = inner[0] if inner and not fixed else Any
    if not isinstance(value, list | tuple):
        if fixed or isinstance(value, Mapping) or value is None or not _is_scalar(element):
            return _refuse(value, hint, key, problems)
        mistakes: list[Problem] = []
        only = _check(value, element, key, mistakes)  # evaluation.k=10
        if mistakes:
            return _refuse(value, hint, key, problems)
        return [only] if origin is list else (only,)
    if fixed and len(value) != len(inner):
        return _refuse(value, hint, key, problems)
    hints = inner if fixed else [element] * len(value)
    made = [
        _check(element_value, its, f"{key}[{i}]", problems)
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


def _refuse(value: Any, hint: Any, key: str, problems: list[Problem], hinted: str = "") -> Any:
    problems.append(Problem(key, f"expected {type_name(hint)} for `{key}`, got {value!r}{hinted}"))
    return _BROKEN


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
