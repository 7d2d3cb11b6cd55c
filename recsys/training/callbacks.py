"""What is watched while training: progress, rate, interruptions, item embeddings."""

from __future__ import annotations

import logging
import signal
import sys
import time
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.loggers import TensorBoardLogger

from recsys.training.checkpoint import Checkpoints
from recsys.training.retrieval import encode_catalogue
from recsys.training.task import data_module

logger = logging.getLogger(__name__)


# Validation metrics in the line of an epoch; TensorBoard has them all.
_SHOWN = ("val/ndcg@10", "val/hit_rate@10", "val/log_loss", "val/auc", "val/gauc")


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
        """Takes over the signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._request)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and stops when asked to."""
        if self.requested:
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


class Throughput(pl.Callback):
    """Counts examples a second of training (validation left out) and logs a line an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.num_examples = 0
        self.seconds = 0.0
        self._since = 0.0
        self._epoch_start = (0, 0.0)

    @property
    def examples_per_second(self) -> float:
        """Over the whole of this process's training."""
        return self.num_examples / self.seconds if self.seconds else 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._epoch_start = (self.num_examples, self.seconds)
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts."""
        now = time.perf_counter()
        self.num_examples += len(batch)
        self.seconds += now - self._since
        self._since = now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the validation's time out."""
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs the epoch."""
        examples, seconds = self._epoch_start
        rate = (self.num_examples - examples) / max(self.seconds - seconds, 1e-9)
        pl_module.log("train/examples_per_second", rate)
        shown = {"train/loss": trainer.callback_metrics.get("train/loss_epoch")}
        shown |= {name: trainer.callback_metrics.get(name) for name in _SHOWN}
        figures = ", ".join(
            f"{name} {float(value):.4f}" for name, value in shown.items() if value is not None
        )
        logger.info("epoch %d: %s, %s examples/s", trainer.current_epoch, figures, f"{rate:,.0f}")


class StderrProgressBar(TQDMProgressBar):
    """Lightning's bar on stderr: the last line of stdout is the command's answer."""

    def init_train_tqdm(self) -> Tqdm:
        """The bar of an epoch."""
        return self._bar("Training", position=0, leave=True)

    def init_validation_tqdm(self) -> Tqdm:
        """The bar of a validation."""
        return self._bar("Validating", position=1, leave=False)

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


def show_item_embeddings(task: pl.LightningModule, board: TensorBoardLogger, *, num_items: int) -> None:
    """Puts the vectors of the most popular items into TensorBoard's projector, labelled with their titles.

    Args:
        task: a trained retrieval task, still attached to its trainer.
        board: the run's TensorBoard.
        num_items: how many; 0 leaves the projector out.
    """
    if num_items < 1 or not hasattr(task.model, "encode_candidates"):
        return
    dataset = data_module(task).dataset
    rows = torch.argsort(dataset.item_counts[1:], descending=True, stable=True)[:num_items] + 1
    model = cast(Any, task.model).eval()
    vectors = encode_catalogue(model, dataset.items.select(rows).to(task.device))
    titles = dataset.item_titles
    board.experiment.add_embedding(
        vectors.float().cpu(), metadata=[titles[row].replace("\t", " ") for row in rows.tolist()], tag="items"
    )
