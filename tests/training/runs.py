"""Short trainings that tests start here or in processes of their own."""

import dataclasses
import os
import pickle
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch

from recsys.data.datamodule import RecDataModule, open_dataset
from recsys.data.options import DataOptions
from recsys.models.deep_fm import DeepFM
from recsys.models.final_mlp import FinalMLP
from recsys.models.matrix_factorization import MatrixFactorization
from recsys.models.protocols import events_read
from recsys.models.sequence_two_tower import SequenceTwoTower
from recsys.models.two_tower import TwoTower
from recsys.models.wide_deep import WideDeep
from recsys.nn.embeddings import deferred_tables
from recsys.runs.launch import ALONE, Processes
from recsys.schema.batch import Batch
from recsys.training.fit import fit, seed_everything
from recsys.training.optimizers import Optimizers
from recsys.training.options import TrainerOptions
from recsys.training.ranking import RankingTask
from recsys.training.retrieval import RetrievalTask

RANKING = {"wide_deep": WideDeep, "deep_fm": DeepFM, "final_mlp": partial(FinalMLP, normalisation="batch")}
MODELS = {
    **RANKING,
    "two_tower": TwoTower,
    "sequence_two_tower": SequenceTwoTower,
    "matrix_factorization": MatrixFactorization,
}


TRAINER = TrainerOptions(max_epochs=3, progress_bar=False, log_every_n_steps=1, patience=None)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is trained and how."""

    model: str = "two_tower"
    tables: str = "rowwise_adagrad"
    schedule: str = "cosine"
    loss: str = "full_softmax"
    dropout: float = 0.0
    trainer: TrainerOptions = TRAINER
    seed: int = 0
    kill_at: int | None = None  # SIGKILL at this training batch, from 0
    kill_rank: int = 0


class Losses(pl.Callback):
    """Keeps every step's loss, over all processes, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.values.append(float(trainer.strategy.reduce(outputs["loss"].detach().double())))


class AtStep(pl.Callback):
    """Acts before training batch `step`, from 0, on the task and the batch."""

    def __init__(self, step: int, act: Callable[[pl.LightningModule, Batch], None]) -> None:
        super().__init__()
        self.step = step
        self.act = act

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.step:
            self.act(pl_module, batch)


def run(
    case: Case,
    options: DataOptions,
    run_dir: Path,
    *,
    resume: bool = False,
    processes: Processes = ALONE,
    watchers: Sequence[pl.Callback] = (),
) -> list[float]:
    """Trains and returns the loss of every step."""
    seed_everything(case.seed)
    kind = "ranking" if case.model in RANKING else "retrieval"
    dataset = open_dataset(options, task=kind)
    optimizers = Optimizers(
        tables=case.tables,
        learning_rate=0.002,
        table_learning_rate=0.02,
        schedule=case.schedule,
        warmup_steps=3,
    )
    keys = {"dropout": case.dropout, "id_dropout": case.dropout}
    if case.model == "sequence_two_tower":
        keys["time_dropout"] = case.dropout
    with deferred_tables(optimizers.is_fused):
        model = MODELS[case.model](dataset.schema, embedding_dim=8, **keys)
    task = (
        RankingTask(model, optimizers)
        if kind == "ranking"
        else RetrievalTask(model, optimizers, loss=case.loss, num_negatives=16)
    )
    if case.kill_at is not None and processes.rank == case.kill_rank:
        _kill_at(task, case.kill_at)
    losses = Losses()
    data = RecDataModule(
        options,
        dataset=dataset,
        events_read=events_read(model),
        task=kind,
        seed=case.seed,
        rank=processes.rank,
        num_ranks=processes.num_ranks,
    )
    fit(
        task,
        data,
        case.trainer,
        run_dir=run_dir,
        resume=resume,
        processes=processes,
        watchers=[losses, *watchers],
    )
    return losses.values


def _kill_at(task: pl.LightningModule, batch: int) -> None:
    original = task.backward

    def backward(*arguments, **keywords) -> None:
        if task.trainer.fit_loop.epoch_loop.total_batch_idx == batch:
            os.kill(os.getpid(), signal.SIGKILL)
        original(*arguments, **keywords)

    task.backward = backward


def checkpoint(run_dir: Path, name: str = "last") -> dict:
    """Everything that a checkpoint holds."""
    return torch.load(run_dir / "checkpoints" / name, weights_only=True)


def differences(first, second, path: str = "") -> list[str]:
    """Where two checkpoints are not the same, bit for bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [path]
    if isinstance(first, dict) and isinstance(second, dict):
        if list(first) != list(second):
            return [f"{path}: {list(first)} and {list(second)}"]
        return [d for key in first for d in differences(first[key], second[key], f"{path}/{key}")]
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        if len(first) != len(second):
            return [f"{path}: {len(first)} and {len(second)} elements"]
        pairs = enumerate(zip(first, second, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}/{i}")]
    return [] if first == second else [f"{path}: {first!r} and {second!r}"]


if __name__ == "__main__":
    import sys

    from recsys.training.processes import joined

    jobs = pickle.loads(Path(sys.argv[1]).read_bytes())
    with joined("sharded", "cpu") as processes:
        found = [
            run(case, options, run_dir, resume=resume, processes=processes)
            for case, options, run_dir, resume in jobs
        ]
        if processes.is_main:
            Path(sys.argv[2]).write_bytes(pickle.dumps(found))
