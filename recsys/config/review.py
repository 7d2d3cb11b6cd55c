"""Reviews a command line as a whole: its overrides, what they compose, and the values of a sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from hydra.core.override_parser.types import Override

from recsys.config.build import build
from recsys.config.compose import (
    COMPOSE_ERRORS,
    DAILY,
    SWEEP,
    Command,
    Composition,
    compose,
    composing,
    defaults_of,
    options_of_groups,
)
from recsys.config.launchers import check_launcher
from recsys.config.overrides import Groups, check_values, for_hydra, forced, parse, variants
from recsys.config.settle import check
from recsys.config.targets import fields
from recsys.schema.errors import InputError

C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class Review:
    """Holds what a command line without a mistake comes to.

    Args:
        overrides: as Hydra wants them.
        first: what its first run is composed of.
        search: options of the sweep, as the command types them; None without one.
        is_daily: it is the day-by-day loop.
    """

    overrides: list[str]
    first: Composition
    search: Any
    is_daily: bool = False


def review(
    command: Command[C], texts: Sequence[str], *, config_dir: str | None = None, multirun: bool = False
) -> Review:
    """Checks a command line as a whole, without doing any work.

    Args:
        command: which command.
        texts: overrides.
        config_dir: a further folder of configuration files.
        multirun: several values for a key are to be run one after the other.

    Raises:
        InputError: naming all mistakes.
    """
    problems: list[str] = []
    if multirun and not command.repeats:
        problems.append(f"`-m` is for `train.py`; `{command.name}` runs once")
    with composing(command.configs, config_dir):
        overrides = check_launcher(parse(texts, problems), problems)
        groups = _groups(command)
        rewritten = [for_hydra(override, groups, problems) for override in overrides]
        search = command.repeats and any(o.key_or_group == SWEEP and o.value() is not None for o in overrides)
        for implied in _implied(command, overrides, rewritten) if search else []:
            overrides, rewritten = [*overrides, implied], [*rewritten, for_hydra(implied, groups, problems)]
        if (multirun or search) and any(o.key_or_group == command.continues for o in overrides):
            problems.append(f"`{command.continues}=` continues one run; leave out `-m` and `sweep=`")
        for override in overrides:
            check_values(override, multirun=multirun, search=search, problems=problems)
        tried = variants(overrides, rewritten)
        first, *_others = [_tried(command, texts, problems) for texts in tried]
        if search and first:
            problems += _search_mistakes(command, first, tried[0])
        daily = bool(first and first.plain.get(DAILY))
        if first and daily and not problems:
            problems += _daily_mistakes(command, first, tried[0], repeated=multirun or search)
    if first is None or problems:
        raise InputError("\n".join(dict.fromkeys(problems)))
    hint = fields(command.hint, {}, "")[SWEEP].hint if search else None
    options = build(first.plain[SWEEP], hint, SWEEP, []) if search else None
    return Review([text for text in rewritten if text], first, search=options, is_daily=daily)


def _implied(command: Command[C], overrides: Sequence[Override], texts: Sequence[str]) -> list[Override]:
    """The model that a sweep is meant for, where neither the command line nor an experiment chooses one."""
    if {"model", "experiment"} & {override.key_or_group for override in overrides}:
        return []
    try:
        composed = compose(command.name, variants(overrides, texts)[0])
    except COMPOSE_ERRORS:
        return []  # reported later
    meant_for = (composed.plain.get(SWEEP) or {}).get("meant_for")
    if not isinstance(meant_for, str) or composed.choices.get("model") in (None, meant_for):
        return []
    return parse([f"model={meant_for}"], [])


def _tried(command: Command[C], overrides: Sequence[str], problems: list[str]) -> Composition | None:
    """Composes overrides and checks the result; None where nothing comes of them."""
    composed = None
    try:
        composed = compose(command.name, overrides)
        check(command, composed)
    except InputError as error:
        problems += str(error).splitlines()
    except COMPOSE_ERRORS as error:
        said = " ".join(f"{error} {error.__cause__ or ''}".split())
        problems.append(said.partition(" Config search path:")[0])
    return composed


def _search_mistakes(command: Command[C], composed: Composition, overrides: Sequence[str]) -> list[str]:
    """Mistakes in the values that a sweep would search."""
    sweep = composed.plain.get(SWEEP)
    if not isinstance(sweep, dict) or not isinstance(sweep.get("space"), dict):
        return []  # reported already
    space, meant_for = sweep["space"], sweep.get("meant_for")
    model = composed.choices.get("model")
    if meant_for not in (None, model):
        return [f"the sweep is meant for `model={meant_for}`, got `model={model}`; add `model={meant_for}`"]
    unreadable: list[str] = []
    swept = parse([f"{key}={value}" for key, value in space.items()], unreadable)
    texts = [for_hydra(override, _groups(command), unreadable) for override in swept]
    problems = [f"`sweep.space`: {problem}" for problem in unreadable]
    problems += [
        f"`sweep.space.{override.key_or_group}` must be a choice(...), a range(...) or an interval(...)"
        for override in swept
        if not override.is_sweep_override()
    ]
    for tried in variants(swept, texts):
        _tried(command, [*overrides, *tried], problems)
    return problems


def _daily_mistakes(
    command: Command[C], first: Composition, overrides: Sequence[str], *, repeated: bool
) -> list[str]:
    """Checks the day-by-day loop: the keys that its continued runs change, and runs beside it."""
    problems = []
    if repeated:
        problems.append("`daily` goes through its steps by itself; leave out `-m` and `sweep=`")
    problems += [
        f"`daily` begins with a run of its own; leave out `{key}`"
        for key in ("resume", "init_from")
        if first.plain.get(key)
    ]
    changed = first.plain[DAILY].get("continued") or {}
    _tried(command, [*overrides, *forced(changed)], problems)
    return problems


def _groups(command: Command[C]) -> Groups:
    options = options_of_groups(command)
    chosen = frozenset(defaults_of(command)) & frozenset(options)
    return Groups(options, chosen, folders=frozenset({SWEEP} & set(command.keys)) - chosen)


def rewritten_overrides(command: Command[C], texts: Sequence[str]) -> list[str]:
    """Overrides as Hydra wants them, without several values for a key; see `composing`.

    Raises:
        InputError: one cannot be read, or names a file that is not there.
    """
    problems: list[str] = []
    overrides = parse(texts, problems)
    groups = _groups(command)
    rewritten = [for_hydra(override, groups, problems) for override in overrides]
    if problems:
        raise InputError("\n".join(problems))
    return variants(overrides, rewritten)[0]
