"""The keys of the commands that train, judge and export, as typed dataclasses."""

from __future__ import annotations

import dataclasses

from recsys.commands.daily_options import DailyOptions
from recsys.commands.sweeps.options import SweepOptions
from recsys.config.targets import Factory
from recsys.data.options import DataOptions
from recsys.evaluation.comparing.options import ComparisonOptions
from recsys.evaluation.options import EvaluationOptions
from recsys.exporting.options import ExportOptions
from recsys.runs.trained import CheckpointName
from recsys.schema.errors import InputError
from recsys.training.optimizers import Optimizers
from recsys.training.options import TrainerOptions

_TENSORBOARD = Factory("recsys.training.loggers.TensorBoard", "logger")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Every key of `train.py`.

    Args:
        data: the dataset and how it is read.
        model: a model class; the schema of the dataset is added.
        task: a task class; model and optimizers are added.
        optimizer: who moves which parameter.
        trainer: how long and on what.
        evaluation: how validation asks, and how the test split is judged.
        seed: of weights, order of examples, dropout and negatives.
        run_dir: folder of the run; null is runs/<date>-<time>-<model>-<data>.
        resume: folder of a run to continue, with its own configuration.
        init_from: folder of a finished run whose weights the model starts from, on newer data; its dataset is
            extended, unless `data.extends` or `data.prepared` say otherwise.
        sweep: what a sweep searches.
        daily: the steps of a day-by-day loop; null trains once.
        logger: where the curves of training go; null is nowhere.
        callbacks: Lightning callbacks of your own, which act after ours.
    """

    data: DataOptions
    model: Factory
    task: Factory
    optimizer: Optimizers = dataclasses.field(default_factory=Optimizers)
    trainer: TrainerOptions = dataclasses.field(default_factory=TrainerOptions)
    evaluation: EvaluationOptions = dataclasses.field(default_factory=EvaluationOptions)
    seed: int = 0
    run_dir: str | None = None
    resume: str | None = None
    init_from: str | None = None
    sweep: SweepOptions | None = None
    daily: DailyOptions | None = None
    logger: Factory | None = _TENSORBOARD
    callbacks: tuple[Factory, ...] = ()

    def __post_init__(self) -> None:
        if self.evaluation.backtest is not None:
            raise InputError(
                "`evaluation.backtest` trains a finished run anew at several instants: give it to `python "
                "evaluate.py run=DIR evaluation=backtest`, and train with another `evaluation`"
            )
        if self.resume is not None and self.init_from is not None:
            raise InputError(
                f"`resume={self.resume}` goes on with a run as it is, `init_from={self.init_from}` begins "
                "another one with its weights; give one of them"
            )


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A finished sweep, or several runs of `-m`, by its folder."""

    folder: str


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Every key of `evaluate.py`; what is not given is as in the run.

    One of `run`, `recommendations`, `runs` and `sweep` says what is judged.

    Args:
        run: folder of the run.
        checkpoint: whose weights are used, `best` or `last`, also of a run that has not been trained to its
            end; null takes the best ones of a finished run.
        recommendations: Parquet or CSV table of Recommendations made by anyone for the test rows of `data`.
        runs: folders of 2 to 8 runs: the first is compared with the others.
        sweep: folder of a sweep: its winner is compared with its best other trials.
        against: what the run, or the recommendations, are compared with: folders of runs or of judged
            recommendations, and names of baselines.
        run_dir: folder that gets the evaluation of recommendations, and the comparison; null is that of the
            run or sweep, and a new one in runs/ for recommendations.
        data, model, task, seed: see `TrainConfig`.
        evaluation: see `TrainConfig`; for `runs` and `sweep`, null is as in the first run.
        comparison: how surely a comparison speaks.
    """

    run: str | None = None
    checkpoint: CheckpointName | None = None
    recommendations: str | None = None
    runs: tuple[str, ...] = ()
    sweep: Sweep | None = None
    against: tuple[str, ...] = ()
    run_dir: str | None = None
    data: DataOptions | None = None
    model: Factory | None = None
    task: Factory | None = None
    evaluation: EvaluationOptions | None = None
    comparison: ComparisonOptions = dataclasses.field(default_factory=ComparisonOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        judged = ("run", "recommendations", "runs", "sweep")
        given = [name for name in judged if getattr(self, name)]
        if len(given) != 1:
            received = " and ".join(f"`{name}`" for name in given) or "none of them"
            raise InputError(
                "one of run=DIR, recommendations=FILE, runs=[DIR,DIR] and sweep=DIR must be given, got "
                f"{received}"
            )
        if self.recommendations and self.data is None:
            raise InputError(
                "`recommendations` needs the data whose test split they answer: data=NAME with the keys that "
                "prepared it, or data.prepared=DIR"
            )
        if len(self.runs) == 1:
            raise InputError(f"`runs` must name 2 runs or more, got {list(self.runs)}; one is run=DIR")


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Every key of `export.py`; what is not given is as in the run.

    Args:
        run: folder of the run.
        ranker: folder of the run of a ranking model, to recommend in two stages with the retrieval model of
            `run`; null exports `run` alone.
        checkpoint: see `EvaluateConfig`.
        data, model, task, seed: see `TrainConfig`.
        export: how the bundle is checked and recorded.
    """

    run: str
    data: DataOptions
    model: Factory
    task: Factory
    export: ExportOptions = dataclasses.field(default_factory=ExportOptions)
    seed: int = 0
    ranker: str | None = None
    checkpoint: CheckpointName | None = None
