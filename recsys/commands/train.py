"""Prepared dataset -> run: python train.py [GROUP=FILE] [KEY=VALUE] ..., see python train.py --help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.entry import command
from recsys.config.help import HelpTexts

if TYPE_CHECKING:
    from recsys.commands.options import TrainConfig

_HELP = HelpTexts(
    "python train.py",
    keys=(
        "data.interactions.path",
        "data.label.column",
        "data.label.positive_at_least",
        "data.split",
        "data.batch_size",
        "model.embedding_dim",
        "optimizer.learning_rate",
        "trainer.max_epochs",
        "trainer.patience",
        "seed",
        "run_dir",
        "resume",
        "init_from",
    ),
    example="data=movielens_100k model=sequence_two_tower trainer.max_epochs=5 seed=1",
)


@command("train", "recsys.commands.options.TrainConfig", continues="resume", repeats=True, help_texts=_HELP)
def main(config: TrainConfig, composed: dict[str, Any]) -> Path:
    """Trains a model, evaluates it on the test split beside the simplest baseline, and leaves a run."""
    from recsys.commands.training import train  # torch, which `--help` and mistyped keys need not

    return train(config, composed)


if __name__ == "__main__":
    main()
