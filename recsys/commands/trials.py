"""One of several runs: taken up where it stopped, run, and its ending kept in its folder."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from recsys.commands.results import one_of_several
from recsys.commands.sweeps.queue import TRIAL, running, sweep_of, write_ending
from recsys.config.compose import SWEEP, Composition, current_composition
from recsys.config.saved import read_config
from recsys.schema.errors import InputError

logger = logging.getLogger(__name__)

Outcome = Path | Exception
# Of `-m` in a folder that the user names: its overrides, by which the same command goes on.
MULTIRUN = "multirun.json"


def run_trial(
    config: DictConfig,
    *,
    continues: str | None,
    run: Callable[[Composition], Outcome],
    report: Callable[[Exception], int],
) -> None:
    """Runs one of several; its failure is recorded in its folder and ends nothing else.

    Args:
        config: as Hydra composed it.
        continues: key that names a run to go on with.
        run: the command.
        report: prints what went wrong.
    """
    hydras = HydraConfig.get()
    assert hydras.mode == RunMode.MULTIRUN
    folder = Path(os.path.relpath(hydras.runtime.output_dir))
    texts = [text.lstrip("+") for text in hydras.overrides.task]
    asked = [text for text in texts if text != f"~{SWEEP}" and not text.startswith("run_dir=")]
    number = int(folder.name) if folder.name.isdigit() else hydras.job.num
    started = time.perf_counter()
    config.run_dir = str(folder)
    if _is_done(folder, asked):
        logger.info("trial %s is done already", folder.name)
        return
    with running(folder.absolute()):
        composition = current_composition(config)
        if sweep_of(folder.absolute()) is not None or (folder.parent / MULTIRUN).is_file():
            composition = _taken_up(folder, continues) or composition
        logger.info("trial %s: %s", folder.name, " ".join(asked))
        with one_of_several():
            outcome = run(composition)
        ending: dict[str, Any] = {"status": "complete"}
        if isinstance(outcome, optuna.TrialPruned):
            ending = {"status": "pruned", "reason": str(outcome)}
            logger.info("trial %s is given up: %s", folder.name, outcome)
        elif isinstance(outcome, Exception):
            ending = {
                "status": "failed",
                "error": f"{type(outcome).__name__}: {outcome}",
                "users_mistake": isinstance(outcome, InputError),
            }
            report(outcome)
        seconds = time.perf_counter() - started
        write_ending(folder, number=number, overrides=asked, seconds=seconds, **ending)


def _is_done(folder: Path, overrides: Sequence[str]) -> bool:
    """Whether a trial of `-m` has come to its end, in an earlier call of the same command."""
    if not (folder.parent / MULTIRUN).is_file() or not (folder / TRIAL).is_file():
        return False
    trial = json.loads((folder / TRIAL).read_text())
    return bool(trial["status"] == "complete" and trial["overrides"] == list(overrides))


def _taken_up(folder: Path, continues: str | None) -> Composition | None:
    """The composition that goes on with a run whose process died; None, and an empty folder, without one."""
    if folder.is_dir() and any(folder.iterdir()):
        try:
            read_config(folder)
        except ValueError:  # it died before it had kept its configuration whole
            shutil.rmtree(folder)
        else:
            if continues is not None:
                logger.info("going on with `%s`", folder)
                return Composition({continues: str(folder)}, {}, [f"{continues}={folder}"])
            shutil.rmtree(folder)
    return None
