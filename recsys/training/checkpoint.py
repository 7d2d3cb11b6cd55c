"""Checkpoints on disk: `best` and `last`, each one file, written to a temporary name and renamed."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

BEST = "best"
LAST = "last"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint so that its path always holds a whole one; refuses a damaged one by name."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes beside `path`, then renames."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint.

        Raises:
            ValueError: it is missing or damaged; the message offers the other one when that is whole.
        """
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            target = Path(path)
            other = target.with_name(BEST if target.name == LAST else LAST)
            offer = f"; `{other}` is there: copy it to `{target}` to go on from it" if other.is_file() else ""
            raise ValueError(f"checkpoint `{target}` is missing or damaged ({error}){offer}") from error
        return content


class Checkpoints(pl.Callback):
    """Keeps `last` and, by the monitored metric, `best`, with the random generators' state.

    Args:
        folder: where to write.
        monitor: name of the metric.
        mode: `max` or `min`.
    """

    def __init__(self, folder: Path, *, monitor: str, mode: str) -> None:
        super().__init__()
        self.folder = folder
        self.monitor = monitor
        self.sign = 1.0 if mode == "max" else -1.0
        self.best_value: float | None = None
        self.best_epoch = -1
        self.best_metrics: dict[str, float] = {}
        self._generators: dict[str, Any] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves `best` when the metric improved, and `last`."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        value = metrics.get(self.monitor)
        if value is None:
            raise ValueError(
                f"`trainer.monitor` must name a validation metric, got `{self.monitor}`; "
                f"there are: {', '.join(sorted(name for name in metrics if name.startswith('val/')))}"
            )
        if self.best_value is None or self.sign * value > self.sign * self.best_value:
            self.best_value, self.best_epoch = value, trainer.current_epoch
            self.best_metrics = {name: metrics[name] for name in metrics if name.startswith("val/")}
            self._save(trainer, BEST)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves `last`, after early stopping has counted."""
        self.save_last(trainer)

    def save_last(self, trainer: pl.Trainer) -> None:
        """Saves `last` as things stand now."""
        self._save(trainer, LAST)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Puts the generators back, at the last moment before the first resumed step draws from them."""
        if self._generators is not None:
            set_generators(self._generators)
            self._generators = None

    def state_dict(self) -> dict[str, Any]:
        """Best so far, and the generators."""
        return {
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "best_metrics": self.best_metrics,
            "generators": get_generators(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self.best_value = state_dict["best_value"]
        self.best_epoch = state_dict["best_epoch"]
        self.best_metrics = state_dict["best_metrics"]
        self._generators = state_dict["generators"]

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / name)


def get_generators() -> dict[str, Any]:
    """State of every random generator that training may draw from, as tensors and plain numbers."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(internal), gauss_next],
    }


def set_generators(state: dict[str, Any]) -> None:
    """Puts back what `get_generators` read."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
