"""Runs a command: a command line in, a station out, the exit status as the contract says."""

from __future__ import annotations

import contextlib
import dataclasses
import dis
import errno
import functools
import logging
import os
import sys
import time
import traceback
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from recsys.config.compose import CONFIGS, SWEEP, Command, Reviewed, current_composition, review, settle
from recsys.config.results import TRIAL, summarise
from recsys.config.runs import LOG_FORMAT, claim_folder, is_worth_a_line, unique_folder
from recsys.daily import DAILY, LOOP, STATE
from recsys.schema.manifest import write_json
from recsys.sweeper import SWEEPER
from recsys.training.launch import launched

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
    """True for a ValueError or TypeError that code of ours raised on purpose, and for a disk that refuses.

    The same exceptions out of a library, or out of an operation that failed in our code, are faults of ours.
    """
    if isinstance(error, OSError) and error.errno in _REFUSED_BY_THE_DISK:
        return True
    place = error.__traceback__
    if not isinstance(error, ValueError | TypeError) or place is None:
        return False
    while place.tb_next is not None:
        place = place.tb_next
    return _is_ours(place) and _raises(place)


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
    if args.multirun or reviewed.is_search or reviewed.is_daily:
        return _repeat(command, function, reviewed, args=args, parser=parser)
    outcomes: list[Path | Exception] = []
    args.overrides = [*_settings(command.name, None, args.overrides), *reviewed.overrides]
    _hydra(args, parser, command, lambda config: outcomes.append(_outcome(command, function, config)))
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
        raise ValueError(
            "several runs (`-m`, `sweep=`) are started by one process, but torchrun has started"
            f" {launched().num_ranks}; leave torchrun out, or train one run"
        )
    folder = reviewed.first.plain.get("run_dir")
    sweeper = LOOP if reviewed.is_daily else SWEEPER if reviewed.is_search else None
    name = DAILY if reviewed.is_daily else reviewed.first.choices.get(SWEEP) or "multirun"
    if folder and reviewed.is_daily and (Path(folder) / STATE).is_file():
        path = Path(folder)  # goes on where it stopped
    else:
        path = claim_folder(Path(folder), key="run_dir") if folder else unique_folder(f"sweep-{name}")
    args.multirun = True
    chosen = [f"hydra/sweeper={sweeper}"] if sweeper else []
    args.overrides = [*_settings(command.name, path, args.overrides), *chosen, *reviewed.overrides]
    _hydra(args, parser, command, functools.partial(_trial, command, function))
    if reviewed.is_daily:  # says itself what came out
        succeeded = True
    else:
        with contextlib.redirect_stdout(sys.stderr):
            succeeded = summarise(path, metric=(reviewed.first.plain.get(SWEEP) or {}).get("metric"))
    print(path)
    return DONE if succeeded else FAULT


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


def _outcome(command: Command[C], function: Function[C], config: DictConfig) -> Path | Exception:
    """The station's path, or the exception, which Hydra would print otherwise."""
    _log_to_stderr()
    try:
        options, plain = settle(command, current_composition(config))
        with contextlib.redirect_stdout(sys.stderr):
            return function(options, plain)
    except Exception as error:
        return error


def _trial(command: Command[C], function: Function[C], config: DictConfig) -> None:
    """One of several runs; its failure is recorded in its folder and ends nothing else."""
    hydras = HydraConfig.get()
    assert hydras.mode == RunMode.MULTIRUN
    folder = Path(os.path.relpath(hydras.runtime.output_dir))
    texts = [text.lstrip("+") for text in hydras.overrides.task]
    asked = [text for text in texts if text != f"~{SWEEP}" and not text.startswith("run_dir=")]
    logger.info("trial %d: %s", hydras.job.num, " ".join(asked))
    started = time.perf_counter()
    trial = {"number": hydras.job.num, "overrides": asked, "status": "complete"}
    config.run_dir = str(folder)
    outcome = _outcome(command, function, config)
    if isinstance(outcome, Exception):
        trial |= {"status": "failed", "error": f"{type(outcome).__name__}: {outcome}"}
        report(outcome)
    write_json(folder / TRIAL, {**trial, "seconds": round(time.perf_counter() - started, 1)})


def _no_job(config: DictConfig) -> None:
    raise AssertionError("Hydra was asked to show something and runs nothing")


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LOG_FORMAT)
    handler.addFilter(is_worth_a_line)
    logging.basicConfig(
        level=logging.INFO if launched().is_main else logging.WARNING, handlers=[handler], force=True
    )
    for name, level in _NOISY.items():
        logging.getLogger(name).setLevel(level)
    for message in _NOISY_WARNINGS:
        warnings.filterwarnings("ignore", message)


def _is_ours(place: TracebackType) -> bool:
    return str(place.tb_frame.f_globals.get("__name__")).split(".")[0] in ("recsys", "__main__")


def _raises(place: TracebackType) -> bool:
    """True when the line stopped at a `raise` statement, false when an operation in it failed."""
    return place.tb_frame.f_code.co_code[place.tb_lasti] == dis.opmap["RAISE_VARARGS"]
