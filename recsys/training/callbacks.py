"""Watches training: progress, rate, interruptions, item embeddings."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.loggers import TensorBoardLogger

from recsys.data.dataset import PreparedDataset
from recsys.models.encoding import encode_catalogue
from recsys.models.protocols import RetrievalModel
from recsys.schema.batch import Batch
from recsys.training.checkpoint import Checkpoints
from recsys.training.finite import detecting_anomalies
from recsys.training.processes import dist_rank, gather_objects

logger = logging.getLogger(__name__)


# Validation metrics in the line of an epoch; TensorBoard has them all.
_SHOWN = ("train/loss", "val/ndcg@10", "val/hit_rate@10", "val/log_loss", "val/auc", "val/gauc")


class TrainingInterruptedError(Exception):
    """Training was interrupted from outside; `last` holds everything up to the step before."""


class Interruption(pl.Callback):
    """Ends training at the next step's end on Ctrl-C or SIGTERM, with `last` written first.

    Args:
        checkpoints: writes `last`.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self.requested = False
        self._former: dict[int, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over the signals, which only the main thread may."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._request)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and stops when asked to, all processes at the same step."""
        if trainer.strategy.reduce_boolean_decision(self.requested, all=False):
            self.checkpoints.save_last(trainer)
            raise TrainingInterruptedError

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Gives the signals back."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def _request(self, number: int, frame: Any) -> None:
        if self.requested:  # asked twice: do not wait for the step's end
            raise KeyboardInterrupt
        logger.warning("interrupted: saving after this step (once more to stop at once, without saving)")
        self.requested = True


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's, but that a resumed training has the patience that it is given now.

    NOTE: the class keeps Lightning's name, under which checkpoints hold its count.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the count."""
        super().load_state_dict({**state_dict, "patience": self.patience})


class Throughput(pl.Callback):
    """Counts examples a second of training (validation left out) and logs a line an epoch.

    The first steps of a process, in which kernels and memory are set up, are not counted unless there are no
    others.
    """

    _WARM_UP_STEPS = 10

    def __init__(self) -> None:
        super().__init__()
        self._steps = 0
        self._all = _Pace()
        self._warm = _Pace()
        self._epoch = _Pace()
        self._since = 0.0

    @property
    def examples_per_second(self) -> float:
        """Over the whole of this process's training, of all processes together."""
        return self._warm.rate or self._all.rate

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock, also where training goes on in the middle of an epoch."""
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock of the epoch."""
        self._epoch = _Pace()
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts."""
        now = time.perf_counter()
        self._steps += 1
        paces = [self._epoch, self._all] + ([self._warm] if self._steps > self._WARM_UP_STEPS else [])
        for pace in paces:
            pace.add(len(batch) * trainer.world_size, now - self._since)
        self._since = now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the validation's time out."""
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the epoch."""
        pl_module.log("train/examples_per_second", self._epoch.rate, sync_dist=True)
        shown = {name: trainer.callback_metrics.get(name) for name in _SHOWN}
        figures = ", ".join(
            f"{name} {float(value):.4f}" for name, value in shown.items() if value is not None
        )
        logger.info("epoch %d: %s, %s examples/s", trainer.current_epoch, figures, f"{self._epoch.rate:,.0f}")


@dataclasses.dataclass
class _Pace:
    num_examples: int = 0
    seconds: float = 0.0

    def add(self, num_examples: int, seconds: float) -> None:
        self.num_examples += num_examples
        self.seconds += seconds

    @property
    def rate(self) -> float:
        return self.num_examples / self.seconds if self.seconds else 0.0


class LossCurve(pl.Callback):
    """Logs the loss: a step's every so many steps, an epoch's as the mean over its examples in all processes.

    NOTE: Lightning's own `self.log` at every step takes a tenth of the time of a small one.

    Args:
        every_steps: steps between two lines in TensorBoard.
    """

    def __init__(self, every_steps: int) -> None:
        super().__init__()
        self.every_steps = every_steps
        self.latest = math.nan
        self._sum = 0.0
        self._num_examples = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Adds the step's loss, where there is one."""
        if not outputs:
            return
        loss = outputs["loss"].detach()
        if batch.share > 0:
            self._sum += float(loss) / batch.share * len(batch)
            self._num_examples += len(batch)
        step = trainer.fit_loop.epoch_loop.total_batch_idx
        if (step + 1) % self.every_steps == 0:
            self.latest = float(trainer.strategy.reduce(loss))
            if trainer.logger is not None:
                trainer.logger.log_metrics({"train/loss_step": self.latest}, step=step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the epoch's mean and begins the next one's."""
        sums = gather_objects((self._sum, self._num_examples))
        num_examples = sum(count for _, count in sums)
        if num_examples:
            pl_module.log("train/loss", sum(part for part, _ in sums) / num_examples, sync_dist=True)
        self._sum, self._num_examples = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """Returns the sums of the main process."""
        return {"sum": self._sum, "num_examples": self._num_examples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on adding, in the main process."""
        if dist_rank() == 0:
            self._sum, self._num_examples = state_dict["sum"], state_dict["num_examples"]


class Anomalies(pl.Callback):
    """`trainer.detect_anomaly`: names the feature whose embedding or gradient is not finite first."""

    def __init__(self) -> None:
        super().__init__()
        self._watch = contextlib.ExitStack()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins to watch."""
        self._watch.enter_context(detecting_anomalies(cast(Any, pl_module).model))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Watches no longer."""
        self._watch.close()


class ValidationReports(pl.Callback):
    """Hands each validation to somebody, who may end the training by an exception.

    Args:
        report: takes the number of epochs trained and the validation metrics.
    """

    def __init__(self, report: Callable[[int, Mapping[str, float]], None]) -> None:
        super().__init__()
        self.report = report

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.report(trainer.current_epoch + 1, metrics)


class StderrProgressBar(TQDMProgressBar):
    """Lightning's bar on stderr: the last line of stdout is the command's answer."""

    def init_train_tqdm(self) -> Tqdm:
        """The bar of an epoch."""
        return self._bar("Training", position=0, leave=True)

    def init_validation_tqdm(self) -> Tqdm:
        """The bar of a validation."""
        return self._bar("Validating", position=1, leave=False)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Loss, rate and the monitored metric."""
        shown = dict(super().get_metrics(trainer, pl_module))
        shown.pop("v_num", None)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LossCurve):
                shown["loss"] = callback.latest
        return shown

    def _bar(self, description: str, *, position: int, leave: bool) -> Tqdm:
        return Tqdm(
            desc=description,
            position=position,
            disable=self.is_disabled,
            leave=leave,
            dynamic_ncols=True,
            file=sys.stderr,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
        )


def show_item_embeddings(
    model: RetrievalModel, dataset: PreparedDataset, board: TensorBoardLogger, *, num_items: int
) -> None:
    """Puts the vectors of the most popular items into TensorBoard's projector, labelled with their titles.

    Args:
        model: trained, its tables on this process.
        dataset: its catalogue.
        board: the run's TensorBoard.
        num_items: how many; 0 leaves the projector out.
    """
    if num_items < 1:
        return
    rows = torch.argsort(dataset.item_counts[1:], descending=True, stable=True)[:num_items] + 1
    vectors = encode_catalogue(model, dataset.items.select(rows))
    titles = dataset.item_titles
    board.experiment.add_embedding(
        vectors.float().cpu(), metadata=[titles[row].replace("\t", " ") for row in rows.tolist()], tag="items"
    )
