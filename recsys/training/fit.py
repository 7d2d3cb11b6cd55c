"""Training a task: builds Lightning's Trainer, runs it and says what came out."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, LearningRateMonitor
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch import nn

from recsys.data.datamodule import RecDataModule
from recsys.metrics.register import metric_of
from recsys.models.protocols import RetrievalModel, events_read
from recsys.models.weights import load_weights
from recsys.runs.launch import ALONE, Processes
from recsys.schema.errors import InputError, is_out_of_memory
from recsys.training.averaging import AveragedWeights
from recsys.training.callbacks import (
    Anomalies,
    EarlyStopping,
    Interruption,
    LossCurve,
    StderrProgressBar,
    Throughput,
    TrainingInterruptedError,
    show_item_embeddings,
)
from recsys.training.checkpoint import BEST, LAST, PREVIOUS, AtomicCheckpointIO, Checkpoints, was_saved
from recsys.training.finite import naming_operations
from recsys.training.fitted import FittedTask
from recsys.training.loggers import Curves, TensorBoard, show_configuration
from recsys.training.options import TrainerOptions
from recsys.training.ranking import RankingTask
from recsys.training.retrieval import RetrievalTask
from recsys.training.strategy import ShardedStrategy
from recsys.training.tables import fused_collections, is_sharded

logger = logging.getLogger(__name__)

_TENSORBOARD = TensorBoard()

Task = RetrievalTask | RankingTask | FittedTask


@dataclasses.dataclass(frozen=True)
class FitResult:
    """Holds the results of a training.

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
    processes: Processes = ALONE,
    hyperparameters: Mapping[str, Any] | None = None,
    watchers: Sequence[Callback] = (),
    curves: Curves | None = _TENSORBOARD,
) -> FitResult:
    """Trains `task`; fills `checkpoints/` and, where there is one, the logger.

    Seeding is the caller's: weights are drawn before this is called. `best_model` gives the model after.

    Args:
        task: with its model.
        data: the data module.
        options: every key under `trainer.`.
        run_dir: the run's folder.
        resume: go on from `checkpoints/last`, where there is one.
        processes: those that train together, already joined.
        hyperparameters: flat configuration, shown by the logger.
        watchers: further callbacks, which act after ours.
        curves: where they go; None is nowhere.

    Raises:
        ValueError: a damaged checkpoint, a monitored metric that does not exist, numbers that are not
            finite, or a disk that refuses a checkpoint.
    """
    assert data.events_read == events_read(task.model), "the data module is not the model's"
    options = _settled(options, data)
    monitor = options.monitor or task.monitor
    checkpoints = Checkpoints(
        run_dir / "checkpoints",
        monitor=monitor,
        mode=_mode(monitor),
        every_steps=options.checkpoint_every_steps,
    )
    throughput = Throughput()
    board = curves.open(run_dir) if curves else None
    if options.strategy == "single":
        task.optimizers_of.fuse(task.model, "cuda" if _is_on_gpu(options.accelerator) else "cpu")
    trainer = _trainer(
        options,
        run_dir=run_dir,
        strategy="auto" if options.strategy == "single" else ShardedStrategy(processes, task.optimizers_of),
        processes=processes,
        callbacks=[
            *(
                watcher
                for watcher in _watchers(options, checkpoints, throughput, monitor=monitor)
                if board or not isinstance(watcher, LearningRateMonitor)
            ),
            *watchers,
        ],
        board=board,
    )
    last = checkpoints.folder / LAST
    goes_on = resume and was_saved(checkpoints.folder)
    if resume and not goes_on:
        logger.warning("`%s` was not written yet: training begins anew", last)
    started = time.perf_counter()
    interrupted = _trained(trainer, task, data, last=last if goes_on else None)
    result = FitResult(
        interrupted=interrupted,
        monitor=monitor,
        best_epoch=checkpoints.best_epoch,
        validation={name.removeprefix("val/"): value for name, value in checkpoints.best_metrics.items()},
        train_seconds=time.perf_counter() - started,
        examples_per_second=throughput.examples_per_second,
    )
    if board and not interrupted and processes.is_main:
        show_configuration(board, hyperparameters or {}, checkpoints.best_metrics)
    if board:
        board.finalize("success")
    return result


def _trained(trainer: pl.Trainer, task: Task, data: RecDataModule, *, last: Path | None) -> bool:
    """Trains, from the checkpoint `last` on where it is given, and says whether it was interrupted.

    Raises:
        InputError: what the checkpoint holds cannot be taken over.
    """
    try:
        with warnings.catch_warnings(), naming_operations():
            # Where every parameter is in a fused table, there is nothing left for an optimizer of
            # Lightning's.
            warnings.filterwarnings("ignore", ".*this fit will run with no optimizer")
            trainer.fit(task, datamodule=data, ckpt_path=None if last is None else str(last))
    except TrainingInterruptedError:
        return True
    except SystemExit as ended:  # how Lightning answers a signal outside of a step, without a word
        if not isinstance(ended.__context__, KeyboardInterrupt):
            raise
        return True
    except Exception as error:
        if isinstance(error, InputError) or is_out_of_memory(error) or not _was_restoring(error):
            raise
        raise InputError(
            f"checkpoint `{last}` is damaged: it cannot be gone on with ({type(error).__name__}: {error}); "
            f"`{PREVIOUS}` beside it is that of before"
        ) from error
    return False


def _was_restoring(error: Exception) -> bool:
    """Whether Lightning failed as it took over what a checkpoint holds."""
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [code.co_name for code in frames if code.co_filename.endswith("checkpoint_connector.py")]
    return any("restore" in name or "resume" in name for name in names)


def best_model(task: Task, run_dir: Path, *, build: Callable[[], nn.Module]) -> nn.Module:
    """The trained model with the best weights, its tables on this process.

    Args:
        task: trained by `fit`.
        run_dir: the run's folder.
        build: makes the model anew, for a task whose tables are spread over processes.
    """
    # Look-ups that are sharded, or fused on a GPU, work nowhere else.
    on_gpu = task.trainer.strategy.root_device.type == "cuda" and bool(fused_collections(task.model))
    model = build() if is_sharded(task.model) or on_gpu else task.model
    load_weights(model, run_dir / "checkpoints" / BEST)
    return model


def show_items(model: nn.Module, data: RecDataModule, *, run_dir: Path, num_items: int) -> None:
    """Adds the item embeddings of a trained retrieval model to the run's TensorBoard.

    Args:
        model: with the best weights, its tables on this process.
        data: the data module it was trained on.
        run_dir: the run's folder.
        num_items: the most popular so many.
    """
    board = TensorBoardLogger(save_dir=str(run_dir), name="tensorboard", version="")
    if isinstance(model, RetrievalModel) and Path(board.log_dir).is_dir():
        show_item_embeddings(cast(Any, model).eval(), data.dataset, board, num_items=num_items)
        board.finalize("success")


def _settled(options: TrainerOptions, data: RecDataModule) -> TrainerOptions:
    """`options` with what depends on machine and data decided.

    Raises:
        ValueError: options that exclude one another.
    """
    if options.precision == "16-mixed" and options.accelerator == "cpu":
        raise InputError(
            "`trainer.precision=16-mixed` needs a GPU; on a CPU `auto`, `bf16-mixed` and `32-true` train"
        )
    if options.limit_val_batches == 0 and options.patience is not None:
        raise InputError(
            "`trainer.limit_val_batches=0` leaves nothing to watch; add `trainer.patience=null`, or validate"
        )
    if options.average_decay is not None and not 0 < options.average_decay < 1:
        raise InputError(
            f"`trainer.average_decay` must lie between 0 and 1, got {options.average_decay}; 0.99 works, "
            "and null does not average"
        )
    # Lightning warns when an epoch is shorter than what lies between two lines of its log.
    num_steps = len(data.train_dataloader())
    return dataclasses.replace(
        options,
        precision=_auto_precision(options.accelerator) if options.precision == "auto" else options.precision,
        log_every_n_steps=max(1, min(options.log_every_n_steps, num_steps)),
        progress_bar=options.progress_bar and _is_watched(),
    )


def _is_watched() -> bool:
    """True in a terminal and in a notebook, false where stderr goes to a file."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _is_on_gpu(accelerator: str) -> bool:
    """True where Lightning trains on CUDA."""
    return accelerator != "cpu" and torch.cuda.is_available()


def _auto_precision(accelerator: str) -> Literal["32-true", "bf16-mixed"]:
    """bf16-mixed where the hardware multiplies bfloat16, 32-true elsewhere."""
    if _is_on_gpu(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"


def _mode(monitor: str) -> Literal["min", "max"]:
    """Whether less or more of a metric is better."""
    return "min" if metric_of(monitor).better == "less" else "max"


def _watchers(
    options: TrainerOptions, checkpoints: Checkpoints, throughput: Throughput, *, monitor: str
) -> list[Callback]:
    """Callbacks, in the order in which they act; `last` is saved after all have counted."""
    mode = _mode(monitor)
    watchers: list[Callback] = []
    if options.average_decay is not None:
        watchers.append(AveragedWeights(options.average_decay))
    if options.patience is not None:
        watchers.append(
            EarlyStopping(monitor, mode=mode, patience=options.patience, check_on_train_epoch_end=False)
        )
    if options.detect_anomaly:
        watchers.append(Anomalies())
    if options.progress_bar:
        watchers.append(StderrProgressBar(refresh_rate=options.log_every_n_steps))
    return [
        *watchers,
        Interruption(checkpoints),
        LossCurve(options.log_every_n_steps),
        throughput,
        LearningRateMonitor("step"),
        checkpoints,
    ]


def _trainer(
    options: TrainerOptions,
    *,
    run_dir: Path,
    strategy: str | ShardedStrategy,
    processes: Processes,
    callbacks: list[Callback],
    board: Logger | None,
) -> pl.Trainer:
    return pl.Trainer(
        accelerator=options.accelerator,
        strategy=strategy,
        devices=processes.num_local_ranks,
        num_nodes=processes.num_ranks // processes.num_local_ranks,
        precision=cast(Any, options.precision),
        max_epochs=options.max_epochs,
        max_steps=options.max_steps,
        gradient_clip_val=options.gradient_clip_norm,
        check_val_every_n_epoch=options.validate_every_epochs,
        log_every_n_steps=options.log_every_n_steps,
        limit_train_batches=options.limit_train_batches,
        limit_val_batches=options.limit_val_batches,
        profiler=options.profiler,
        deterministic=options.deterministic,
        detect_anomaly=options.detect_anomaly,
        callbacks=callbacks,
        logger=board or False,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=run_dir,
        enable_progress_bar=options.progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,  # FBGEMM has no kernel of its fused tables for it
        use_distributed_sampler=False,
    )


def seed_everything(seed: int) -> None:
    """Seeds every random generator that training draws from."""
    pl.seed_everything(seed, verbose=False)
    torch.use_deterministic_algorithms(False)
