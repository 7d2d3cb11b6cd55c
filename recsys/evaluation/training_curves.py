"""Reads the losses and metrics of each epoch from a run's `tensorboard/`."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from recsys.schema.json_files import read_json

BOARD = "tensorboard"
_TRAIN_LOSS, _VALIDATION, _EPOCH = "train/loss", "val/", "epoch"


def training_of(run: Path) -> dict[str, Any] | None:
    """Loss and validation metrics of the epochs that were validated.

    Args:
        run: folder of a run.

    Returns:
        `monitor` (without `val/`), `best_epoch` and `epochs` (from 1), `train_loss` and `validation` by
        metric, a value for each of `epochs`, None where it was not logged. None where there are no such
        curves.
    """
    by_epoch: dict[int, dict[str, float]] = defaultdict(dict)
    for _, values in sorted(_scalars(run / BOARD).items()):
        if _EPOCH in values:
            by_epoch[int(values[_EPOCH])] |= values
    validated = sorted(
        epoch for epoch, values in by_epoch.items() if any(tag.startswith(_VALIDATION) for tag in values)
    )
    if not validated:
        return None
    rows = [by_epoch[epoch] for epoch in validated]
    tags = sorted({tag for row in rows for tag in row if tag.startswith(_VALIDATION)})
    metrics = run / "metrics.json"
    told = read_json(metrics) if metrics.is_file() else {}
    best = told.get("best_epoch")
    return {
        "monitor": str(told["monitor"]).removeprefix(_VALIDATION) if "monitor" in told else None,
        "best_epoch": None if best is None else best + 1,
        "epochs": [epoch + 1 for epoch in validated],
        "train_loss": [row.get(_TRAIN_LOSS) for row in rows],
        "validation": {tag.removeprefix(_VALIDATION): [row.get(tag) for row in rows] for tag in tags},
    }


def _scalars(board: Path) -> dict[int, dict[str, float]]:
    """Values by step and tag, the first of each.

    NOTE: what a finished run adds for the table of hyperparameters comes last and repeats tags at step 0.
    """
    files = sorted(board.glob("events.out.tfevents.*"))
    if not files:
        return {}
    # Half a second, which runs without a board do not pay.
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    by_step: dict[int, dict[str, float]] = defaultdict(dict)
    for file in files:
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.tag in (_TRAIN_LOSS, _EPOCH) or value.tag.startswith(_VALIDATION):
                    number = float(make_ndarray(value.tensor))
                    if math.isfinite(number):
                        by_step[event.step].setdefault(value.tag, number)
    return by_step
