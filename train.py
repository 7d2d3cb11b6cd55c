"""Prepared dataset -> run: python train.py [GROUP=FILE] [KEY=VALUE] ..., see python train.py --help."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from recsys.doctor import importing

with importing():
    from recsys.config.command import command
    from recsys.config.initial import initialised_from, open_initial
    from recsys.config.keys import flattened
    from recsys.config.options import TrainConfig
    from recsys.config.results import print_figures
    from recsys.config.runs import run_folder
    from recsys.data.datamodule import RecDataModule, Task
    from recsys.evaluation.evaluate import quick_metrics
    from recsys.training.fit import fit, seed_everything
    from recsys.training.ranking import RankingTask


@command("train", TrainConfig, continues="resume", repeats=True)
def main(config: TrainConfig, composed: dict[str, Any]) -> Path:
    """Trains a model, judges it on the test split beside the simplest baseline, and leaves a run."""
    config, composed, initial = open_initial(config, composed)
    kind: Task = "ranking" if config.task.target is RankingTask else "retrieval"
    seed_everything(config.seed)
    data = RecDataModule(config.data, task=kind, queries=config.evaluation.queries, seed=config.seed)
    task = config.task(model=config.model(schema=data.dataset.schema), optimizers=config.optimizer)
    if initial:
        initial.start(task.model, data.dataset)
    with run_folder(composed, run_dir=config.run_dir, resume=config.resume) as (run_dir, ending):
        started = initialised_from(run_dir, initial)
        result = fit(
            task,
            data,
            config.trainer,
            run_dir=run_dir,
            resume=config.resume is not None,
            hyperparameters=flattened(composed),
        )
        learned = dataclasses.asdict(result)
        if learned.pop("interrupted"):
            raise KeyboardInterrupt(f"continue with `python train.py resume={run_dir}`")
        figures = quick_metrics(
            task.model,
            data.dataset,
            config.evaluation,
            task=kind,
            history_length=config.data.history_length,
            negatives_per_positive=config.data.negatives_per_positive,
        )
        ending.source = data.dataset.manifest["fingerprint"]
        ending.extra = {"prepared": str(data.dataset.path.absolute()), "task": kind, **started}
        ending.metrics = {**learned, "test": figures["model"], "seed": config.seed}
    title = f"test split of {config.data.name} ({config.data.split})"
    print_figures(figures, title=title, k=config.evaluation.main_k)
    return run_dir


if __name__ == "__main__":
    main()
