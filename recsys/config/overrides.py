"""Command-line overrides: read, checked against the groups there are, and given to Hydra as it wants them."""

from __future__ import annotations

import dataclasses
import difflib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

# More values than these of one sweep are not tried out before the sweep begins.
_MOST_CHECKED = 32


@dataclasses.dataclass(frozen=True)
class Groups:
    """The groups of configuration files.

    Args:
        options: names of the files in each group.
        chosen: groups in the command's defaults list; another one cannot be chosen.
        folders: keys of the command that are called like a group of another one, and name a folder.
    """

    options: Mapping[str, Sequence[str]]
    chosen: frozenset[str]
    folders: frozenset[str] = frozenset()


def parse(texts: Sequence[str], problems: list[str]) -> list[Override]:
    """Overrides that can be read; the others become problems."""
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    parsed = []
    for text in texts:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            advice = _advice(text, parser, error)
            problems.append(f"expected `key=value`, got `{text}`: {advice}")
    return parsed


def _advice(text: str, parser: OverridesParser, error: HydraException) -> str:
    """Advises on an override that cannot be read; signs of Hydra's grammar want quotation marks."""
    key, equals, value = text.partition("=")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    quotes = f'{key}="{escaped}"'
    if equals:
        try:
            parser.parse_override(quotes)
        except HydraException:
            pass
        else:
            shown = shlex.quote(quotes)
            return f"a value with such signs stands in quotation marks, and those in the shell's: {shown}"
    return " ".join(str(error).split())


def check_values(override: Override, *, multirun: bool, search: bool, problems: list[str]) -> None:
    """Several values for one key need a command that runs several times.

    Args:
        override: one override.
        multirun: every value is to be run.
        search: values are to be drawn by a sweep.
        problems: gets what is wrong.
    """
    key = override.key_or_group
    if not override.is_sweep_override() or search:
        return
    if not override.is_discrete_sweep():
        text = f"`{override.input_line}` asks to search an interval, which only `sweep=NAME` does"
        problems.append(f"{text}; list the values instead")
    elif not multirun:
        text = f"`{override.input_line}` gives several values for `{key}`"
        problems.append(f"{text}; add `-m` to run once for each, or write [a,b] for a list")


def for_hydra(override: Override, groups: Groups, problems: list[str]) -> str:
    """The override as Hydra wants it.

    A file that does not exist in its group becomes a problem, and the nearest one takes its place, so that
    the rest can be checked. A key is forced, so that it need not be spelled out in the chosen files; whether
    somebody reads it is checked on what is composed.
    """
    text = str(override.input_line)
    name = override.key_or_group
    if name.split(".")[0].split("/")[0] == "hydra":  # its own settings
        return text
    if name not in groups.options:
        return text if override.is_delete() else f"++{text.lstrip('+')}"
    if name in groups.folders:
        # Hydra takes a key that is called like a group for that group, unless its value is a dictionary.
        return forced({name: {"folder": override.value()}})[0] if override.value() else ""
    if name not in groups.chosen:
        there = ", ".join(f"`{group}`" for group in sorted(groups.chosen)) or "nothing"
        problems.append(f"this command does not choose a `{name}`; it chooses {there}")
        return ""
    before = len(problems)
    meant = [_nearest_option(name, option, groups, problems) for option in _options(override)]
    if override.is_delete() or override.is_sweep_override():
        return text.lstrip("+") if len(problems) == before else ""
    if not meant:  # model=null
        return f"~{name}"
    return f"{name}={_as_value(meant)}" if None not in meant else ""


def variants(overrides: Sequence[Override], texts: Sequence[str]) -> list[list[str]]:
    """Override lists without sweeps that together use every swept value at least once.

    Args:
        overrides: some of them sweeps.
        texts: the same as Hydra wants them; empty ones are left out.
    """
    choices = [_values(override, text) for override, text in zip(overrides, texts, strict=True) if text]
    first = [choice[0] for choice in choices]
    rest = [[*first[:i], value, *first[i + 1 :]] for i, choice in enumerate(choices) for value in choice[1:]]
    return [first, *rest]


def _nearest_option(name: str, option: str, groups: Groups, problems: list[str]) -> str | None:
    there = groups.options[name]
    if option in there:
        return option
    guesses = difflib.get_close_matches(option, there, n=1, cutoff=0.5)
    meant = f"; did you mean `{name}={guesses[0]}`?" if guesses else ""
    text = f"expected one of {', '.join(there) or 'no files yet'} for `{name}`, got `{option}`{meant}"
    problems.append(text)
    return guesses[0] if guesses else None


def _as_value(options: Sequence[str | None]) -> str:
    if len(options) == 1:  # Hydra takes a list for a group that may choose several files
        return str(options[0])
    return f"[{','.join(str(option) for option in options)}]"


def _values(override: Override, text: str) -> list[str]:
    if not override.is_sweep_override():
        return [text]
    key = text.partition("=")[0]
    if override.is_discrete_sweep():
        return [f"{key}={value}" for value in list(override.sweep_string_iterator())[:_MOST_CHECKED]]
    interval: Any = override.value()
    return [f"{key}={interval.start}", f"{key}={interval.end}"]


def _options(override: Override) -> list[str]:
    """Names of the files that a group override asks for."""
    if override.is_sweep_override():
        return list(override.sweep_string_iterator()) if override.is_discrete_sweep() else []
    value = override.value()
    asked = value if isinstance(value, list) else [value]
    return [str(option) for option in asked if option is not None]


def forced(values: Mapping[str, Any]) -> list[str]:
    """Overrides that give these values to these keys, whether or not a file spells them out.

    Example:
        >>> forced({"trainer.patience": None, "model.hidden": [64, 32], "data.name": "a b"})
        ['++trainer.patience=null', '++model.hidden=[64,32]', "++data.name='a b'"]
    """
    return [f"++{key}={_written(value)}" for key, value in values.items()]


def _written(value: Any) -> str:
    """A value as Hydra's grammar takes it."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_written, value)) + "]"
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def quoted(text: str | Path) -> str:
    """Text as Hydra's grammar takes it, whatever is in it."""
    escaped = str(text).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def trusted_packages(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The packages of `trust=a` or `trust=[a,b]`, and the other words.

    Example:
        >>> trusted_packages(["seed=1", "trust=[mine,ours]"])
        (['mine', 'ours'], ['seed=1'])
    """
    given = [word for word in words if word.lstrip("+").partition("=")[0] == "trust" and "=" in word]
    packages = [
        package.strip().strip("'\"")
        for word in given
        for package in word.partition("=")[2].strip("[]").split(",")
        if package.strip()
    ]
    return packages, [word for word in words if word not in given]
