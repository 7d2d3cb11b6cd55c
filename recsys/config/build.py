"""Builds what type hints name from plain configuration, all mistakes reported together."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from recsys.config.check import BROKEN, Problem, Recipe, check, refuse
from recsys.config.keys import known_keys, nearest
from recsys.config.register import PLACES, TARGET, imported, load
from recsys.config.targets import Factory
from recsys.schema.errors import InputError


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
    checked = check(value, hint, key, problems)
    made = _made(checked, problems, only_light=True)
    if len(problems) == before and made is BROKEN:
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


def _made(checked: Any, problems: list[Problem], *, only_light: bool = False) -> Any:
    """Carries out the recipes in what `_check` has returned; what constructors refuse becomes a problem."""
    if isinstance(checked, list | tuple):
        parts = [_made(part, problems, only_light=only_light) for part in checked]
        return BROKEN if BROKEN in parts else type(checked)(parts)
    if isinstance(checked, Mapping):
        members = {name: _made(part, problems, only_light=only_light) for name, part in checked.items()}
        return BROKEN if BROKEN in members.values() else members
    if not isinstance(checked, Recipe):
        return checked
    arguments = _made(checked.arguments, problems, only_light=only_light)
    if arguments is BROKEN:
        return BROKEN
    if checked.is_factory:
        return Factory(checked.name, checked.key, arguments)
    key = checked.key
    if only_light and not _is_light(checked.name.rpartition(".")[0] or checked.hint.__module__):
        return BROKEN
    try:
        target = load(checked.name, key) if checked.name else imported(checked.hint)
        made = target(**arguments)
    except (TypeError, ValueError) as error:
        text = str(error) if f"`{key}" in str(error) or not key else f"`{key}`: {error}"
        problems.append(Problem(key, text))
        return BROKEN
    if checked.hint and not isinstance(made, cast(type, imported(checked.hint))):
        return refuse(checked.name, checked.hint, f"{key}.{TARGET}", problems)
    return made


def _is_light(module: str) -> bool:
    """True for a module whose import costs little: one that is there, one of options or of a dataset."""
    return module in sys.modules or module.endswith(".options") or module.startswith(PLACES["source"].package)
