"""Runs a command: a command line in, a station out, the exit status as the contract says."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import functools
import logging
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf

from recsys.commands.installation import installation_problems
from recsys.config.compose import CONFIGS, Command, Composition, review, settle
from recsys.config.help import HelpTexts, explain, overview
from recsys.config.overrides import trusted_packages
from recsys.config.register import trusting
from recsys.runs.folders import LOG_FORMAT, is_worth_a_line
from recsys.runs.launch import launched
from recsys.schema.errors import InputError

logger = logging.getLogger(__name__)

C = TypeVar("C")
Function = Callable[[C, dict[str, Any]], Path]

# What libraries say about themselves at every start.
_NOISY = {
    "hydra": logging.WARNING,
    "pytorch_lightning": logging.WARNING,
    "lightning.pytorch": logging.WARNING,
    "torch.fx._symbolic_trace": logging.ERROR,
    "torchrec": logging.WARNING,
    "torchrec.distributed.planner": logging.ERROR,
}
_NOISY_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    "distutils Version classes are deprecated",
    "Please use DTensor instead and we are deprecating ShardedTensor",
    "HeuristicalStorageReservation is known to cause issues",
)

_REFUSED_BY_THE_DISK = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP),
)

DONE, FAULT, USERS_MISTAKE, INTERRUPTED = 0, 1, 2, 130


@dataclasses.dataclass(frozen=True)
class Line:
    """A command line, its flags apart from its overrides.

    Args:
        overrides: keys and groups with their values.
        trusted: packages whose classes may be named.
        topics: what `--help` is asked about; None without it.
        multirun: `-m`.
        shows: `--cfg job`.
        config_dir: a further folder of configuration files.
        config_name: another root file.
    """

    overrides: list[str]
    trusted: list[str]
    topics: list[str] | None = None
    multirun: bool = False
    shows: bool = False
    config_dir: str | None = None
    config_name: str | None = None


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


def report(error: Exception) -> int:
    """Prints what went wrong, as the contract says, and returns the exit status."""
    if isinstance(error, OSError) and error.errno in _REFUSED_BY_THE_DISK:
        place = f" `{error.filename}`" if error.filename else ""
        said = f"cannot read or write{place}: {error.strerror or error}"
        print(f"error: {said}; name another place, or make room there", file=sys.stderr)
        return USERS_MISTAKE
    if not isinstance(error, InputError):
        advice = installation_problems() if _is_failed_import(error) else []
        for line in advice:
            print(f"error: {line}", file=sys.stderr)
        if advice:
            return USERS_MISTAKE
        traceback.print_exception(error)
        return FAULT
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return USERS_MISTAKE


def _is_failed_import(error: Exception) -> bool:
    """True for what came out of an `import`: commands import torch after their arguments are checked."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename.startswith("<frozen importlib") for frame in frames)


def is_users_mistake(error: BaseException) -> bool:
    """Tells a user's mistake, and a disk that refuses, from a fault of ours."""
    if isinstance(error, OSError) and error.errno in _REFUSED_BY_THE_DISK:
        return True
    return isinstance(error, InputError)


@contextlib.contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """While inside, SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def outcome_of(command: Command[C], function: Function[C], composition: Composition) -> Path:
    """Runs the command's function on what was composed, and returns the station's path."""
    options, plain = settle(command, composition)
    with contextlib.redirect_stdout(sys.stderr):
        return function(options, plain)


def _run(command: Command[C], function: Function[C], arguments: Sequence[str], texts: HelpTexts) -> int:
    line = _parsed(arguments, texts)
    if line.config_name:
        command = dataclasses.replace(command, name=line.config_name.removesuffix(".yaml"))
    with trusting(line.trusted):
        if line.topics is not None:
            print(explain(command, line.overrides, line.topics) or overview(command, texts))
            return DONE
        reviewed = review(command, line.overrides, config_dir=line.config_dir, multirun=line.multirun)
        if line.shows:
            _, plain = settle(command, reviewed.first)
            print(OmegaConf.to_yaml(OmegaConf.create(plain)), end="")
            return DONE
        if line.multirun or reviewed.search or reviewed.is_daily:
            from recsys.commands.several import run_several  # Optuna, which one training needs not

            return run_several(command, function, reviewed, line)
        path = outcome_of(command, function, reviewed.first)
    if launched().is_main:
        print(path)
    return DONE


def _parsed(arguments: Sequence[str], texts: HelpTexts) -> Line:
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
    return Line(
        [word for word, topic in zip(words, is_topic, strict=True) if not topic],
        trusted,
        topics if given.help else None,
        multirun=given.multirun,
        shows=given.cfg is not None,
        config_dir=given.config_dir,
        config_name=given.config_name,
    )


def log_to_stderr() -> None:
    """Sends the log to stderr, a line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LOG_FORMAT)
    handler.addFilter(is_worth_a_line)
    logging.basicConfig(
        level=logging.INFO if launched().is_main else logging.WARNING, handlers=[handler], force=True
    )
    quiet_libraries()


def quiet_libraries() -> None:
    """Silences what libraries say about themselves at every start."""
    for name, level in _NOISY.items():
        logging.getLogger(name).setLevel(level)
    for message in _NOISY_WARNINGS:
        warnings.filterwarnings("ignore", message)
