"""Runs a command: a command line in, a station out, the exit status as the contract says."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from omegaconf import OmegaConf

from recsys.commands.elsewhere import with_places
from recsys.commands.limits import enough_of_the_system
from recsys.commands.process import (
    DONE,
    INTERRUPTED,
    USERS_MISTAKE,
    CommandLine,
    Function,
    log_to_stderr,
    outcome_of,
    report,
    signals_as_interrupts,
)
from recsys.config.compose import CONFIGS, Command
from recsys.config.help import HelpTexts, explain, overview
from recsys.config.overrides import trusted_packages
from recsys.config.register import trusting
from recsys.config.review import review
from recsys.config.settle import settle
from recsys.runs.launch import launched
from recsys.schema.errors import InputError

logger = logging.getLogger(__name__)

C = TypeVar("C")


def command(
    name: str,
    options: type[C] | str,
    *,
    continues: str | None = None,
    repeats: bool = False,
    configs: Path = CONFIGS,
    help_texts: HelpTexts | None = None,
) -> Callable[[Function[C]], Callable[..., None]]:
    """Makes an entry point of a function that takes typed options and writes a station.

    The function gets its options and the plain configuration they were made from, and returns the station's
    path. What it prints goes to stderr; the path becomes the last line of stdout. The entry point ends the
    process.

    Args:
        name: of the root file in configs/.
        options: dataclass of the command's keys, or its dotted name, so that `--help` and mistyped keys need
            not import it.
        continues: key that names a run from whose configuration the command starts.
        repeats: may run several times, with `-m` or `sweep=`.
        configs: folder of the configuration files.
        help_texts: how it is called, the keys that matter and an example, for `--help`.
    """

    def wrap(function: Function[C]) -> Callable[..., None]:
        summary = (function.__doc__ or "").partition("\n")[0]
        texts = help_texts or HelpTexts(f"recsys {name.replace('_', '-')}")
        texts = dataclasses.replace(texts, summary=summary)

        @functools.wraps(function)
        def main(arguments: Sequence[str] | None = None) -> None:
            given = sys.argv[1:] if arguments is None else list(arguments)
            sys.exit(run(Command(name, options, continues, repeats, configs), function, given, texts))

        return main

    return wrap


def subcommands(name: str, entry_points: Mapping[str, Callable[..., None]]) -> Callable[..., None]:
    """Makes one entry point of several: the first argument says which.

    Args:
        name: how it is called, for messages.
        entry_points: what `command` made, by name.
    """

    def main(arguments: Sequence[str] | None = None) -> None:
        first, *others = (sys.argv[1:] if arguments is None else list(arguments)) or [""]
        if first in entry_points:
            entry_points[first](others)
        if first in ("-h", "--help"):
            lines = [f"  {name} {part} ...  {entry.__doc__}" for part, entry in entry_points.items()]
            print("\n".join([*lines, "Each explains itself with --help"]))
            sys.exit(DONE)
        expected = " or ".join(f"`{name} {part} ...`" for part in entry_points)
        print(f"error: expected {expected}, got `{first}`; each explains itself with --help", file=sys.stderr)
        sys.exit(USERS_MISTAKE)

    return main


def run(command: Command[C], function: Function[C], arguments: Sequence[str], texts: HelpTexts) -> int:
    """Runs a command and returns its exit status."""
    log_to_stderr()
    try:
        with signals_as_interrupts():
            return _run(command, function, arguments, texts)
    except KeyboardInterrupt as interruption:
        again = f"the same command begins anew: {texts.usage} {shlex.join(arguments)}"
        print(f"interrupted: {interruption if str(interruption) else again}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `--help | head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        return report(error)


def _run(command: Command[C], function: Function[C], arguments: Sequence[str], texts: HelpTexts) -> int:
    line = _parsed(arguments, texts)
    if line.config_name:
        command = dataclasses.replace(command, name=line.config_name.removesuffix(".yaml"))
    with trusting(line.trusted):
        if line.topics is not None:
            print(explain(command, line.overrides, line.topics) or overview(command, texts))
            return DONE
        elsewhere = with_places(line.overrides)
        line = dataclasses.replace(line, overrides=elsewhere.overrides)
        reviewed = review(command, line.overrides, config_dir=line.config_dir, multirun=line.multirun)
        if line.shows:
            _, plain = settle(command, reviewed.first)
            print(OmegaConf.to_yaml(OmegaConf.create(plain)), end="")
            return DONE
        if line.multirun or reviewed.search or reviewed.is_daily:
            from recsys.commands.several import run_several  # Optuna, which one training needs not

            elsewhere.refuse_written("several trainings write")
            with enough_of_the_system():
                return run_several(command, function, reviewed, line)
        path = outcome_of(command, function, reviewed.first)
        if launched().is_main:
            print(elsewhere.put(path))
    return DONE


def _parsed(arguments: Sequence[str], texts: HelpTexts) -> CommandLine:
    parser = argparse.ArgumentParser(texts.usage, add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job"])
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--config-name", "-cn")
    parser.add_argument("words", nargs="*")
    try:
        given, unknown = parser.parse_known_intermixed_args(arguments)
    except (argparse.ArgumentError, argparse.ArgumentTypeError) as error:
        raise InputError(f"{error}; `{texts.usage} --help` explains the command") from error
    if unknown:
        raise InputError(
            f"expected --help, -m, --cfg job, --config-dir=DIR or KEY=VALUE, got `{unknown[0]}`; "
            f"`{texts.usage} --help` explains the command"
        )
    trusted, words = trusted_packages(given.words)
    # Overrides hold a `=` or begin with `~`; another word is a topic, or a mistake that composing names.
    is_topic = [given.help and "=" not in word and not word.startswith("~") for word in words]
    topics = [word for word, topic in zip(words, is_topic, strict=True) if topic]
    if given.help and not topics:
        topics = [word.partition("=")[0] for word in words]
    return CommandLine(
        [word for word, topic in zip(words, is_topic, strict=True) if not topic],
        trusted,
        topics if given.help else None,
        multirun=given.multirun,
        shows=given.cfg is not None,
        config_dir=given.config_dir,
        config_name=given.config_name,
    )
