"""The day-by-day loop: a Hydra sweeper that trains, goes on with newer data, and judges on what comes next.

    ----- rows learnt from -----|- validation -|--- test ---|
    first model                                t0           t0 + step
         continued: only these |---|- validation -|--- test ---|
         retrained: -----------|---|                           t0 + 2 steps

At each step the model before learns what is new (`continued`), another one learns everything anew
(`retrained`), and the first model stays as it is (`frozen`); all three are asked what came in the step that
follows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from recsys.commands.daily_options import CONTINUED, FIRST, RETRAINED, DailyOptions, Step
from recsys.config.overrides import forced, quoted
from recsys.runs.folders import progress
from recsys.schema.errors import InputError
from recsys.schema.manifest import MANIFEST, write_json

LOOP = "recsys_daily"
DAILY = "daily"
STATE = "daily.json"

logger = logging.getLogger(__name__)


class DailySweeper(Sweeper):
    """Goes through the steps, hands each one's runs to Hydra's launcher together, and compares them."""

    def __init__(self) -> None:
        self.config: DictConfig
        self.launcher: Launcher
        self.folder: Path
        self.given: list[str]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs what is not there yet, and writes the comparison.

        Args:
            arguments: overrides of the command line.

        Raises:
            ValueError: a step failed, or the folder holds a loop of other settings.
        """
        # Here, so that a mistyped key needs no torch.
        from recsys.commands.daily_comparison import Compared, compare

        options = DailyOptions(**OmegaConf.to_container(self.config.daily))  # type: ignore[arg-type]
        self.folder = Path(self.config.hydra.sweep.dir)
        self.given = [text for text in arguments if not text.lstrip("+").startswith((DAILY, "run_dir="))]
        self._claim()
        steps = options.steps
        compared = Compared(self.folder, options)
        self._launch(steps[0], {FIRST: []})
        former = {arm: self.folder / steps[0].folder(FIRST) for arm in (CONTINUED, RETRAINED)}
        for step in steps[1:]:
            arms = self._arms(step, former[CONTINUED], options)
            self._launch(step, arms)
            former = {arm: self.folder / step.folder(arm) for arm in arms}
            compared.add(step, former, first=self.folder / steps[0].folder(FIRST))
        compare(compared)

    def _arms(self, step: Step, former: Path, options: DailyOptions) -> dict[str, list[str]]:
        """Overrides of the runs of a step; they share a dataset, which extends the one of the step before."""
        prepared = json.loads((former / MANIFEST).read_text())["prepared"]
        extends = f"++data.extends={quoted(prepared)}"
        assert step.train_from is not None
        since = f"++data.train_from='{step.train_from.isoformat()}'"
        init_from = f"++init_from={quoted(former)}"
        arms = {CONTINUED: [extends, since, init_from, *forced(options.continued)]}
        return arms | ({RETRAINED: [extends]} if options.retrain else {})

    def _launch(self, step: Step, arms: Mapping[str, Sequence[str]]) -> None:
        """Runs those of the step's runs that have not come to their end."""
        jobs = []
        for arm, overrides in arms.items():
            folder = self.folder / step.folder(arm)
            reached = progress(folder)
            if reached == "done":
                continue
            place = f"hydra.sweep.subdir={folder.name}"
            if reached == "begun":
                jobs.append([f"++resume={quoted(folder)}", "++daily=null", place])
                continue
            asked = [f"++{text.lstrip('+')}" for text in step.overrides()]
            jobs.append([*self.given, *asked, *overrides, "++daily=null", place])
        if jobs:
            logger.info("step %d: up to %s", step.number, step.test.date())
            self.launcher.launch(jobs, initial_job_idx=2 * step.number)
        for arm in arms:
            self._check(step, arm)

    def _check(self, step: Step, arm: str) -> None:
        folder = self.folder / step.folder(arm)
        if not (folder / MANIFEST).is_file():
            path = folder / "trial.json"
            said = json.loads(path.read_text()).get("error") if path.is_file() else "it left nothing"
            raise InputError(
                f"step {step.number} ({arm}) failed: {said}; mend it and give the command again with "
                f"`run_dir={self.folder}`: steps that are done are not run again"
            )

    def _claim(self) -> None:
        """Takes the folder, or goes on with the loop in it when that has the same settings."""
        path = self.folder / STATE
        settings = {
            str(key): OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in self.config.items()
            if key not in ("hydra", "run_dir")
        }
        if path.is_file():
            before = json.loads(path.read_text())
            changed = [key for key in settings if settings[key] != before.get(key)]
            if changed:
                raise InputError(
                    f"`{self.folder}` holds a loop with other settings of "
                    f"{', '.join(f'`{key}`' for key in changed)}; give them as they were, or another folder"
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)


# Hydra takes sweepers from the package `hydra_plugins` alone, for which our top level has no place.
_PLUGIN = "hydra_plugins.recsys.DailySweeper"
Plugins.instance().register(DailySweeper)
Plugins.instance().class_name_to_class[_PLUGIN] = DailySweeper
ConfigStore.instance().store(group="hydra/sweeper", name=LOOP, node={"_target_": _PLUGIN})
