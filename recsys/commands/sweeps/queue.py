"""Trials of a study that several processes share, each of them run by one process at a time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import IO

import optuna
from optuna.trial import FrozenTrial, TrialState

from recsys.commands.driver import Training, write_ending
from recsys.commands.endings import read_ending, read_metrics
from recsys.commands.sweeps.locks import exclusive, is_held, lock_of, share
from recsys.commands.sweeps.study import LOCKS
from recsys.schema.errors import InputError

# Attributes of a trial in the study.
ATTEMPTS, OVERRIDES, ERROR = "attempts", "overrides", "error"


@dataclasses.dataclass
class Queue:
    """Hands out trials: those whose process died first, then new ones.

    Args:
        root: folder of the sweep.
        study: where trials are kept.
        metric: validation metric that a trial comes to.
        num_trials: so many are handed out in all.
        max_retries: see `SweepOptions`.
        max_failures: see `SweepOptions`.
        draw: overrides of a trial; the same ones when asked again.
        folder_of: name of a trial's folder.
        sampler: draws the trial of a number.
    """

    root: Path
    study: optuna.Study
    metric: str
    num_trials: int
    max_retries: int
    draw: Callable[[optuna.Trial], list[str]]
    folder_of: Callable[[FrozenTrial], str]
    max_failures: int | None = None
    sampler: Callable[[int], optuna.samplers.BaseSampler] | None = None
    _held: dict[int, IO[bytes]] = dataclasses.field(default_factory=dict)

    def claim(self, at_most: int) -> list[Training]:
        """Trials that are this process's to run; none when others run what is left."""
        with exclusive(self.root / LOCKS / "queue"):
            claimed: list[Training] = []
            while len(claimed) < at_most and (training := self._next()) is not None:
                claimed.append(training)
            return claimed

    def is_over(self) -> bool:
        """True when no trial runs and none is to be handed out."""
        trials = self.study.get_trials(deepcopy=False)
        return not any(trial.state == TrialState.RUNNING for trial in trials) and not self._has_more(trials)

    def has_failed(self) -> bool:
        """True when more trials failed than may."""
        return self.max_failures is not None and self.num_failures() > self.max_failures

    def num_failures(self) -> int:
        """Counts the trials that failed."""
        return len(self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,)))

    def settle(self, training: Training, *, error: str | None = None) -> TrialState | None:
        """Takes down what became of a trial and lets go of it.

        Args:
            training: it.
            error: why its process ended, where that is known; the trial is handed out again.

        Returns:
            Its state; None when it left no ending.
        """
        try:
            ending = _ending_of(self.root / training.folder, self.metric)
            if ending is not None:
                return self._tell(training.number, ending)
            if error is not None:
                self._trial(training.number).set_user_attr(ERROR, error)
            return None
        finally:
            self._release(training.number)

    def give_back(self, training: Training) -> None:
        """Lets go of a trial that was interrupted, which is no failure of its own."""
        trial = self._trial(training.number)
        trial.set_user_attr(ATTEMPTS, trial.user_attrs[ATTEMPTS] - 1)
        self._release(training.number)

    def _next(self) -> Training | None:
        trials = self.study.get_trials(deepcopy=False)
        for frozen in trials:
            if frozen.state != TrialState.RUNNING or frozen.number in self._held:
                continue
            if is_held(lock_of(self.root, self.folder_of(frozen))) or self._is_settled(frozen):
                continue
            self._draw_as(frozen.number)
            return self._take(self._trial(frozen.number))
        if not self._has_more(self.study.get_trials(deepcopy=False)):
            return None
        self._draw_as(len(trials))
        return self._take(self.study.ask())

    def _draw_as(self, number: int) -> None:
        if self.sampler is not None:
            self.study.sampler = self.sampler(number)

    def _has_more(self, trials: list[FrozenTrial]) -> bool:
        begun = sum(trial.state != TrialState.WAITING for trial in trials)
        return begun < self.num_trials and not self.has_failed()

    def _is_settled(self, frozen: FrozenTrial) -> bool:
        """Settles a trial whose process is gone, where it left an ending or has died often enough."""
        number = frozen.number
        if ATTEMPTS not in frozen.user_attrs:  # its process died before it began
            return False
        folder = self.root / self.folder_of(frozen)
        attempts = frozen.user_attrs[ATTEMPTS]
        ending = _ending_of(folder, self.metric)
        if ending is None and attempts > self.max_retries:
            said = frozen.user_attrs.get(ERROR, "killed, or out of memory")
            error = f"its process died {attempts} times ({said})"
            overrides = [text.lstrip("+") for text in frozen.user_attrs.get(OVERRIDES, [])]
            write_ending(
                folder, Training(number, folder.name, overrides), status="failed", error=error, seconds=0.0
            )
            ending = _ending_of(folder, self.metric)
        if ending is None:
            return False
        self._tell(number, ending)
        return True

    def _take(self, trial: optuna.Trial) -> Training:
        folder = self.folder_of(self.study.get_trials(deepcopy=False)[trial.number])
        self._held[trial.number] = share(lock_of(self.root, folder))
        try:
            overrides = self.draw(trial)
        except InputError:
            self._release(trial.number)
            raise
        trial.set_user_attr(OVERRIDES, overrides)
        trial.set_user_attr(ATTEMPTS, trial.user_attrs.get(ATTEMPTS, 0) + 1)
        return Training(trial.number, folder, overrides)

    def _tell(self, number: int, ending: _Ending) -> TrialState:
        if ending.error is not None:
            self._trial(number).set_user_attr(ERROR, ending.error)
        self.study.tell(number, ending.value, state=ending.state)
        return ending.state

    def _trial(self, number: int) -> optuna.Trial:
        return optuna.Trial(self.study, self.study.get_trials(deepcopy=False)[number]._trial_id)

    def _release(self, number: int) -> None:
        self._held.pop(number).close()


@dataclasses.dataclass(frozen=True)
class _Ending:
    """Records how a trial ended."""

    state: TrialState
    value: float | None = None
    error: str | None = None


def _ending_of(folder: Path, metric: str) -> _Ending | None:
    """Reads from a trial's folder how it ended; None while it has not.

    Raises:
        ValueError: it knows no such metric.
    """
    ending = read_ending(folder)
    if not ending:
        return None
    if ending["status"] == "pruned":
        return _Ending(TrialState.PRUNED)
    if ending["status"] == "failed":
        return _Ending(TrialState.FAIL, error=ending.get("error"))
    validation = read_metrics(folder).get("validation", {})
    name = metric.removeprefix("val/")
    if name not in validation:
        there = ", ".join(sorted(validation))
        raise InputError(f"`sweep.metric` must name a validation metric, got `{metric}`; there are: {there}")
    value = float(validation[name])
    if not math.isfinite(value):
        return _Ending(TrialState.FAIL, error=f"`{name}` is {value}")
    return _Ending(TrialState.COMPLETE, value)
