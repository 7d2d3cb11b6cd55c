"""Searching for the best configuration: a Hydra sweeper that draws from an Optuna study.

The published plugin (hydra-optuna-sweeper) pins an Optuna that fails with current SQLAlchemy; once it works
with a current Optuna, the class here can go.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

SWEEPER = "recsys"
METRICS = "metrics.json"
STUDY = "study.db"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """What a sweep searches.

    Args:
        space: values of each key, as on the command line with `-m`: `choice(32,64)`, `range(1,5)`,
            `interval(0.0,0.5)`, `tag(log,interval(1e-4,1e-1))`, `int(interval(1,100))`.
        num_trials: runs; fewer when the space has no more values.
        metric: validation metric that is searched for its best; null is the run's monitor.
        direction: null minimizes a metric with `loss` in its name and maximizes any other.
        sampler: `tpe` learns from the trials before, `random` does not.
        seed: of the sampler; every run keeps the seed of its own configuration.
        parallel: runs handed to Hydra's launcher at a time.
    """

    space: Mapping[str, str]
    num_trials: int = 20
    metric: str | None = None
    direction: Literal["maximize", "minimize"] | None = None
    sampler: Literal["tpe", "random"] = "tpe"
    seed: int = 0
    parallel: int = 1

    def __post_init__(self) -> None:
        for key in ("num_trials", "parallel"):
            if getattr(self, key) < 1:
                raise ValueError(f"`sweep.{key}` must be at least 1, got {getattr(self, key)}")


class OptunaSweeper(Sweeper):
    """Draws overrides from an Optuna study and hands them to Hydra's launcher, a few at a time."""

    def __init__(self) -> None:
        self.config: DictConfig
        self.launcher: Launcher
        self.parser: OverridesParser

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.config = config
        self.parser = OverridesParser.create(hydra_context.config_loader)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the trials.

        Args:
            arguments: overrides of the command line; those with several values belong to the space.
        """
        options = SweepOptions(**OmegaConf.to_container(self.config.sweep))  # type: ignore[arg-type]
        asked = self.parser.parse_overrides([f"++{key}={values}" for key, values in options.space.items()])
        given = [
            one for one in self.parser.parse_overrides(arguments) if one.key_or_group.split(".")[0] != "sweep"
        ]
        chosen = {one.key_or_group: one for one in [*asked, *given]}  # the command line has the last word
        space = {key: one for key, one in chosen.items() if one.is_sweep_override()}
        fixed = [str(one.input_line) for one in given if not one.is_sweep_override()]
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        metric = options.metric or monitor_of(self.config)
        study, num_trials = _study(options, space, metric=metric, folder=folder)
        for first in range(0, num_trials, options.parallel):
            trials = [study.ask() for _ in range(min(options.parallel, num_trials - first))]
            drawn = [[_draw(trial, override) for override in space.values()] for trial in trials]
            self.launcher.launch([[*fixed, "~sweep", *values] for values in drawn], initial_job_idx=first)
            for trial in trials:
                value = _value(folder / str(trial.number), metric)
                study.tell(trial, value, state=optuna.trial.TrialState.FAIL if value is None else None)
                came = "failed" if value is None else f"{metric} {value:.4f}"
                logger.info("trial %d: %s (%d trials in all)", trial.number, came, num_trials)


# Hydra takes sweepers from the package `hydra_plugins` alone, for which our top level has no place.
_PLUGIN = "hydra_plugins.recsys.OptunaSweeper"
Plugins.instance().register(OptunaSweeper)
Plugins.instance().class_name_to_class[_PLUGIN] = OptunaSweeper
ConfigStore.instance().store(group="hydra/sweeper", name=SWEEPER, node={"_target_": _PLUGIN})


def monitor_of(config: DictConfig) -> str:
    """The metric that picks a run's best checkpoint."""
    chosen = config.trainer.get("monitor") or get_class(config.task["_target_"]).monitor  # type: ignore[attr-defined]
    return str(chosen)


def is_minimized(metric: str) -> bool:
    """True when less of a metric is better."""
    return "loss" in metric


def _study(
    options: SweepOptions, space: Mapping[str, Override], *, metric: str, folder: Path
) -> tuple[optuna.Study, int]:
    """A study on disk and its number of trials: a space of fewer values is gone through once."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.sampler == "random":
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(options.seed)
    else:
        sampler = optuna.samplers.TPESampler(seed=options.seed)
    study = optuna.create_study(
        study_name=folder.name,
        storage=f"sqlite:///{(folder / STUDY).absolute()}",
        direction=options.direction or ("minimize" if is_minimized(metric) else "maximize"),
        sampler=sampler,
    )
    grid = {key: _choices(override) for key, override in space.items()}
    num_values = math.prod(len(values) if values else math.inf for values in grid.values())
    if num_values > options.num_trials:
        return study, options.num_trials
    for values in itertools.product(*(values or [] for values in grid.values())):
        study.enqueue_trial(dict(zip(grid, values, strict=True)))
    return study, int(num_values)


def _choices(override: Override) -> list[str] | None:
    """All values of a sweep, as they are written on the command line; None for an interval."""
    return list(override.sweep_string_iterator()) if override.is_discrete_sweep() else None


def _draw(trial: optuna.Trial, override: Override) -> str:
    """An override with one value of a sweep."""
    key = override.key_or_group
    choices = _choices(override)
    if choices is not None:
        value: Any = trial.suggest_categorical(key, choices)
    else:
        interval = override.value()
        assert isinstance(interval, IntervalSweep)
        assert interval.start is not None
        assert interval.end is not None
        is_log = "log" in interval.tags
        if isinstance(interval.start, int) and isinstance(interval.end, int):
            value = trial.suggest_int(key, interval.start, interval.end, log=is_log)
        else:
            value = trial.suggest_float(key, interval.start, interval.end, log=is_log)
    return f"{override.get_key_element()}={value}"


def _value(folder: Path, metric: str) -> float | None:
    """The metric of a trial; None when the trial failed or is not a number."""
    path = folder / METRICS
    if not path.is_file():
        return None
    validation = json.loads(path.read_text())["validation"]
    name = metric.removeprefix("val/")
    if name not in validation:
        there = ", ".join(sorted(validation))
        raise ValueError(f"`sweep.metric` must name a validation metric, got `{metric}`; there are: {there}")
    value = float(validation[name])
    return value if math.isfinite(value) else None
