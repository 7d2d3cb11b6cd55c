"""SweepOptions: every key under `sweep.`, with its meaning and default."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

from recsys.schema.errors import InputError


@dataclasses.dataclass(frozen=True)
class PruneOptions:
    """When a trial is given up before its end.

    Args:
        rule: `median` gives up a trial whose best validation so far is worse than the median of the finished
            trials at the same epoch; `hyperband` lets few of many trials train long, and wants dozens of
            them; `none` trains every trial to its end.
        startup_trials: of `median`: trials that must have finished before the first is given up.
        warmup_epochs: no trial is given up before it has trained so many epochs.
        reduction_factor: of `hyperband`: of so many trials one is let on to the next stage.
    """

    rule: Literal["median", "hyperband", "none"] = "median"
    startup_trials: int = 5
    warmup_epochs: int = 2
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        _at_least(self, "prune", startup_trials=1, warmup_epochs=1, reduction_factor=2)


@dataclasses.dataclass(frozen=True)
class RerankOptions:
    """Sets how the winner is found among the best trials.

    Args:
        top: so many of the best trials are run again, with each of the seeds, and the best mean wins; 0 takes
            the best trial at its word.
        seeds: of the runs. A trial that ran with one of them is not run again for it; but that figure is the
            one it was picked for, and too good on average: other seeds than the search's are fairer.
    """

    top: int = 0
    seeds: Sequence[int] = (1, 2, 3)

    def __post_init__(self) -> None:
        _at_least(self, "rerank", top=0)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise InputError(
                f"`sweep.rerank.seeds` must be one or more different numbers from 0, got {list(self.seeds)}"
            )


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Sets what a sweep searches, and how.

    Args:
        space: values of each key, as on the command line with `-m`: `choice(32,64)`, `range(1,5)`,
            `interval(0.0,0.5)`, `tag(log,interval(1e-4,1e-1))`, `int(interval(1,100))`.
        meant_for: the file of the group `model` whose keys the space is about, which is chosen where neither
            `model` nor `experiment` is given; null is any.
        num_trials: runs, of all workers together; fewer when the space has no more values.
        metric: validation metric that is searched for its best; null is the run's monitor.
        direction: null minimizes a metric with `loss` in its name and maximizes any other.
        sampler: `tpe` learns from the trials before, `random` does not.
        seed: of the sampler; every run keeps the seed of its own configuration.
        prune: which trials are given up early.
        rerank: how the winner is found among the best.
        max_failures: the sweep ends, with exit status 1, when more trials than these have failed; null goes
            on through any number.
        max_retries: a trial whose process died (killed, out of memory) is taken up again so often, from its
            last checkpoint, before it counts as failed.
        workers: processes of this machine that run trials, each started again when it dies; 0 runs them in
            this process. With a launcher other than Hydra's basic one the runs are processes already.
        parallel: runs handed to Hydra's launcher at a time.
    """

    space: Mapping[str, str]
    meant_for: str | None = None
    num_trials: int = 20
    metric: str | None = None
    direction: Literal["maximize", "minimize"] | None = None
    sampler: Literal["tpe", "random"] = "tpe"
    seed: int = 0
    prune: PruneOptions = dataclasses.field(default_factory=PruneOptions)
    rerank: RerankOptions = dataclasses.field(default_factory=RerankOptions)
    max_failures: int | None = None
    max_retries: int = 2
    workers: int = 1
    parallel: int = 1

    def __post_init__(self) -> None:
        _at_least(self, "", num_trials=1, parallel=1, workers=0, max_retries=0, seed=0)
        if self.max_failures is not None and self.max_failures < 0:
            raise InputError(f"`sweep.max_failures` must be at least 0 or null, got {self.max_failures}")


def _at_least(options: object, group: str, **bounds: int) -> None:
    """Raises ValueError for an option below its bound."""
    for name, bound in bounds.items():
        value = getattr(options, name)
        if value < bound:
            key = ".".join(part for part in ("sweep", group, name) if part)
            raise InputError(f"`{key}` must be at least {bound}, got {value}")
