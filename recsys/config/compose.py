"""Composes a command's configuration, checks all of it and names every mistake, before any work is done."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import hydra
import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys.config.auto import AUTO, left_to_data, rules_of, without
from recsys.config.build import MISSING, Problem, advice, build
from recsys.config.keys import flattened, known_keys, spelled_out
from recsys.config.launchers import check_launcher
from recsys.config.origins import origin
from recsys.config.overrides import Groups, check_values, for_hydra, forced, is_hydras, parse, variants
from recsys.config.register import TARGET
from recsys.config.saved import read_config
from recsys.config.signatures import ROOT, signature_of, stand_in
from recsys.config.targets import fields
from recsys.schema.errors import InputError

# Beside the package in a checkout, within it where it was installed from a wheel.
CONFIGS = (ROOT.parent if (ROOT.parent / "pyproject.toml").is_file() else ROOT) / "configs"
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
        options: dataclass of its keys, or its dotted name, so that a mistyped key need not import it; its
            type hints are what the configuration is checked against.
        continues: key that names a run from whose configuration this command starts.
        repeats: may run several times, with `-m` or `sweep=`.
        configs: folder of the configuration files.
    """

    name: str
    options: type[C] | str
    continues: str | None = None
    repeats: bool = False
    configs: Path = CONFIGS

    @property
    def hint(self) -> Any:
        """The dataclass of its keys, or an empty class of its name."""
        return stand_in(self.options) if isinstance(self.options, str) else self.options

    @property
    def keys(self) -> list[str]:
        """Names of its keys at the top."""
        return list(signature_of(self.hint).parameters)


@dataclasses.dataclass(frozen=True)
class Composition:
    """Holds a configuration that Hydra has composed.

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
    options, plain = _checked(command, composition)
    return options, spelled_out(plain, command.hint)


def _checked(command: Command[C], composition: Composition) -> tuple[C, dict[str, Any]]:
    problems: list[Problem] = []
    plain = _layered(command, composition, problems)
    options: C = build(without(plain, left_to_data(plain)), command.hint, "", problems)
    problems = [_with_rules(problem, plain) for problem in problems]
    if problems:
        raise ConfigurationError("\n".join(_described(problems, command, composition, plain)))
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
    with composing(command.configs, config_dir):
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
        tried = variants(overrides, rewritten)
        first = _tried(command, tried[0], lines)
        for others in tried[1:]:
            _tried(command, others, lines)
        if search:
            lines += _search_mistakes(command, first, tried[0])
        daily = bool(first and first.plain.get(DAILY))
        if first and daily and not lines:
            lines += _daily_mistakes(command, first, tried[0], multirun or search)
    if first is None or lines:
        raise ConfigurationError("\n".join(dict.fromkeys(lines)))
    hint = fields(command.hint, {}, "")[SWEEP].hint if search else None
    options = build(first.plain[SWEEP], hint, SWEEP, []) if search else None
    return Reviewed([text for text in rewritten if text], first, search=options, is_daily=daily)


def _implied(command: Command[C], overrides: Sequence[Override], texts: Sequence[str]) -> list[Override]:
    """The model that a sweep is meant for, where neither the command line nor an experiment chooses one."""
    if {"model", "experiment"} & {override.key_or_group for override in overrides}:
        return []
    try:
        composed = compose(command.name, variants(overrides, texts)[0])
    except (HydraException, OmegaConfBaseException):
        return []  # reported later
    meant_for = (composed.plain.get(SWEEP) or {}).get("meant_for")
    if not isinstance(meant_for, str) or composed.choices.get("model") in (None, meant_for):
        return []
    return parse([f"model={meant_for}"], GlobalHydra.instance().config_loader(), [])


def _tried(command: Command[C], overrides: Sequence[str], lines: list[str]) -> Composition | None:
    """Composes overrides and checks the result, None where nothing comes of them; `lines` gets mistakes."""
    composed = None
    try:
        composed = compose(command.name, overrides)
        _checked(command, composed)
    except ConfigurationError as error:
        lines += str(error).splitlines()
    except (HydraException, OmegaConfBaseException) as error:
        said = " ".join(f"{error} {error.__cause__ or ''}".split())
        lines.append(said.partition(" Config search path:")[0])
    return composed


def _search_mistakes(
    command: Command[C], composed: Composition | None, overrides: Sequence[str]
) -> list[str]:
    """Mistakes in the values that a sweep would search."""
    sweep = composed.plain.get(SWEEP) if composed else None
    if composed is None or not isinstance(sweep, dict) or not isinstance(sweep.get("space"), dict):
        return []  # reported already
    space, meant_for = sweep["space"], sweep.get("meant_for")
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
        _tried(command, [*overrides, *tried], lines)
    return lines


def _daily_mistakes(
    command: Command[C], first: Composition, overrides: Sequence[str], repeated: bool
) -> list[str]:
    """Checks the day-by-day loop: the keys that its continued runs change, and runs beside it."""
    lines = []
    if repeated:
        lines.append("`daily` goes through its steps by itself; leave out `-m` and `sweep=`")
    lines += [
        f"`daily` begins with a run of its own; leave out `{key}`"
        for key in ("resume", "init_from")
        if first.plain.get(key)
    ]
    changed = first.plain[DAILY].get("continued") or {}
    _tried(command, [*overrides, *forced(changed)], lines)
    return lines


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


def _groups(command: Command[C]) -> Groups:
    loader = GlobalHydra.instance().config_loader()
    names = [group for group in loader.list_groups("") if group != "hydra"]
    options = {group: loader.get_group_options(group, ObjectType.CONFIG) for group in names}
    chosen = frozenset(defaults_of(command)) & frozenset(names)
    return Groups(options, chosen, folders=frozenset({SWEEP} & set(command.keys)) - chosen)


def rewritten_overrides(command: Command[C], texts: Sequence[str]) -> list[str]:
    """Overrides as Hydra wants them, without several values for a key; see `composing`.

    Raises:
        ConfigurationError: one cannot be read, or names a file that is not there.
    """
    problems: list[Problem] = []
    loader = GlobalHydra.instance().config_loader()
    overrides = parse(texts, loader, problems)
    groups = _groups(command)
    rewritten = [for_hydra(override, groups, problems) for override in overrides]
    if problems:
        raise ConfigurationError("\n".join(problem.text for problem in problems))
    return variants(overrides, rewritten)[0]


def defaults_of(command: Command[C]) -> dict[str, str | None]:
    """The groups that a command chooses from, with what it chooses unasked."""
    folders = [*([Path(_FurtherFolder.path)] if _FurtherFolder.path else []), command.configs]
    root = next((path for path in (one / f"{command.name}.yaml" for one in folders) if path.is_file()), None)
    listed = (yaml.safe_load(root.read_text(encoding="utf-8")) or {}).get("defaults", []) if root else []
    return {group: chosen for entry in listed if isinstance(entry, dict) for group, chosen in entry.items()}


def compose(name: str, overrides: Sequence[str]) -> Composition:
    """Composes a root file and overrides; see `composing`."""
    config = hydra.compose(name, overrides=list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    task = list(config.hydra.overrides.task)
    return Composition(_plain(config), choices, task)


def _plain(config: DictConfig) -> dict[str, Any]:
    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    content = OmegaConf.to_container(ours, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


class _FurtherFolder(SearchPathPlugin):
    """Puts the folder of `--config-dir` before ours, as Hydra's own command line does."""

    path: ClassVar[str | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra when it is initialised."""
        if self.path:
            search_path.prepend(provider="command-line", path=f"file://{self.path}")


Plugins.instance().register(_FurtherFolder)


@contextlib.contextmanager
def composing(configs: Path, config_dir: str | None = None) -> Iterator[None]:
    """While inside, Hydra composes from a folder of configuration files, and before it from `config_dir`."""
    GlobalHydra.instance().clear()
    _FurtherFolder.path = str(Path(config_dir).absolute()) if config_dir else None
    try:
        with hydra.initialize_config_dir(str(configs.absolute()), version_base="1.3", job_name="recsys"):
            yield
    finally:
        _FurtherFolder.path = None
        GlobalHydra.instance().clear()
