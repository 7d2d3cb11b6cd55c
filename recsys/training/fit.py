"""Training a task: builds Lightning's Trainer, runs it and says what came out."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, LearningRateMonitor
from pytorch_lightning.loggers import TensorBoardLogger

from recsys.data.datamodule import RecDataModule
from recsys.models.weights import load_weights
from recsys.training.callbacks import (
    Interruption,
    StderrProgressBar,
    Throughput,
    TrainingInterruptedError,
    show_item_embeddings,
)
from recsys.training.checkpoint import BEST, LAST, AtomicCheckpointIO, Checkpoints
from recsys.training.options import TrainerOptions
from recsys.training.ranking import RankingTask
from recsys.training.retrieval import RetrievalTask

logger = logging.getLogger(__name__)

Task = RetrievalTask | RankingTask


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What training came to.

    Args:
        interrupted: stopped from outside; the run can be resumed.
        monitor: the metric that picked the best checkpoint.
        best_epoch: epoch of the best checkpoint, from 0.
        validation: validation metrics of the best checkpoint.
        train_seconds: spent in this process, validation included.
        examples_per_second: rate of training, validation left out.
    """

    interrupted: bool
    monitor: str
    best_epoch: int
    validation: dict[str, float]
    train_seconds: float
    examples_per_second: float


def fit(
    task: Task,
    data: RecDataModule,
    options: TrainerOptions,
    *,
    run_dir: Path,
    resume: bool = False,
    hyperparameters: Mapping[str, Any] | None = None,
) -> FitResult:
    """Trains `task`, which holds the best weights after; fills `checkpoints/` and `tensorboard/`.

    Seeding is the caller's: weights are drawn before this is called.

    Args:
        task: with its model.
        data: the data module.
        options: every key under `trainer.`.
        run_dir: the run's folder.
        resume: go on from `checkpoints/last`.
        hyperparameters: flat configuration, shown in TensorBoard.

    Raises:
        ValueError: nothing to resume from, a damaged checkpoint, or a monitored metric that does not exist.
    """
    task.optimizers_of.fuse(task.model)
    monitor = options.monitor or task.monitor
    mode = "min" if "loss" in monitor else "max"
    checkpoints = Checkpoints(run_dir / "checkpoints", monitor=monitor, mode=mode)
    throughput = Throughput()
    board = TensorBoardLogger(save_dir=str(run_dir), name="tensorboard", version="")
    watchers: list[Callback] = [
        Interruption(checkpoints),
        throughput,
        LearningRateMonitor("step"),
        checkpoints,
    ]
    if options.patience is not None:
        watchers.insert(0, EarlyStopping(monitor, mode=mode, patience=options.patience, check_finite=True))
    show_bar = options.progress_bar and sys.stderr.isatty()
    if show_bar:
        watchers.append(StderrProgressBar())
    # Lightning warns when an epoch is shorter than what lies between two lines of its log.
    num_steps = len(data.train_dataloader())
    options = dataclasses.replace(
        options, log_every_n_steps=max(1, min(options.log_every_n_steps, num_steps))
    )
    trainer = _trainer(options, run_dir=run_dir, callbacks=watchers, board=board, show_bar=show_bar)
    started = time.perf_counter()
    interrupted = False
    try:
        last = run_dir / "checkpoints" / LAST
        with warnings.catch_warnings():
            # Where every parameter is in a fused table, there is nothing left for an optimizer of
            # Lightning's.
            warnings.filterwarnings("ignore", ".*this fit will run with no optimizer")
            trainer.fit(task, datamodule=data, ckpt_path=str(last) if resume else None)
        load_weights(task.model, run_dir / "checkpoints" / BEST)
        show_item_embeddings(task, board, num_items=options.projector_items)
    except TrainingInterruptedError:
        interrupted = True
    result = FitResult(
        interrupted=interrupted,
        monitor=monitor,
        best_epoch=checkpoints.best_epoch,
        validation={name.removeprefix("val/"): value for name, value in checkpoints.best_metrics.items()},
        train_seconds=time.perf_counter() - started,
        examples_per_second=throughput.examples_per_second,
    )
    if not interrupted:
        board.log_hyperparams(dict(hyperparameters or {}), checkpoints.best_metrics)
    board.finalize("success")
    return result


def _trainer(
    options: TrainerOptions,
    *,
    run_dir: Path,
    callbacks: list[Callback],
    board: TensorBoardLogger,
    show_bar: bool,
) -> pl.Trainer:
    return pl.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        precision=options.precision,
        max_epochs=options.max_epochs,
        max_steps=options.max_steps,
        gradient_clip_val=options.gradient_clip_norm,
        check_val_every_n_epoch=options.validate_every_epochs,
        log_every_n_steps=options.log_every_n_steps,
        limit_train_batches=options.limit_train_batches,
        limit_val_batches=options.limit_val_batches,
        profiler=options.profiler,
        deterministic=options.deterministic,
        callbacks=callbacks,
        logger=board,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=run_dir,
        enable_progress_bar=show_bar,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,  # FBGEMM has no kernel of its fused tables for it
        use_distributed_sampler=False,
    )


def seed_everything(seed: int) -> None:
    """Seeds every random generator that training draws from."""
    pl.seed_everything(seed, verbose=False)
    torch.use_deterministic_algorithms(False)
