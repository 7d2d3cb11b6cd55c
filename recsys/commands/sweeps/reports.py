"""A trial reports each validation to its study, and is told when it is not worth going on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import optuna
from optuna.trial import TrialState

from recsys.commands.sweeps.locks import sweep_of
from recsys.commands.sweeps.study import Record, open_study

Report = Callable[[int, Mapping[str, float]], None]


def trial_report(run_dir: Path) -> Report | None:
    """A function to which the run in `run_dir` reports, where a sweep is waiting for what it says.

    It takes the number of epochs trained and the validation metrics, and raises `optuna.TrialPruned` when
    the trial is to be given up.
    """
    folder = run_dir.absolute()
    sweep = sweep_of(folder)
    # The runs with several seeds lie a folder deeper; each of them counts, so none is given up.
    if sweep is None or folder.parent != sweep:
        return None
    record = Record.read(sweep)
    study = open_study(sweep, record)
    trials = {str(each.number): each for each in study.get_trials(deepcopy=False)}
    frozen = trials.get(folder.name)
    if frozen is None or frozen.state != TrialState.RUNNING:  # a run of its own, or after the sweep
        return None
    trial = optuna.Trial(study, frozen._trial_id)

    def report(epochs: int, metrics: Mapping[str, float]) -> None:
        name = f"val/{record.metric.removeprefix('val/')}"
        # An epoch that a killed process had reported is trained again where `last` is older.
        known = study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if name not in metrics or epochs in known:
            return
        trial.report(metrics[name], epochs)
        if trial.should_prune():
            figure = f"{name} {metrics[name]:.4f} after {epochs} epochs"
            raise optuna.TrialPruned(f"{figure} is not among the better ones (`sweep.prune.rule`)")

    return report
