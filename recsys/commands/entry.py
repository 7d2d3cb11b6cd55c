"""Runs a command: a command line in, a station out, the exit status as the contract says."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import logging
import os
import sys
import traceback
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from omegaconf import DictConfig

from recsys.commands.daily import LOOP, STATE
from recsys.commands.results import conclude, summarise
from recsys.commands.sweeps.study import is_sweep
from recsys.commands.sweeps.sweeper import SWEEPER
from recsys.commands.sweeps.workers import is_worker, supervise
from recsys.commands.trials import MULTIRUN, run_trial
from recsys.config.compose import (
    CONFIGS,
    DAILY,
    SWEEP,
    Command,
    Composition,
    Reviewed,
    current_composition,
    review,
    settle,
)
from recsys.config.launchers import BASIC, LAUNCHER
from recsys.config.overrides import forced
from recsys.runs.folders import LOG_FORMAT, claim_folder, is_worth_a_line, unique_folder
from recsys.runs.launch import launched
from recsys.schema.errors import InputError
from recsys.schema.manifest import json_text

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

_REFUSED_BY_THE_DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)

DONE, FAULT, USERS_MISTAKE, INTERRUPTED = 0, 1, 2, 130


def command(
    name: str,
    options: type[C],
    *,
    continues: str | None = None,
    repeats: bool = False,
    configs: Path = CONFIGS,
) -> Callable[[Function[C]], Callable[..., None]]:
    """Makes an entry point of a function that takes typed options and writes a station.

    The function gets its options and the plain configuration they were made from, and returns the station's
    path. What it prints goes to stderr; the path becomes the last line of stdout. The entry point ends the
    process.

    Args:
        name: of the root file in configs/.
        options: dataclass of the command's keys.
        continues: key that names a run from whose configuration the command starts.
        repeats: may run several times, with `-m` or `sweep=`.
        configs: folder of the configuration files.
    """

    def wrap(function: Function[C]) -> Callable[..., None]:
        @functools.wraps(function)
        def main(arguments: Sequence[str] | None = None) -> None:
            asked = sys.argv[1:] if arguments is None else list(arguments)
            sys.exit(run(Command(name, options, continues, repeats, configs), function, asked))

        return main

    return wrap


def subcommands(name: str, entry_points: Mapping[str, Callable[..., None]]) -> Callable[..., None]:
    """Makes one entry point of several: the first argument says which.

    Args:
        name: how it is called, for messages.
        entry_points: what `command` made, by name.
    """

    def main(arguments: Sequence[str] | None = None) -> None:
        asked = sys.argv[1:] if arguments is None else list(arguments)
        first, *others = asked or [""]
        if first in entry_points:
            entry_points[first](others)
        expected = " or ".join(f"`{name} {one} ...`" for one in entry_points)
        print(f"error: expected {expected}, got `{first}`; each explains itself with --help", file=sys.stderr)
        sys.exit(USERS_MISTAKE)

    return main


def run(command: Command[C], function: Function[C], arguments: Sequence[str]) -> int:
    """Runs a command and returns its exit status."""
    _log_to_stderr()
    try:
        return _run(command, function, arguments)
    except KeyboardInterrupt as interruption:
        print(f"interrupted{f': {interruption}' if str(interruption) else ''}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return report(error)


def report(error: Exception) -> int:
    """Prints what went wrong, as the contract says, and returns the exit status."""
    if not is_users_mistake(error):
        traceback.print_exception(error)
        return FAULT
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return USERS_MISTAKE


def is_users_mistake(error: BaseException) -> bool:
    """Tells a user's mistake, and a disk that refuses, from a fault of ours."""
    if isinstance(error, OSError) and error.errno in _REFUSED_BY_THE_DISK:
        return True
    return isinstance(error, InputError)


def _run(command: Command[C], function: Function[C], arguments: Sequence[str]) -> int:
    parser = get_args_parser()
    # Hydra's own parsing wants all flags on one side of the overrides.
    args = parser.parse_intermixed_args(arguments)
    if args.help or args.hydra_help or args.info or args.shell_completion:
        _hydra(args, parser, command, _no_job)
        return DONE
    if args.config_name:
        command = dataclasses.replace(command, name=args.config_name.removesuffix(".yaml"))
    reviewed = review(command, args.overrides, config_dir=args.config_dir, multirun=args.multirun)
    if args.cfg:
        args.overrides = [*_settings(command.name, None, args.overrides), *reviewed.overrides]
        _hydra(args, parser, command, _no_job)
        return DONE
    if args.multirun or reviewed.search or reviewed.is_daily:
        return _repeat(command, function, reviewed, args=args, parser=parser)
    outcomes: list[Path | Exception] = []
    args.overrides = [*_settings(command.name, None, args.overrides), *reviewed.overrides]
    _hydra(
        args,
        parser,
        command,
        lambda config: outcomes.append(_outcome(command, function, current_composition(config))),
    )
    [outcome] = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    if launched().is_main:
        print(outcome)
    return DONE


def _repeat(
    command: Command[C], function: Function[C], reviewed: Reviewed, *, args: Namespace, parser: ArgumentParser
) -> int:
    if launched().num_ranks > 1:
        raise InputError(
            "several runs (`-m`, `sweep=`) are started by one process, but torchrun has started"
            f" {launched().num_ranks}; leave torchrun out, or train one run"
        )
    path = _folder_of_runs(reviewed)
    search = reviewed.search
    given = args.overrides
    chosen = [f"hydra/sweeper={SWEEPER if search else LOOP}"] if search or reviewed.is_daily else []
    args.multirun = True
    args.overrides = [*_settings(command.name, path, given), *chosen, *reviewed.overrides]
    if search and search.workers and reviewed.first.choices.get(LAUNCHER, BASIC) == BASIC:
        status = supervise(_worker(function, args, given, path), folder=path, num_workers=search.workers)
        if status != DONE:
            return status
    else:
        _hydra(args, parser, command, functools.partial(_trial, command, function))
    if is_worker():  # its supervisor says what came out
        return DONE
    succeeded = True
    if not reviewed.is_daily:  # which says itself what came out
        with contextlib.redirect_stdout(sys.stderr):
            succeeded = summarise(path, metric=search.metric if search else None)
            if search:
                succeeded = conclude(path, search) and succeeded
    print(path)
    return DONE if succeeded else FAULT


def _folder_of_runs(reviewed: Reviewed) -> Path:
    """A new folder, or that of a loop or a search which goes on."""
    folder = reviewed.first.plain.get("run_dir")
    if not folder:
        name = DAILY if reviewed.is_daily else reviewed.first.choices.get(SWEEP) or "multirun"
        return unique_folder(f"sweep-{name}")
    if reviewed.is_daily and (Path(folder) / STATE).is_file():
        return Path(folder)
    if reviewed.search and is_sweep(Path(folder)):
        return Path(folder)
    if reviewed.search or reviewed.is_daily:  # which write their own record, and check it
        return claim_folder(Path(folder), key="run_dir")
    overrides = [text for text in reviewed.overrides if not text.lstrip("+").startswith("run_dir=")]
    record = json_text({"overrides": overrides})
    if (Path(folder) / MULTIRUN).is_file() and (Path(folder) / MULTIRUN).read_text() == record:
        return Path(folder)
    return claim_folder(Path(folder), key="run_dir", texts={MULTIRUN: record})


def _worker(function: Function[C], args: Namespace, given: Sequence[str], path: Path) -> list[str]:
    """The command line of a process that takes part in a search."""
    kept = [text for text in given if text.lstrip("+").partition("=")[0] not in ("run_dir", "sweep.workers")]
    flags = [f"--config-dir={args.config_dir}"] if args.config_dir else []
    flags += [f"--config-name={args.config_name}"] if args.config_name else []
    return [
        sys.executable,
        *_program(function),
        *flags,
        *kept,
        *forced({"run_dir": str(path), "sweep.workers": 0}),
    ]


def _program(function: Callable[..., Any]) -> list[str]:
    """Python's arguments that run the entry point made of `function`."""
    module = sys.modules[function.__module__]
    if function.__module__.startswith("recsys."):
        return ["-m", function.__module__]
    assert module.__file__ is not None
    return [module.__file__]


def _settings(name: str, sweep_dir: Path | None, given: Sequence[str]) -> list[str]:
    """Hydra's settings: no folders of its own, no log files; what the user set otherwise stands."""
    settings = {
        "hydra.run.dir": ".",
        "hydra.output_subdir": "null",
        "hydra.job.name": name,
        "hydra/job_logging": "none",
        "hydra/hydra_logging": "none",
        "hydra.sweep.dir": f"'{sweep_dir}'".replace("\\", "\\\\") if sweep_dir else ".",
        "hydra.sweep.subdir": "${hydra.job.num}",
    }
    chosen = {text.lstrip("+").partition("=")[0] for text in given}
    return [f"{key}={value}" for key, value in settings.items() if key not in chosen]


def _hydra(
    args: Namespace, parser: ArgumentParser, command: Command[C], job: Callable[[DictConfig], Any]
) -> None:
    """What hydra.main does, with arguments that are parsed already."""
    version.setbase("1.3")
    former = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come back to `run` instead of being printed by Hydra
    try:
        _run_hydra(
            args=args,
            args_parser=parser,
            task_function=job,
            config_path=str(command.configs),
            config_name=command.name,
        )
    finally:
        if former is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = former


def _outcome(command: Command[C], function: Function[C], composition: Composition) -> Path | Exception:
    """The station's path, or the exception, which Hydra would print otherwise."""
    _log_to_stderr()
    try:
        options, plain = settle(command, composition)
        with contextlib.redirect_stdout(sys.stderr):
            return function(options, plain)
    except Exception as error:
        return error


def _trial(command: Command[C], function: Function[C], config: DictConfig) -> None:
    """One of several runs."""
    run = functools.partial(_outcome, command, function)
    run_trial(config, continues=command.continues, run=run, report=report)


def _no_job(config: DictConfig) -> None:
    raise AssertionError("Hydra was asked to show something and runs nothing")


def _log_to_stderr() -> None:
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
