"""Explains a command on one screen, and groups and keys one by one, without importing what they name."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from recsys.config.check import MISSING, type_name
from recsys.config.compose import COMPOSE_ERRORS, Command, compose, composing, defaults_of, options_of_groups
from recsys.config.keys import described_keys, flattened, nearest
from recsys.config.review import rewritten_overrides
from recsys.config.signatures import Parameter
from recsys.schema.errors import InputError

_WIDTH = 110


@dataclasses.dataclass(frozen=True)
class HelpTexts:
    """Presents a command in `--help`.

    Args:
        usage: how it is called.
        keys: those that matter to most people.
        example: arguments of an example.
        summary: what it does.
    """

    usage: str
    keys: Sequence[str] = ()
    example: str = ""
    summary: str = ""


def overview(command: Command[Any], texts: HelpTexts) -> str:
    """One screen: what the command does, its groups and their files, the keys that matter, an example."""
    with composing(command.configs):
        groups = defaults_of(command)
        files = options_of_groups(command)
        plain = _plain(command, [])
    lines = [texts.summary, "", f"  {texts.usage} [GROUP=FILE] [KEY=VALUE] ...", ""]
    if groups:
        lines.append("Groups and their files (the one in brackets is taken unasked):")
        width = max(map(len, groups))
        for group, chosen in groups.items():
            named = f"[{chosen}] " if chosen else ""
            rest = " ".join(name for name in files[group] if name != chosen)
            lines += _hung(f"  {group:{width}}  ", named + rest, limit=2)
        lines.append("")
    described = dict(described_keys(command.hint, plain))
    keys = [key for key in texts.keys or described if key in described and "_target_" not in key]
    lines.append("Keys that matter to most:" if texts.keys else "Keys:")
    width = max(map(len, keys), default=0)
    for key in keys:
        lines += _hung(
            f"  {key:{width}}  ", _sentence(described[key]) or _default(key, described[key], plain)
        )
    lines += ["", f"All keys below one: {texts.usage} --help KEY, or GROUP=FILE; KEY may be a group."]
    if command.repeats:
        lines.append(
            "Several runs: -m KEY=A,B runs each; sweep=FILE searches. --cfg job prints the configuration."
        )
    if texts.example:
        lines += ["", f"Example: {texts.usage} {texts.example}"]
    return "\n".join(lines)


def explain(command: Command[Any], overrides: Sequence[str], topics: Sequence[str]) -> str:
    """Files of a group, and each key at or below what is asked about: type, default, meaning.

    Args:
        command: which command.
        overrides: of the command line; what they choose is what is explained.
        topics: groups and dotted keys.

    Raises:
        InputError: there is no such group or key; the nearest one is named.
    """
    if not topics:
        return ""
    with composing(command.configs):
        plain = _plain(command, overrides)
        groups = defaults_of(command)
        files = options_of_groups(command)
    described = dict(described_keys(command.hint, plain))
    parts = []
    for topic in topics:
        below = {
            key: parameter
            for key, parameter in described.items()
            if key == topic or key.startswith(f"{topic}.")
        }
        if not below and topic not in groups:
            guess = nearest(topic, [*described, *groups])
            meant = f"; did you mean `{guess}`?" if guess else "; `--help` lists groups and keys"
            raise InputError(f"there is no key and no group `{topic}`{meant}")
        if topic in groups:
            parts += _hung(f"{topic}=", " ".join(files[topic]))
        whole = len(below) == 1
        leaves = [key for key in below if not any(other.startswith(f"{key}.") for other in below)]
        for key in leaves:
            said = below[key].text if whole else _sentence(below[key])
            head = f"{key}: {type_name(below[key].hint)} = {_default(key, below[key], plain)}"
            parts += [head, *_hung("    ", said)]
    return "\n".join(parts)


def _plain(command: Command[Any], overrides: Sequence[str]) -> dict[str, Any]:
    texts = rewritten_overrides(command, overrides)
    try:
        return compose(command.name, texts).plain
    except COMPOSE_ERRORS as error:
        raise InputError(" ".join(str(error).split())) from error


def _sentence(parameter: Parameter) -> str:
    text = parameter.text
    ends = [text.index(mark) for mark in ("; ", ". ") if mark in text]
    return text[: min(ends)] if ends else text.rstrip(".")


def _default(key: str, parameter: Parameter, plain: Mapping[str, Any]) -> str:
    """The value that a key has as the files say, else that of the class, as YAML writes it."""
    value = flattened(plain).get(key, MISSING)
    if value == MISSING:
        value = parameter.default or "must be given"
    words = {"None": "null", "True": "true", "False": "false", "()": "[]"}
    return words.get(str(value), str(value))


def _hung(head: str, text: str, *, limit: int = 20) -> list[str]:
    """Lines of `text` behind `head`, the later ones below the first."""
    lines = textwrap.wrap(text, _WIDTH - len(head)) or [""]
    if len(lines) > limit:
        lines = [*lines[: limit - 1], f"{lines[limit - 1]} ..."]
    return [(head if number == 0 else " " * len(head)) + line for number, line in enumerate(lines)]
