"""Trains one run, from typed options to a finished folder."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from recsys.commands.auto_sizes import fitted
from recsys.commands.figures import print_figures
from recsys.commands.options import TrainConfig
from recsys.commands.process import quiet_libraries
from recsys.commands.sweeps.reports import trial_report
from recsys.config.keys import flattened
from recsys.config.register import TARGET, import_functions
from recsys.data.datamodule import RecDataModule, open_dataset
from recsys.data.dataset import PreparedDataset
from recsys.data.tasks import Task
from recsys.evaluation.evaluate import quick_metrics
from recsys.evaluation.questions import EvaluatedModel, fitting
from recsys.metrics.register import metric_of
from recsys.models.protocols import Beginner, events_read
from recsys.nn.embeddings import deferred_tables
from recsys.runs.folders import run_folder
from recsys.runs.initial import initialised_from, start_from
from recsys.runs.launch import Processes
from recsys.runs.trained import BUNDLE, EVALUATION, TrainedRun
from recsys.schema.batch import HistoryEvents
from recsys.schema.errors import InputError
from recsys.schema.stores import origin_of
from recsys.training.callbacks import ValidationReports
from recsys.training.finished import why_finished
from recsys.training.fit import Task as TrainingTask
from recsys.training.fit import best_model, fit, seed_everything, show_items
from recsys.training.processes import agree, joined, one_machine_rank_first

logger = logging.getLogger(__name__)


def train(config: TrainConfig, composed: dict[str, Any]) -> Path:
    """Trains a model, judges it on the test split beside the simplest baseline, and leaves a run.

    Args:
        config: every key.
        composed: the plain configuration that it was made from, kept in the run.

    Returns:
        The run's folder.

    Raises:
        ValueError: data, model or trainer cannot be used so, or training diverged.
        KeyboardInterrupt: it was interrupted, and says how to go on.
    """
    finished = why_finished(Path(config.resume), config.trainer) if config.resume else None
    if finished:
        logger.info("`%s` %s", config.resume, finished)
        return Path(str(config.resume))
    quiet_libraries()  # Lightning sets its own level when it is imported, which is only now
    initial = _open_initial(config.init_from, composed) if config.init_from else None
    if initial and config.data.prepared is None and config.data.extends is None:
        config, composed = _extending(config, composed, str(initial.dataset.path))
    import_functions(config.evaluation.metrics, "evaluation.metrics")
    kind: Task = getattr(config.task.target, "kind", "retrieval")
    _check_trainer(config, kind)
    seed_everything(config.seed)
    with joined(config.trainer.strategy, config.trainer.accelerator) as processes:
        with one_machine_rank_first(processes):
            dataset = open_dataset(config.data, task=kind)
        if kind == "retrieval":
            fitting(config.evaluation, dataset)  # refused before the training, not after it
        earlier = initial.config if initial else None
        config, composed = fitted(config, composed, dataset, earlier=earlier)
        task = _build_task(config, dataset, initial, model=composed["model"])
        data = _data_module(config, dataset, events_read(task.model), kind=kind, processes=processes)
        folder = run_folder(
            composed,
            run_dir=config.run_dir,
            resume=config.resume,
            dataset={
                "path": origin_of(dataset.path),
                "fingerprint": dataset.manifest["fingerprint"],
                "task": kind,
            },
            processes=processes,
            agree=agree,
        )
        with folder as (run_dir, ending):
            started = initialised_from(run_dir, initial if processes.is_main else None)
            result = fit(
                task,
                data,
                config.trainer,
                run_dir=run_dir,
                resume=ending.is_resumed,
                processes=processes,
                hyperparameters=flattened(composed),
                watchers=_callbacks(config, run_dir),
                curves=config.logger() if config.logger else None,
            )
            learned = dataclasses.asdict(result)
            if learned.pop("interrupted"):
                raise KeyboardInterrupt(f"continue with `python train.py resume={run_dir}`")
            if not processes.is_main:
                return run_dir
            figures = _judge_best(config, task, data, kind=kind, run_dir=run_dir)
            ending.source = dataset.manifest["fingerprint"]
            ending.extra = {"prepared": origin_of(dataset.path), "task": kind, **started}
            ending.metrics = {**learned, "test": figures["model"], "seed": config.seed}
    title = f"test split of {config.data.name} ({config.data.split})"
    if ending.is_resumed:
        TrainedRun.open(run_dir).warn_of_outdated(EVALUATION, BUNDLE)
    print_figures(figures, title=title, k=config.evaluation.main_k)
    return run_dir


def _check_trainer(config: TrainConfig, kind: Task) -> None:
    """Finds out before any work what training would stumble on later.

    Raises:
        InputError: there is no GPU, or the task has no such metric to monitor.
    """
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise InputError(
            "expected a GPU that torch can use for `trainer.accelerator=gpu` (`trainer=gpu`), found none; "
            "train with `trainer=cpu`, or see what `recsys doctor` says"
        )
    monitor = config.trainer.monitor
    if monitor and (metric_of(monitor).of_lists is not None) != (kind == "retrieval"):
        own = getattr(config.task.target, "monitor", None)
        raise InputError(
            f"`trainer.monitor={monitor}` is no metric of a {kind} task; leave it out, which is `{own}`"
        )


def _open_initial(folder: str, composed: Mapping[str, Any]) -> TrainedRun:
    """The run to start from.

    Raises:
        InputError: it is missing, damaged or unfinished, or holds another kind of model.
    """
    run = TrainedRun.open(folder)
    had, has = run.config["model"][TARGET], composed["model"][TARGET]
    if had != has:
        raise InputError(
            f"`init_from={run.path}` holds a `{had}`, and the new model is a `{has}`; choose the same"
        )
    return run


def _extending(
    config: TrainConfig, composed: dict[str, Any], dataset: str
) -> tuple[TrainConfig, dict[str, Any]]:
    """Returns the configuration, typed and plain, with `data.extends` set to a prepared dataset."""
    changed = dataclasses.replace(config, data=dataclasses.replace(config.data, extends=dataset))
    return changed, {**composed, "data": {**composed["data"], "extends": dataset}}


def _build_task(
    config: TrainConfig, dataset: PreparedDataset, initial: TrainedRun | None, *, model: Mapping[str, Any]
) -> TrainingTask:
    """Builds the task and its model, whose weights are those of the run to start from, if there is one."""
    # Fused tables get their memory in training; weights to start from need it now.
    with deferred_tables(config.optimizer.is_fused and initial is None):
        task: TrainingTask = config.task(
            model=config.model(schema=dataset.schema), optimizers=config.optimizer
        )
    if initial:
        start_from(initial, task.model, dataset, wanted=model)
    elif isinstance(task.model, Beginner) and not config.resume:
        task.model.begin(dataset.items, dataset.item_counts)
    return task


def _data_module(
    config: TrainConfig,
    dataset: PreparedDataset,
    events: HistoryEvents | None,
    *,
    kind: Task,
    processes: Processes,
) -> RecDataModule:
    """Builds the data module of this process."""
    return RecDataModule(
        config.data,
        dataset=dataset,
        events_read=events,
        task=kind,
        queries=config.evaluation.queries,
        seen=config.evaluation.seen,
        validation_queries=config.evaluation.validation_queries,
        seed=config.seed,
        rank=processes.rank,
        num_ranks=processes.num_ranks,
    )


def _callbacks(config: TrainConfig, run_dir: Path) -> list[Callback]:
    """Returns the callbacks of the configuration, behind the reports of a trial where the run is one."""
    report = trial_report(run_dir)
    return [*([ValidationReports(report)] if report else []), *(callback() for callback in config.callbacks)]


def _judge_best(
    config: TrainConfig, task: TrainingTask, data: RecDataModule, *, kind: Task, run_dir: Path
) -> dict[str, dict[str, float]]:
    """Evaluates the best weights on the test split; shows the item embeddings in TensorBoard before."""
    model = best_model(task, run_dir, build=lambda: config.model(schema=data.dataset.schema))
    show_items(model, data, run_dir=run_dir, num_items=config.trainer.projector_items)
    options = config.data
    since = data.dataset.instant(options.train_from, key="data.train_from")
    trained = EvaluatedModel(
        model, data.dataset, kind, options.history_length, options.negatives_per_positive, since
    )
    return quick_metrics(trained, config.evaluation, keep_in=run_dir)
