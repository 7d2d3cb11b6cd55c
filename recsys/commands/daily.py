"""The day-by-day loop: trains, goes on with newer data, and judges on what comes next.

    ----- rows learnt from -----|- validation -|--- test ---|
    first model                                t0           t0 + step
         continued: only these |---|- validation -|--- test ---|
         retrained: -----------|---|                           t0 + 2 steps

At each step the model before learns what is new (`continued`), another one learns everything anew
(`retrained`), and the first model stays as it is (`frozen`); all three are asked what came in the step that
follows.
"""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from recsys.commands.daily_options import CONTINUED, FIRST, RETRAINED, DailyOptions, Step
from recsys.commands.driver import Driver, Training, is_whole_run
from recsys.commands.endings import read_ending
from recsys.commands.sweeps.study import plain_settings
from recsys.config.overrides import forced, quoted
from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json
from recsys.schema.manifest import MANIFEST, write_json

DAILY = "daily"
STATE = "daily.json"

logger = logging.getLogger(__name__)


def train_day_by_day(driver: Driver, config: DictConfig) -> None:
    """Goes through the steps, hands each one's trainings to the driver together, and compares the models.

    Args:
        driver: of the loop's folder.
        config: as Hydra composed it.

    Raises:
        ValueError: a step failed, or the folder holds a loop of other settings.
    """
    # Here, so that a mistyped key needs no torch.
    from recsys.commands.daily_comparison import LoopScores, compare

    options = DailyOptions(**OmegaConf.to_container(config.daily))  # type: ignore[arg-type]
    folder = driver.root
    _claim(folder, config)
    given = [
        text for text in config.hydra.overrides.task if not text.lstrip("+").startswith((DAILY, "run_dir="))
    ]
    first, *others = options.steps
    scores = LoopScores(folder, options)
    _train(driver, first, {FIRST: [*given, *first.overrides()]})
    former = folder / first.folder(FIRST)
    for step in others:
        # All trainings of a step share a dataset, which extends the one of the step before.
        prepared = read_json(former / MANIFEST)["prepared"]
        data = [*given, *step.overrides(), f"++data.extends={quoted(prepared)}"]
        assert step.train_from is not None
        since = f"++data.train_from='{step.train_from.isoformat()}'"
        init_from = f"++init_from={quoted(former)}"
        arms = {CONTINUED: [*data, since, init_from, *forced(options.continued)]}
        if options.retrain:
            arms[RETRAINED] = data
        logger.info("step %d: up to %s", step.number, step.test.date())
        _train(driver, step, arms)
        former = folder / step.folder(CONTINUED)
        scores.add(step, {arm: folder / step.folder(arm) for arm in arms}, first=folder / first.folder(FIRST))
    compare(scores)


def _train(driver: Driver, step: Step, arms: dict[str, list[str]]) -> None:
    """Runs the trainings of a step.

    Raises:
        InputError: one of them failed.
    """
    trainings = {
        arm: Training(2 * step.number + place, step.folder(arm), [*overrides, "++daily=null"])
        for place, (arm, overrides) in enumerate(arms.items())
    }
    driver.run(list(trainings.values()))
    for arm, training in trainings.items():
        folder = driver.root / training.folder
        if not is_whole_run(folder):
            raise InputError(
                f"step {step.number} ({arm}) failed: {read_ending(folder).get('error', 'it left nothing')}; "
                f"mend it and give the command again with `run_dir={driver.root}`: steps that are done are "
                "not run again"
            )


def _claim(folder: Path, config: DictConfig) -> None:
    """Takes the folder, or goes on with the loop in it when that has the same settings."""
    settings = plain_settings(config, without=("hydra", "run_dir"))
    path = folder / STATE
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
        return
    before = read_json(path)
    changed = [key for key in settings if settings[key] != before.get(key)]
    if changed:
        raise InputError(
            f"`{folder}` holds a loop with other settings of "
            f"{', '.join(f'`{key}`' for key in changed)}; give them as they were, or another folder"
        )
