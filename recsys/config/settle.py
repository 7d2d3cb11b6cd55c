"""Checks a composed configuration against the options of its command, and names every mistake in it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from recsys.config.auto import AUTO, left_to_data, rules_of, without
from recsys.config.build import advice, build
from recsys.config.check import MISSING, Problem
from recsys.config.compose import SWEEP, Command, Composition
from recsys.config.keys import flattened, known_keys, spelled_out
from recsys.config.origins import origin
from recsys.config.register import TARGET
from recsys.config.saved import read_config
from recsys.schema.errors import InputError

# What may be chosen anew, as a whole, for a run that is there already.
_CHANGEABLE = ("trainer", "evaluation")

C = TypeVar("C")


def settle(command: Command[C], composition: Composition) -> tuple[C, dict[str, Any]]:
    """The typed options of a command, and the plain configuration that they stand for, with every default.

    Raises:
        InputError: naming all mistakes.
    """
    options, plain = check(command, composition)
    return options, spelled_out(plain, command.hint)


def check(command: Command[C], composition: Composition) -> tuple[C, dict[str, Any]]:
    """The typed options of a command, and the plain configuration as far as it is given.

    Raises:
        InputError: naming all mistakes.
    """
    problems: list[Problem] = []
    plain = _layered(command, composition, problems)
    options: C = build(without(plain, left_to_data(plain)), command.hint, "", problems)
    problems = [_with_rules(problem, plain) for problem in problems]
    if problems:
        raise InputError("\n".join(_described(problems, command, composition, plain)))
    return options, plain


def _with_rules(problem: Problem, plain: Mapping[str, Any]) -> Problem:
    """Adds to a problem with an `auto` the keys that may be left at it."""
    given = flattened(plain).get(problem.key.partition("[")[0])
    if given != AUTO or not plain.get("model"):
        return problem
    known = ", ".join(f"`{key}`" for key in sorted(rules_of(plain))) or "no key"
    target = plain["model"].get(TARGET)
    text = f"{problem.text}: `{target}` has a rule what `auto` is for {known}; give a number"
    return dataclasses.replace(problem, text=text)


def _layered(command: Command[C], composition: Composition, problems: list[Problem]) -> dict[str, Any]:
    """The configuration of the run that is continued, if any, with what was asked for on top."""
    asked = composition.plain
    folder = asked.get(command.continues) if command.continues else None
    if folder is None:
        return asked
    if folder == MISSING:
        raise InputError(f"`{command.continues}` must be given: {command.continues}=DIR")
    try:
        base = read_config(str(folder))
    except ValueError as error:
        raise InputError(f"`{command.continues}`: {error}") from error
    known = set(command.keys)
    if not command.repeats:
        known.discard(SWEEP)  # what the run was a trial of, not what is asked for now
    layered = {key: copy.deepcopy(value) for key, value in base.items() if key in known}
    for key in composition.overridden:
        if key in composition.choices and key not in _CHANGEABLE:
            text = f"`{key}=` cannot be chosen anew for the run `{folder}`; it keeps its own"
            problems.append(Problem(key, text))
        else:
            _copy(asked, layered, key.split("."))
    return layered


def _copy(source: Any, target: dict[str, Any], path: Sequence[str]) -> None:
    """Copies what is at `path` in `source` to the same place in `target`."""
    head, *rest = path
    if rest and isinstance(source.get(head), dict):
        if not isinstance(target.get(head), dict):
            target[head] = {}
        _copy(source[head], target[head], rest)
    elif head in source:
        target[head] = source[head]


def _described(
    problems: Sequence[Problem], command: Command[C], composition: Composition, plain: Mapping[str, Any]
) -> list[str]:
    """A line for each problem, with where it came from and the nearest right key."""
    known = list(dict.fromkeys([*known_keys(command.hint, plain), *composition.choices]))
    run = composition.plain.get(command.continues) if command.continues else None
    lines = []
    for problem in problems:
        where = origin(
            problem.key,
            overridden=composition.overridden,
            choices=composition.choices,
            root=command.configs / f"{command.name}.yaml",
            run=run,
        )
        lines.append(problem.text + (f" ({where})" if where else "") + advice(problem, known))
    return lines
