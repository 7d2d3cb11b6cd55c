"""Runs a command several times (`-m`, a sweep, the day-by-day loop), each run launched by Hydra."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from recsys.commands.daily import STATE, train_day_by_day
from recsys.commands.driver import Driver, Training, is_whole_run, run_once
from recsys.commands.process import DONE, FAULT, CommandLine, Function, log_to_stderr, outcome_of
from recsys.commands.results import conclude, summarise
from recsys.commands.sweeps.locks import exclusive
from recsys.commands.sweeps.search import search
from recsys.commands.sweeps.space import choices
from recsys.commands.sweeps.study import LOCKS, is_sweep
from recsys.commands.sweeps.workers import follow_supervisor, is_worker, supervise
from recsys.config.compose import DAILY, SWEEP, Command, Composition, composing, current_composition
from recsys.config.launchers import BASIC, LAUNCHER
from recsys.config.overrides import forced
from recsys.config.register import TRUST, trusting
from recsys.config.review import Review
from recsys.runs.folders import claim_folder, unique_folder
from recsys.runs.launch import launched
from recsys.schema.errors import InputError
from recsys.schema.manifest import json_text

# Of `-m`: its overrides, by which the same command goes on.
_MULTIRUN = "multirun.json"

C = TypeVar("C")


def run_several(command: Command[C], function: Function[C], reviewed: Review, line: CommandLine) -> int:
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
    goes_on = f"the same command with `run_dir={path}` goes on"
    sweep = reviewed.search
    if sweep and sweep.workers and reviewed.first.choices.get(LAUNCHER, BASIC) == BASIC:
        worker = _worker(function, line, path)
        status = supervise(worker, folder=path, num_workers=sweep.workers, goes_on=goes_on)
        if status != DONE:
            return status
    else:
        follow_supervisor()
        with _hydra(command, function, path, reviewed, line) as (launch, config, loader):
            driver = Driver(path, launch, goes_on)
            if sweep:
                search(driver, config, loader)
            elif reviewed.is_daily:
                train_day_by_day(dataclasses.replace(driver, is_done=is_whole_run), config)
            else:
                driver.run(_combinations(config.hydra.overrides.task, loader))
    if is_worker():  # its supervisor says what came out
        return DONE
    succeeded = True
    if not reviewed.is_daily:  # which says itself what came out
        alone = exclusive(path / LOCKS / "queue") if sweep else contextlib.nullcontext()
        with alone, contextlib.redirect_stdout(sys.stderr):
            succeeded = summarise(path, metric=sweep.metric if sweep else None)
            if sweep:
                succeeded = conclude(path, sweep) and succeeded
    print(path)
    return DONE if succeeded else FAULT


def _folder_of_runs(reviewed: Review) -> Path:
    """A new folder, or that of a list which goes on."""
    folder = reviewed.first.plain.get("run_dir")
    overrides = [text for text in reviewed.overrides if not text.lstrip("+").startswith("run_dir=")]
    # A sweep and the day-by-day loop write their own record, and check it.
    has_own = reviewed.search or reviewed.is_daily
    texts = {} if has_own else {_MULTIRUN: json_text({"overrides": overrides})}
    if not folder:
        name = DAILY if reviewed.is_daily else reviewed.first.choices.get(SWEEP) or "multirun"
        return unique_folder(f"sweep-{name}", texts=texts)
    path = Path(folder)
    if (
        (reviewed.is_daily and (path / STATE).is_file())
        or (reviewed.search and is_sweep(path))
        or any((path / name).is_file() and (path / name).read_text() == text for name, text in texts.items())
    ):
        return path
    return claim_folder(path, key="run_dir", texts=texts)


def _combinations(arguments: Sequence[str], loader: ConfigLoader) -> list[Training]:
    """A training for every combination of the values of `-m`."""
    overrides = OverridesParser.create(loader).parse_overrides(list(arguments))
    values = {
        override.get_key_element(): (
            [f"{override.get_key_element()}={value}" for value in choices(override) or []]
            if override.is_sweep_override()
            else [str(override.input_line)]
        )
        for override in overrides
    }
    combinations = enumerate(itertools.product(*values.values()))
    return [Training(number, str(number), words) for number, words in combinations]


def _worker(function: Callable[..., Any], line: CommandLine, path: Path) -> list[str]:
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
    module = function.__module__
    program = ["-m", module] if module.startswith("recsys.") else [str(sys.modules[module].__file__)]
    return [sys.executable, *program, *flags, *kept, *ours]


@contextlib.contextmanager
def _hydra(
    command: Command[C], function: Function[C], path: Path, reviewed: Review, line: CommandLine
) -> Iterator[tuple[Callable[[Sequence[Training]], None], DictConfig, ConfigLoader]]:
    """Hydra's launcher of trainings, the configuration of all of them, and what composes it."""
    # No folders of Hydra's own, no log files; what the user set otherwise stands.
    settings = {
        "hydra.mode": "MULTIRUN",
        "hydra.run.dir": ".",
        "hydra.output_subdir": "null",
        "hydra/job_logging": "none",
        "hydra/hydra_logging": "none",
        "hydra.sweep.dir": f"'{path}'".replace("\\", "\\\\"),
    }
    chosen = {text.lstrip("+").partition("=")[0] for text in line.overrides}
    ours = [f"{key}={value}" for key, value in settings.items() if key not in chosen]
    with composing(command.configs, line.config_dir):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration(
            command.name, [*ours, *reviewed.overrides], RunMode.MULTIRUN, from_shell=False
        )
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=loader, callbacks=_NoCallbacks()),  # type: ignore[arg-type]
            task_function=functools.partial(_run_job, command, function, tuple(line.trusted)),
            config=config,
        )

        def launch(trainings: Sequence[Training]) -> None:
            jobs = [[*training.overrides, f"hydra.sweep.subdir={training.folder}"] for training in trainings]
            for job in launcher.launch(jobs, initial_job_idx=trainings[0].number):
                _ = job.return_value  # raises what the job failed by

        yield launch, config, loader


class _NoCallbacks:
    """Stands for the callbacks that Hydra's launchers call around each run; none are configured."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return _do_nothing


def _do_nothing(*arguments: Any, **keywords: Any) -> None:
    pass


def _run_job(command: Command[C], function: Function[C], trusted: Sequence[str], config: DictConfig) -> None:
    """Runs one of several, in whichever process Hydra's launcher has chosen.

    Args:
        command: of the command line.
        function: that trains.
        trusted: packages whose classes may be named.
        config: as Hydra composed it for this run.
    """
    hydras = HydraConfig.get()
    folder = Path(os.path.relpath(hydras.runtime.output_dir))
    texts = [text.lstrip("+") for text in hydras.overrides.task]
    asked = [text for text in texts if text != f"~{SWEEP}" and not text.startswith("run_dir=")]
    number = int(folder.name) if folder.name.isdigit() else hydras.job.num
    config.run_dir = str(folder)

    def work(goes_on: bool) -> None:
        composition = current_composition(config)
        if goes_on:
            assert command.continues is not None
            override = f"{command.continues}={folder}"
            composition = Composition({command.continues: str(folder)}, {}, [override])
        log_to_stderr()
        with trusting(trusted):
            outcome_of(command, function, composition)

    run_once(folder, Training(number, folder.name, asked), work, name=f"trial {folder.name}")
