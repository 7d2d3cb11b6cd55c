"""Runs a command several times (`-m`, a sweep, the day-by-day loop) by Hydra's sweepers and launchers."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from recsys.commands.daily import LOOP, STATE
from recsys.commands.process import (
    DONE,
    FAULT,
    Function,
    Line,
    log_to_stderr,
    outcome_of,
    report,
)
from recsys.commands.results import conclude, one_of_several, summarise
from recsys.commands.sweeps.study import is_sweep
from recsys.commands.sweeps.sweeper import SWEEPER
from recsys.commands.sweeps.workers import is_worker, supervise
from recsys.commands.trials import MULTIRUN, run_trial
from recsys.config.compose import DAILY, SWEEP, Command, Composition, Reviewed, composing
from recsys.config.launchers import BASIC, LAUNCHER
from recsys.config.overrides import forced
from recsys.config.register import TRUST, trusting
from recsys.runs.folders import claim_folder, unique_folder
from recsys.runs.launch import launched
from recsys.schema.errors import InputError
from recsys.schema.manifest import json_text

C = TypeVar("C")


def run_several(command: Command[C], function: Function[C], reviewed: Reviewed, line: Line) -> int:
    """Runs what a command line asks for several times, prints the folder of all and returns the exit status.

    Raises:
        InputError: torchrun has started several processes, or the folder is taken.
    """
    if launched().num_ranks > 1:
        raise InputError(
            "several runs (`-m`, `sweep=`) are started by one process, but torchrun has started"
            f" {launched().num_ranks}; leave torchrun out, or train one run"
        )
    path = _folder_of_runs(reviewed)
    search = reviewed.search
    if search and search.workers and reviewed.first.choices.get(LAUNCHER, BASIC) == BASIC:
        status = supervise(_worker(function, line, path), folder=path, num_workers=search.workers)
        if status != DONE:
            return status
    else:
        sweeper = [f"hydra/sweeper={SWEEPER if search else LOOP}"] if search or reviewed.is_daily else []
        overrides = [*_settings(path, line.overrides), *sweeper, *reviewed.overrides]
        trial = functools.partial(_trial, command, function, tuple(line.trusted))
        _sweep(command, overrides, trial, config_dir=line.config_dir)
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


def _worker(function: Callable[..., Any], line: Line, path: Path) -> list[str]:
    """The command line of a process that takes part in a search."""
    kept = [
        text
        for text in line.overrides
        if text.lstrip("+").partition("=")[0] not in ("run_dir", "sweep.workers")
    ]
    flags = [f"--config-dir={line.config_dir}"] if line.config_dir else []
    flags += [f"--config-name={line.config_name}"] if line.config_name else []
    flags += [f"{TRUST}={package}" for package in line.trusted]
    ours = forced({"run_dir": str(path), "sweep.workers": 0})
    return [sys.executable, *_program(function), *flags, *kept, *ours]


def _program(function: Callable[..., Any]) -> list[str]:
    """Python's arguments that run the entry point made of `function`."""
    module = sys.modules[function.__module__]
    if function.__module__.startswith("recsys."):
        return ["-m", function.__module__]
    assert module.__file__ is not None
    return [module.__file__]


def _settings(path: Path, given: Sequence[str]) -> list[str]:
    """Hydra's settings: no folders of its own, no log files; what the user set otherwise stands."""
    settings = {
        "hydra.mode": "MULTIRUN",
        "hydra.run.dir": ".",
        "hydra.output_subdir": "null",
        "hydra/job_logging": "none",
        "hydra/hydra_logging": "none",
        "hydra.sweep.dir": f"'{path}'".replace("\\", "\\\\"),
        "hydra.sweep.subdir": "${hydra.job.num}",
    }
    chosen = {text.lstrip("+").partition("=")[0] for text in given}
    return [f"{key}={value}" for key, value in settings.items() if key not in chosen]


class _NoCallbacks:
    """Stands for the callbacks that Hydra's launchers call around each run; none are configured."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return _do_nothing


def _do_nothing(*arguments: Any, **keywords: Any) -> None:
    pass


def _sweep(
    command: Command[C],
    overrides: Sequence[str],
    trial: Callable[[DictConfig], None],
    *,
    config_dir: str | None,
) -> None:
    """Hands every run to the sweeper that the overrides choose."""
    with composing(command.configs, config_dir):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration(command.name, list(overrides), RunMode.MULTIRUN, from_shell=False)
        context = HydraContext(config_loader=loader, callbacks=_NoCallbacks())  # type: ignore[arg-type]
        sweeper = Plugins.instance().instantiate_sweeper(
            hydra_context=context, task_function=trial, config=config
        )
        sweeper.sweep(arguments=[str(text) for text in config.hydra.overrides.task])


def _trial(command: Command[C], function: Function[C], trusted: Sequence[str], config: DictConfig) -> None:
    """One of several runs."""

    def run(composition: Composition) -> Path | Exception:
        log_to_stderr()
        try:
            with trusting(trusted), one_of_several():
                return outcome_of(command, function, composition)
        except Exception as error:
            return error

    run_trial(config, continues=command.continues, run=run, report=report)
