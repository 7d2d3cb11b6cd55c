"""Composes a command's configuration, checks all of it and names every mistake, before any work is done."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import hydra
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys.config.auto import AUTO, left_to_data, rules_of, without
from recsys.config.build import MISSING, Problem, build
from recsys.config.keys import flattened, known_keys, nearest, spelled_out
from recsys.config.launchers import check_launcher
from recsys.config.origins import origin
from recsys.config.overrides import Groups, check_values, for_hydra, forced, is_hydras, parse, variants
from recsys.config.register import TARGET
from recsys.config.saved import read_config
from recsys.config.targets import fields
from recsys.runs.environment import PROJECT
from recsys.schema.errors import InputError

CONFIGS = PROJECT / "configs"
SWEEP, DAILY = "sweep", "daily"
# What may be chosen anew, as a whole, for a run that is there already.
_CHANGEABLE = ("trainer", "evaluation")

C = TypeVar("C")


class ConfigurationError(InputError):
    """Everything that is wrong with a configuration, a line each."""


@dataclasses.dataclass(frozen=True)
class Command(Generic[C]):
    """One of the commands.

    Args:
        name: of its root file in configs/.
        options: dataclass of its keys; their type hints are what the configuration is checked against.
        continues: key that names a run from whose configuration this command starts.
        repeats: may run several times, with `-m` or `sweep=`.
        configs: folder of the configuration files.
    """

    name: str
    options: type[C]
    continues: str | None = None
    repeats: bool = False
    configs: Path = CONFIGS


@dataclasses.dataclass(frozen=True)
class Composition:
    """What Hydra composed.

    Args:
        plain: the configuration, without Hydra's own part.
        choices: the file chosen from each group.
        overrides: of the command line, as Hydra read them.
    """

    plain: dict[str, Any]
    choices: Mapping[str, Any]
    overrides: Sequence[str]

    @property
    def overridden(self) -> list[str]:
        """Keys and groups on the command line."""
        return [text.lstrip("+~").partition("=")[0] for text in self.overrides]


@dataclasses.dataclass(frozen=True)
class Reviewed:
    """A command line in which nothing is wrong.

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


def current_composition(config: DictConfig) -> Composition:
    """The composition of the job that Hydra runs now."""
    hydras = HydraConfig.get()
    return Composition(_plain(config), dict(hydras.runtime.choices), list(hydras.overrides.task))


def settle(command: Command[C], composition: Composition) -> tuple[C, dict[str, Any]]:
    """The typed options of a command, and the plain configuration that they stand for, with every default.

    Raises:
        ConfigurationError: naming all mistakes.
    """
    problems: list[Problem] = []
    plain = _layered(command, composition, problems)
    options: C = build(without(plain, left_to_data(plain)), command.options, "", problems)
    problems = [_with_rules(problem, plain) for problem in problems]
    if problems:
        raise ConfigurationError("\n".join(_described(problems, command, composition, plain)))
    return options, spelled_out(plain, command.options)


def _with_rules(problem: Problem, plain: Mapping[str, Any]) -> Problem:
    """Adds to a problem with an `auto` the keys that may be left at it."""
    given = flattened(plain).get(problem.key.partition("[")[0])
    if given != AUTO or not plain.get("model"):
        return problem
    known = ", ".join(f"`{key}`" for key in sorted(rules_of(plain))) or "no key"
    target = plain["model"].get(TARGET)
    text = f"{problem.text}: `{target}` has a rule what `auto` is for {known}; give a number"
    return dataclasses.replace(problem, text=text)


def review(
    command: Command[C], texts: Sequence[str], *, config_dir: str | None = None, multirun: bool = False
) -> Reviewed:
    """Checks a command line as a whole, without doing any work.

    Args:
        command: which command.
        texts: overrides.
        config_dir: a further folder of configuration files.
        multirun: several values for a key are to be run one after the other.

    Raises:
        ConfigurationError: naming all mistakes.
    """
    problems: list[Problem] = []
    if multirun and not command.repeats:
        problems.append(Problem("-m", f"`-m` is for `train.py`; `{command.name}` runs once"))
    with _hydra(command.configs, config_dir):
        loader = GlobalHydra.instance().config_loader()
        overrides = check_launcher(parse(texts, loader, problems), loader, problems)
        groups = _groups(command)
        rewritten = [str(o.input_line) if is_hydras(o) else for_hydra(o, groups, problems) for o in overrides]
        search = command.repeats and any(o.key_or_group == SWEEP and o.value() is not None for o in overrides)
        for implied in _implied(command, overrides, rewritten) if search else []:
            overrides, rewritten = [*overrides, implied], [*rewritten, for_hydra(implied, groups, problems)]
        if (multirun or search) and any(o.key_or_group == command.continues for o in overrides):
            problems.append(
                Problem("-m", f"`{command.continues}=` continues one run; leave out `-m` and `sweep=`")
            )
        for override in overrides:
            check_values(override, multirun=multirun, search=search, problems=problems)
        lines = [problem.text for problem in problems]
        for tried in variants(overrides, rewritten):
            lines += _mistakes(command, tried)
        if search:
            lines += _search_mistakes(command, variants(overrides, rewritten)[0])
        first = None if lines else _compose(command.name, variants(overrides, rewritten)[0])
        daily = bool(first and first.plain.get(DAILY))
        if first and daily:
            lines += _daily_mistakes(command, first, variants(overrides, rewritten)[0], multirun or search)
    if first is None or lines:
        raise ConfigurationError("\n".join(dict.fromkeys(lines)))
    options = (
        build(first.plain[SWEEP], fields(command.options, {}, "")[SWEEP].hint, SWEEP, []) if search else None
    )
    return Reviewed([text for text in rewritten if text], first, search=options, is_daily=daily)


def _implied(command: Command[C], overrides: Sequence[Override], texts: Sequence[str]) -> list[Override]:
    """The model that a sweep is meant for, where neither the command line nor an experiment chooses one."""
    if {"model", "experiment"} & {override.key_or_group for override in overrides}:
        return []
    try:
        composed = _compose(command.name, variants(overrides, texts)[0])
    except (HydraException, OmegaConfBaseException):
        return []  # reported later
    meant_for = (composed.plain.get(SWEEP) or {}).get("meant_for")
    if not isinstance(meant_for, str) or composed.choices.get("model") in (None, meant_for):
        return []
    return parse([f"model={meant_for}"], GlobalHydra.instance().config_loader(), [])


def _mistakes(command: Command[C], overrides: Sequence[str]) -> list[str]:
    """What is wrong with the configuration that these overrides compose."""
    try:
        settle(command, _compose(command.name, overrides))
    except ConfigurationError as error:
        return str(error).splitlines()
    except (HydraException, OmegaConfBaseException) as error:
        said = " ".join(f"{error} {error.__cause__ or ''}".split())
        return [said.partition(" Config search path:")[0]]
    return []


def _search_mistakes(command: Command[C], overrides: Sequence[str]) -> list[str]:
    """What is wrong with the values that a sweep would search."""
    try:
        composed = _compose(command.name, overrides)
        space, meant_for = composed.plain[SWEEP]["space"], composed.plain[SWEEP].get("meant_for")
    except (HydraException, OmegaConfBaseException, KeyError, TypeError):
        return []  # reported already
    model = composed.choices.get("model")
    if meant_for not in (None, model):
        return [f"the sweep is meant for `model={meant_for}`, got `model={model}`; add `model={meant_for}`"]
    problems: list[Problem] = []
    swept = parse(
        [f"{key}={value}" for key, value in space.items()], GlobalHydra.instance().config_loader(), problems
    )
    texts = [for_hydra(override, _groups(command), problems) for override in swept]
    lines = [f"`sweep.space`: {problem.text}" for problem in problems]
    lines += [
        f"`sweep.space.{override.key_or_group}` must be a choice(...), a range(...) or an interval(...)"
        for override in swept
        if not override.is_sweep_override()
    ]
    for tried in variants(swept, texts):
        lines += _mistakes(command, [*overrides, *tried])
    return lines


def _daily_mistakes(
    command: Command[C], first: Composition, overrides: Sequence[str], repeated: bool
) -> list[str]:
    """What is wrong with the day-by-day loop: keys that its continued runs change, or runs beside it."""
    lines = []
    if repeated:
        lines.append("`daily` goes through its steps by itself; leave out `-m` and `sweep=`")
    lines += [
        f"`daily` begins with a run of its own; leave out `{key}`"
        for key in ("resume", "init_from")
        if first.plain.get(key)
    ]
    changed = first.plain[DAILY].get("continued") or {}
    return lines + _mistakes(command, [*overrides, *forced(changed)])


def _layered(command: Command[C], composition: Composition, problems: list[Problem]) -> dict[str, Any]:
    """The configuration of the run that is continued, if any, with what was asked for on top."""
    asked = composition.plain
    folder = asked.get(command.continues) if command.continues else None
    if folder is None:
        return asked
    if folder == MISSING:
        raise ConfigurationError(f"`{command.continues}` must be given: {command.continues}=DIR")
    try:
        base = read_config(str(folder))
    except ValueError as error:
        raise ConfigurationError(f"`{command.continues}`: {error}") from error
    known = {field.name for field in dataclasses.fields(command.options)}  # type: ignore[arg-type]
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
    known = list(dict.fromkeys([*known_keys(command.options, plain), *composition.choices]))
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


def _groups(command: Command[C]) -> Groups:
    loader = GlobalHydra.instance().config_loader()
    names = [group for group in loader.list_groups("") if group != "hydra"]
    options = {group: loader.get_group_options(group, ObjectType.CONFIG) for group in names}
    chosen = frozenset(_compose(command.name, []).choices) & frozenset(names)
    keys = {field.name for field in dataclasses.fields(command.options)}  # type: ignore[arg-type]
    return Groups(options, chosen, folders=frozenset({SWEEP} & keys) - chosen)


def _compose(name: str, overrides: Sequence[str]) -> Composition:
    config = hydra.compose(name, overrides=list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    task = list(config.hydra.overrides.task)
    return Composition(_plain(config), choices, task)


def _plain(config: DictConfig) -> dict[str, Any]:
    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    content = OmegaConf.to_container(ours, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


@contextlib.contextmanager
def _hydra(configs: Path, config_dir: str | None) -> Iterator[None]:
    """Hydra's composing over our configuration files, without a job."""
    GlobalHydra.instance().clear()
    version.setbase("1.3")
    search_path = create_config_search_path(str(configs))
    if config_dir:
        search_path.prepend(provider="command-line", path=f"file://{Path(config_dir).absolute()}")
    # hydra.initialize_config_dir does the same for one folder only.
    Hydra.create_main_hydra2(task_name="review", config_search_path=search_path)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
