"""Searching for the best configuration: a Hydra sweeper that draws from an Optuna study.

The published plugin (hydra-optuna-sweeper) pins an Optuna that fails with current SQLAlchemy, cannot prune
and does not go on with what was killed; once it does, the class here can go.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from recsys.commands.process import signals_as_interrupts
from recsys.commands.sweeps.locks import exclusive
from recsys.commands.sweeps.options import SweepOptions
from recsys.commands.sweeps.queue import Claimed, Queue
from recsys.commands.sweeps.rerank import WINNER, rerank_queue, write_winner
from recsys.commands.sweeps.space import Space, draw, grid
from recsys.commands.sweeps.study import LOCKS, RECORD, Record, open_study, sampler
from recsys.commands.sweeps.workers import follow_supervisor, goes_on
from recsys.config.build import build
from recsys.config.register import load
from recsys.metrics.register import metric_of
from recsys.schema.errors import InputError
from recsys.schema.manifest import git_commit

SWEEPER = "recsys"
# Between two looks at a study whose last trials others run.
_WAIT_SECONDS = 0.5

logger = logging.getLogger(__name__)


class OptunaSweeper(Sweeper):
    """Draws overrides from an Optuna study and hands them to Hydra's launcher, a few at a time."""

    def __init__(self) -> None:
        self.config: DictConfig
        self.launcher: Launcher
        self.parser: OverridesParser
        self.options: SweepOptions
        self.fixed: list[str]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.config = config
        self.parser = OverridesParser.create(hydra_context.config_loader)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the trials that are left, then those of the best ones with several seeds, and names a winner.

        Args:
            arguments: overrides of the command line; those with several values belong to the space.

        Raises:
            ValueError: the folder holds another sweep.
        """
        follow_supervisor()
        with signals_as_interrupts():
            self._sweep(arguments)

    def _sweep(self, arguments: Sequence[str]) -> None:
        self.options = build(OmegaConf.to_container(self.config.sweep), SweepOptions, "sweep", [])
        space = self._space(arguments)
        folder = Path(self.config.hydra.sweep.dir)
        with exclusive(folder / LOCKS / "queue"):
            record = self._record(folder, space)
            study = open_study(folder, record)
            for values in grid(space, at_most=self.options.num_trials) or []:
                study.enqueue_trial(values, skip_if_exists=True)
            (folder / WINNER).unlink(missing_ok=True)  # of an earlier end, until this one comes
        logger.info("the sweep is in `%s`; should it stop, %s", folder, goes_on(folder))
        queue = Queue(
            folder,
            study,
            metric=record.metric,
            num_trials=record.num_trials,
            max_retries=self.options.max_retries,
            max_failures=self.options.max_failures,
            draw=functools.partial(draw, space=space),
            folder_of=lambda frozen: str(frozen.number),
            sampler=functools.partial(sampler, record),
        )
        self._run(queue)
        if queue.has_failed():
            logger.warning(
                "%d trials failed, more than `sweep.max_failures=%s`: the sweep ends here; "
                "a larger bound goes on",
                *(queue.num_failures(), queue.max_failures),
            )
            return
        if self.options.rerank.top:
            self._run(rerank_queue(folder, record, self.options, study, space))
        write_winner(folder, record, self.options.rerank, study, space)

    def _space(self, arguments: Sequence[str]) -> Space:
        """Returns the search space; overrides that all trials share are kept in `fixed`."""
        asked = [f"++{key}={values}" for key, values in self.options.space.items()]
        given = [
            one
            for one in self.parser.parse_overrides(list(arguments))
            if one.key_or_group.split(".")[0] not in ("sweep", "run_dir")
        ]
        # The command line has the last word.
        chosen = {one.key_or_group: one for one in [*self.parser.parse_overrides(asked), *given]}
        self.fixed = [str(one.input_line) for one in given if not one.is_sweep_override()]
        return {key: one for key, one in chosen.items() if one.is_sweep_override()}

    def _record(self, folder: Path, space: Space) -> Record:
        """The sweep's record, written anew for what may change in one that goes on."""
        options, metric = self.options, self.options.metric or monitor_of(self.config)
        combinations = grid(space, at_most=options.num_trials)
        record = Record(
            name=folder.name,
            space={key: str(one.input_line).partition("=")[2] for key, one in space.items()},
            overrides=[text.lstrip("+") for text in self.fixed],
            config={
                str(key): OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
                for key, value in self.config.items()
                if key not in ("hydra", "sweep", "run_dir")
            },
            metric=metric,
            direction=options.direction or ("minimize" if is_minimized(metric) else "maximize"),
            sampler=options.sampler,
            seed=options.seed,
            num_trials=options.num_trials if combinations is None else len(combinations),
            rerank=dataclasses.asdict(options.rerank),
            prune=dataclasses.asdict(options.prune),
            max_epochs=self.config.trainer.get("max_epochs"),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            commit=git_commit(),
        )
        if (folder / RECORD).is_file():
            before = Record.read(folder)
            changed = before.changed(record)
            if changed:
                raise InputError(
                    f"`{folder}` holds a sweep with another {', '.join(f'`{key}`' for key in changed)}; "
                    "give what it was begun with to go on, or another folder with `run_dir=PATH`"
                )
            record = dataclasses.replace(
                record, name=before.name, started=before.started, commit=before.commit
            )
        record.write(folder)
        return record

    def _run(self, queue: Queue) -> None:
        """Runs trials until none is left, those of processes that have died included."""
        while True:
            claimed = queue.claim(self.options.parallel)
            if claimed:
                self._launch(queue, claimed)
            elif queue.is_over():
                return
            else:
                time.sleep(_WAIT_SECONDS)

    def _launch(self, queue: Queue, claimed: Sequence[Claimed]) -> None:
        jobs = [
            [*self.fixed, "~sweep", *one.overrides, f"hydra.sweep.subdir={one.folder}"] for one in claimed
        ]
        error = None
        try:
            self.launcher.launch(jobs, initial_job_idx=claimed[0].number)
        except KeyboardInterrupt as interruption:
            for one in claimed:
                queue.give_back(one)
            raise KeyboardInterrupt(goes_on(queue.root)) from interruption
        except InputError:  # the disk refuses: the next trial would fare no better
            for one in claimed:
                queue.give_back(one)
            raise
        except Exception as raised:  # a launcher whose job was killed; `_trial` lets nothing else out
            logger.warning("the launcher failed: %s", raised)
            error = f"{type(raised).__name__}: {raised}".splitlines()[0]
        for one in claimed:
            state = queue.settle(one, error=error)
            came = "its process died" if state is None else state.name.lower()
            logger.info("%s: %s (%d in all)", one.folder, came, queue.num_trials)


# Hydra takes sweepers from the package `hydra_plugins` alone, for which our top level has no place.
_PLUGIN = "hydra_plugins.recsys.OptunaSweeper"
Plugins.instance().register(OptunaSweeper)
Plugins.instance().class_name_to_class[_PLUGIN] = OptunaSweeper
ConfigStore.instance().store(group="hydra/sweeper", name=SWEEPER, node={"_target_": _PLUGIN})


def monitor_of(config: DictConfig) -> str:
    """The metric that picks a run's best checkpoint."""
    task: Any = load(config.task["_target_"], "task")
    return str(config.trainer.get("monitor") or task.monitor)


def is_minimized(metric: str) -> bool:
    """True when less of a metric is better."""
    return metric_of(metric).better == "less"
