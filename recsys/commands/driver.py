"""Drives a list of trainings: each is run once, goes on where it stopped, and leaves its ending on disk.

Sweeps, reranking, `-m`, the day-by-day loop and backtests hand a `Driver` their lists. They differ in where a
training comes from (a command line, the configuration of a run) and in who launches it: one of Hydra's
launchers, in this process or on another machine, or a function of this process.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna

from recsys.commands.endings import TRIAL, read_ending
from recsys.commands.figures import one_of_several
from recsys.commands.process import report
from recsys.commands.sweeps.locks import running
from recsys.config.saved import read_config
from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST, write_json

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Training:
    """Names one training of a list.

    Args:
        number: in the list.
        folder: of its run, below that of the list.
        overrides: in which it differs from the others.
    """

    number: int
    folder: str
    overrides: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Driver:
    """Runs the trainings of a list that have not come to their end.

    Args:
        root: folder of the list.
        launch: runs trainings, each by `run_once`.
        goes_on: tells how to go on after an interruption.
        is_done: tells of a folder whether its training has come to its end.
    """

    root: Path
    launch: Callable[[Sequence[Training]], None]
    goes_on: str
    is_done: Callable[[Path], bool] = lambda folder: read_ending(folder).get("status") == "complete"

    def run(self, trainings: Sequence[Training]) -> None:
        """Launches those that are not complete; what fails is told by the ending in its folder.

        Raises:
            KeyboardInterrupt: the list was interrupted, and it says how to go on.
        """
        waiting = []
        for training in trainings:
            if self.is_done(self.root / training.folder):
                logger.info("trial %s is done already", training.folder)
            else:
                waiting.append(training)
        try:
            if waiting:
                self.launch(waiting)
        except KeyboardInterrupt as interruption:
            raise KeyboardInterrupt(self.goes_on) from interruption


def run_once(folder: Path, training: Training, work: Callable[[bool], Any], *, name: str) -> Exception | None:
    """Runs a training to its end and keeps its ending in its folder; its failure ends nothing else.

    Args:
        folder: of its run.
        training: where it stands in its list.
        work: trains; it is told whether to go on with the run in the folder, or to begin one.
        name: of the training, for the log.

    Returns:
        What it failed by, which has been reported; None when it is complete or was given up.
    """
    started = time.perf_counter()
    ending: dict[str, Any] = {"status": "complete"}
    failure = None
    with running(folder.absolute()):
        try:
            if not is_whole_run(folder):  # else its process died between its end and its ending
                goes_on = _is_begun(folder)
                how = f"goes on in `{folder}`" if goes_on else "begins"
                logger.info("%s: %s %s", name, how, " ".join(training.overrides))
                with one_of_several():
                    work(goes_on)
        except optuna.TrialPruned as reason:
            ending = {"status": "pruned", "reason": str(reason)}
            logger.info("%s is given up: %s", name, reason)
        except Exception as error:
            failure = error
            ending = {
                "status": "failed",
                "error": f"{type(error).__name__}: {error}",
                "users_mistake": isinstance(error, InputError),
            }
            report(error)
        if not folder.is_file():  # something else is in its place, which is what it failed by
            write_ending(folder, training, seconds=time.perf_counter() - started, **ending)
    return failure


def is_whole_run(folder: Path) -> bool:
    """Whether the run in `folder` is complete, and has not been taken up again since."""
    return (folder / MANIFEST).is_file()


def write_ending(folder: Path, training: Training, *, status: str, seconds: float, **further: Any) -> None:
    """Keeps in a training's folder what became of it."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"number": training.number, "overrides": list(training.overrides), "status": status, **further}
    write_json(folder / TRIAL, {**told, "seconds": round(seconds, 1)})


def _is_begun(folder: Path) -> bool:
    """Whether a run in `folder` can go on; one that died before it kept its configuration is removed."""
    if not folder.is_dir():
        return False
    (folder / TRIAL).unlink(missing_ok=True)  # of the last time; the manifest to come would list it
    if not any(folder.iterdir()):
        return False
    try:
        read_config(folder)
    except ValueError:
        shutil.rmtree(folder)
        return False
    return True
