"""Searches for the best configuration: trials that an Optuna study draws, then the winner among the best.

The published plugin (hydra-optuna-sweeper) pins an Optuna that fails with current SQLAlchemy, cannot prune
and does not go on with what was killed; once it does, this can go.
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

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from recsys.commands.driver import Driver, Training
from recsys.commands.sweeps.locks import exclusive
from recsys.commands.sweeps.options import SweepOptions
from recsys.commands.sweeps.queue import Queue
from recsys.commands.sweeps.rerank import WINNER, rerank_queue, write_winner
from recsys.commands.sweeps.space import Space, draw, grid
from recsys.commands.sweeps.study import LOCKS, RECORD, Record, open_study, plain_settings, sampler
from recsys.config.build import build
from recsys.config.register import load
from recsys.metrics.register import metric_of
from recsys.schema.errors import InputError
from recsys.schema.manifest import git_commit

# Between two looks at a study whose last trials others run.
_WAIT_SECONDS = 0.5

logger = logging.getLogger(__name__)


def search(driver: Driver, config: DictConfig, loader: ConfigLoader) -> None:
    """Runs the trials that are left, then those of the best ones with several seeds, and names a winner.

    Args:
        driver: of the sweep's folder.
        config: as Hydra composed it; overrides with several values belong to the space.
        loader: knows the groups.

    Raises:
        ValueError: the folder holds another sweep.
    """
    options = build(OmegaConf.to_container(config.sweep), SweepOptions, "sweep", [])
    space, fixed = _space(config.hydra.overrides.task, options, OverridesParser.create(loader))
    folder = driver.root
    with exclusive(folder / LOCKS / "queue"):
        record = _kept(folder, _record(config, options, space, fixed))
        study = open_study(folder, record)
        for values in grid(space, at_most=options.num_trials) or []:
            study.enqueue_trial(values, skip_if_exists=True)
        (folder / WINNER).unlink(missing_ok=True)  # of an earlier end, until this one comes
    logger.info("the sweep is in `%s`; should it stop, %s", folder, driver.goes_on)
    queue = Queue(
        folder,
        study,
        metric=record.metric,
        num_trials=record.num_trials,
        max_retries=options.max_retries,
        max_failures=options.max_failures,
        draw=functools.partial(draw, space=space),
        folder_of=lambda frozen: str(frozen.number),
        sampler=functools.partial(sampler, record),
    )
    _run(queue, driver, fixed, parallel=options.parallel)
    if queue.has_failed():
        logger.warning(
            "%d trials failed, more than `sweep.max_failures=%s`: the sweep ends here; "
            "a larger bound goes on",
            *(queue.num_failures(), queue.max_failures),
        )
        return
    if options.rerank.top:
        _run(rerank_queue(folder, record, options, study, space), driver, fixed, parallel=options.parallel)
    with exclusive(folder / LOCKS / "queue"):  # other workers end at the same time
        write_winner(folder, record, options.rerank, study, space)


def _space(
    arguments: Sequence[str], options: SweepOptions, parser: OverridesParser
) -> tuple[Space, list[str]]:
    """Returns the search space, and the overrides that all trials share."""
    of_sweep = parser.parse_overrides([f"++{key}={values}" for key, values in options.space.items()])
    given = [
        override
        for override in parser.parse_overrides(list(arguments))
        if override.key_or_group.split(".")[0] not in ("sweep", "run_dir")
    ]
    # The command line has the last word.
    chosen = {override.key_or_group: override for override in [*of_sweep, *given]}
    fixed = [str(override.input_line) for override in given if not override.is_sweep_override()]
    return {key: override for key, override in chosen.items() if override.is_sweep_override()}, fixed


def _record(config: DictConfig, options: SweepOptions, space: Space, fixed: Sequence[str]) -> Record:
    task: Any = load(config.task["_target_"], "task")
    metric = options.metric or str(config.trainer.get("monitor") or task.monitor)
    combinations = grid(space, at_most=options.num_trials)
    return Record(
        name=Path(config.hydra.sweep.dir).name,
        space={key: str(override.input_line).partition("=")[2] for key, override in space.items()},
        overrides=[text.lstrip("+") for text in fixed],
        config=plain_settings(config, without=("hydra", "sweep", "run_dir")),
        metric=metric,
        direction=options.direction or ("minimize" if metric_of(metric).better == "less" else "maximize"),
        sampler=options.sampler,
        seed=options.seed,
        num_trials=options.num_trials if combinations is None else len(combinations),
        rerank=dataclasses.asdict(options.rerank),
        prune=dataclasses.asdict(options.prune),
        max_epochs=config.trainer.get("max_epochs"),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=git_commit(),
    )


def _kept(folder: Path, record: Record) -> Record:
    """Writes the sweep's record; of one that goes on, anew for what may change.

    Raises:
        InputError: the folder holds another sweep.
    """
    if (folder / RECORD).is_file():
        before = Record.read(folder)
        changed = before.changed(record)
        if changed:
            raise InputError(
                f"`{folder}` holds a sweep with another {', '.join(f'`{key}`' for key in changed)}; "
                "give what it was begun with to go on, or another folder with `run_dir=PATH`"
            )
        record = dataclasses.replace(record, name=before.name, started=before.started, commit=before.commit)
    record.write(folder)
    return record


def _run(queue: Queue, driver: Driver, fixed: Sequence[str], *, parallel: int) -> None:
    """Runs trials until none is left, those of processes that have died included."""
    while True:
        claimed = queue.claim(parallel)
        if claimed:
            _drive(queue, driver, claimed, fixed)
        elif queue.is_over():
            return
        else:
            time.sleep(_WAIT_SECONDS)


def _drive(queue: Queue, driver: Driver, claimed: Sequence[Training], fixed: Sequence[str]) -> None:
    error = None
    try:
        shared = [*fixed, "~sweep"]
        driver.run([dataclasses.replace(one, overrides=[*shared, *one.overrides]) for one in claimed])
    except (KeyboardInterrupt, InputError):  # InputError: the disk refuses, the next would fare no better
        for training in claimed:
            queue.give_back(training)
        raise
    except Exception as raised:  # a launcher whose job was killed; `run_once` lets nothing else out
        logger.warning("the launcher failed: %s", raised)
        error = f"{type(raised).__name__}: {raised}".splitlines()[0]
    for training in claimed:
        state = queue.settle(training, error=error)
        ending = "its process died" if state is None else state.name.lower()
        logger.info("%s: %s (%d in all)", training.folder, ending, queue.num_trials)
