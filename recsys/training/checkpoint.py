"""Checkpoints on disk: `best`, `last` and the one before it, each one file, written beside and renamed."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from recsys.models.weights import load_checkpoint, read_checkpoint
from recsys.schema.disk import disk_refusal, link_or_copy, remove_planted, sync_folder
from recsys.schema.errors import InputError
from recsys.training.finite import ADVICE, weights_not_finite
from recsys.training.processes import dist_rank, gather_objects

BEST = "best"
LAST = "last"
PREVIOUS = "previous"

logger = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint so that its path always holds a whole one; refuses a damaged one by name."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes beside `path`, then renames; what was at `last` becomes `previous`.

        Raises:
            ValueError: weights are not finite or the disk refuses; what was there before is whole.
        """
        target = Path(path)
        spoilt = weights_not_finite(checkpoint["state_dict"])
        if spoilt is not None:
            raise InputError(
                f"expected finite weights for the checkpoint `{target}`, but {spoilt} are not;"
                f" {_kept(target)}; {ADVICE}"
            )
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_planted(temporary)
            _write(checkpoint, temporary)
            if target.name == LAST and target.exists():
                _keep_as_previous(target)
            os.replace(temporary, target)
            sync_folder(target.parent)
        except OSError as error:
            with contextlib.suppress(OSError):  # where nothing can be written, nothing can be removed
                temporary.unlink()
            raise InputError(_refusal(target, error)) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint; large tensors stay on disk until they are copied.

        Raises:
            ValueError: it is missing or damaged; the message offers another one that is whole.
        """
        target = Path(path)
        damage = find_damage(target)
        if damage is not None:
            others = [target.with_name(name) for name in (PREVIOUS, LAST, BEST) if name != target.name]
            whole = next((other for other in others if find_damage(other) is None), None)
            offer = f"; `{whole}` is whole: `cp {whole} {target}` goes on from it" if whole else ""
            raise InputError(f"checkpoint `{target}` is missing or damaged ({damage}){offer}")
        return read_checkpoint(target)


def find_damage(path: Path) -> str | None:
    """Says what is wrong with the file of a checkpoint, reading every byte; None when it is whole.

    NOTE: torch.load does not look at the checksums that torch.save writes.
    """
    _, damage = load_checkpoint(path)
    if damage is not None:
        return damage
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        return str(error) or repr(error)
    return f"the checksum of its record `{damaged}` is wrong" if damaged else None


def was_saved(folder: Path) -> bool:
    """True when `last` has been written in `folder`, though it be lost now."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:
            # torch's writer says that it failed; what the file said stands behind it.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise
        file.flush()
        os.fsync(file.fileno())


def _keep_as_previous(last: Path) -> None:
    """Gives the file at `last` a second name, so that there is no instant without a `last`."""
    temporary = last.with_name(f".{PREVIOUS}.tmp")
    temporary.unlink(missing_ok=True)
    link_or_copy(last, temporary)
    os.replace(temporary, last.with_name(PREVIOUS))


def _refusal(target: Path, error: OSError) -> str:
    why = disk_refusal(error) or str(error)
    return (
        f"expected to write the checkpoint `{target}`, but {why}; {_kept(target)}."
        f" Make room or choose another `run_dir`, then `python train.py resume={target.parent.parent}`"
    )


def _kept(target: Path) -> str:
    return f"`{target}` still holds the one before" if target.exists() else "there is none yet"


class Checkpoints(Checkpoint):
    """Keeps `last` and, by the monitored metric, `best`, with the random generators' state.

    NOTE: a `Checkpoint` for Lightning, which calls those last at the end of an epoch, after early stopping.

    Args:
        folder: where to write.
        monitor: name of the metric.
        mode: `max` or `min`.
        every_steps: `last` is also written after so many steps; None writes it at the end of epochs alone.
    """

    def __init__(self, folder: Path, *, monitor: str, mode: str, every_steps: int | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.monitor = monitor
        self.sign = 1.0 if mode == "max" else -1.0
        self.every_steps = every_steps
        self.best_value: float | None = None
        self.best_epoch = -1
        self.best_metrics: dict[str, float] = {}
        self._epoch = -1
        self._generators: dict[str, Any] | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves `last` every so many steps; the epoch's last one is saved with the epoch."""
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        if self.every_steps and done % self.every_steps == 0 and not trainer.is_last_batch:
            self.save_last(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves `best` when the metric improved, and `last`."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        value = metrics.get(self.monitor)
        if value is None:
            raise InputError(
                f"`trainer.monitor` must name a validation metric, got `{self.monitor}`; "
                f"there are: {', '.join(sorted(name for name in metrics if name.startswith('val/')))}"
            )
        if not math.isfinite(value):
            spoilt = weights_not_finite(pl_module.state_dict())
            raise InputError(
                f"expected a finite `{self.monitor}` after epoch {trainer.current_epoch}, got {value}:"
                f" {f'{spoilt} are not finite' if spoilt else 'the weights are finite'}; {ADVICE}"
            )
        if self.best_value is None or self.sign * value > self.sign * self.best_value:
            self.best_value, self.best_epoch = value, trainer.current_epoch
            self.best_metrics = {name: metrics[name] for name in metrics if name.startswith("val/")}
            self._save(trainer, BEST)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves `last`, after early stopping has counted."""
        self._epoch = trainer.current_epoch
        self.save_last(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves `best` where there was nothing to choose it by."""
        if self.best_value is None and self._epoch >= 0:
            logger.warning("no epoch was validated: `best` is the end of training")
            self.best_epoch = self._epoch
            self._save(trainer, BEST)

    def save_last(self, trainer: pl.Trainer) -> None:
        """Saves `last` as things stand now."""
        self._save(trainer, LAST)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Puts the generators back, at the last moment before the first resumed step draws from them."""
        if self._generators is not None:
            _set_generators(self._generators)
            self._generators = None

    def state_dict(self) -> dict[str, Any]:
        """Best so far, and the generators."""
        return {
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "best_metrics": self.best_metrics,
            "generators": gather_objects(_get_generators()),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self.best_value = state_dict["best_value"]
        self.best_epoch = state_dict["best_epoch"]
        self.best_metrics = state_dict["best_metrics"]
        saved, mine = state_dict["generators"], dist_rank()
        if mine < len(saved):  # a process that was not there before keeps its own
            self._generators = saved[mine]

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / name)


def _get_generators() -> dict[str, Any]:
    """State of every random generator that training may draw from, as tensors and plain numbers."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(internal), gauss_next],
    }


def _set_generators(state: dict[str, Any]) -> None:
    """Puts back what `get_generators` read."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
