"""Prepared dataset -> run: python train.py [GROUP=FILE] [KEY=VALUE] ..., see python train.py --help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recsys.commands.entry import command
from recsys.commands.options import TrainConfig
from recsys.commands.training import train


@command("train", TrainConfig, continues="resume", repeats=True)
def main(config: TrainConfig, composed: dict[str, Any]) -> Path:
    """Trains a model, judges it on the test split beside the simplest baseline, and leaves a run."""
    return train(config, composed)


if __name__ == "__main__":
    main()
