"""Training as a whole: what it leaves behind, and that stopping it changes nothing."""

import dataclasses
import logging
import os
import re
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recsys.data.datamodule import RecDataModule
from recsys.losses.full_softmax import FullSoftmax
from recsys.models.matrix_factorization import MatrixFactorization
from recsys.models.sequence_two_tower import SequenceTwoTower
from recsys.models.two_tower import TwoTower
from recsys.models.wide_deep import WideDeep
from recsys.training.fit import fit, seed_everything, show_items
from recsys.training.negatives import NegativeSampler
from recsys.training.optimizers import Optimizers
from recsys.training.options import TrainerOptions
from recsys.training.ranking import RankingTask
from recsys.training.retrieval import RetrievalTask
from tests.training.runs import checkpoint

TRAINER = TrainerOptions(max_epochs=3, progress_bar=False, log_every_n_steps=1, patience=None)
OPTIMIZERS = Optimizers(learning_rate=0.01, schedule="cosine", warmup_steps=3)


def start(options, *, task="retrieval", optimizers=OPTIMIZERS, seed=0, **keys):
    seed_everything(seed)
    sequences = task == "sequences"
    if sequences:
        task = "retrieval"
        options = dataclasses.replace(options, batch_size=8)
    data = RecDataModule(options, task=task, events_read="positives" if sequences else None, seed=0)
    schema = data.dataset.schema
    if task == "ranking":
        return RankingTask(WideDeep(schema, embedding_dim=8, id_dropout=0.1), optimizers), data
    if sequences:
        return RetrievalTask(SequenceTwoTower(schema, embedding_dim=8), optimizers, **keys), data
    return RetrievalTask(TwoTower(schema, embedding_dim=8, id_dropout=0.1), optimizers, **keys), data


def weights(run_dir, name="last"):
    return torch.load(run_dir / "checkpoints" / name, weights_only=True)["state_dict"]


def same(first, second) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def interrupt_at(task, step):
    """Ctrl-C while `step` (from 1) is being computed."""
    original, count = task.training_step, iter(range(1, 10_000))

    def training_step(batch, batch_idx):
        if next(count) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(batch, batch_idx)

    task.training_step = training_step


@pytest.mark.parametrize("tables", ["adamw", "rowwise_adagrad"])
@pytest.mark.parametrize("task", ["retrieval", "sequences", "ranking"])
def test_interrupted_and_resumed_equals_uninterrupted(options, tmp_path, task, tables):
    optimizers = dataclasses.replace(OPTIMIZERS, tables=tables)
    whole, data = start(options, task=task, optimizers=optimizers)
    expected = fit(whole, data, TRAINER, run_dir=tmp_path / "whole")

    broken, data = start(options, task=task, optimizers=optimizers)
    steps_an_epoch = len(data.train_dataloader())
    interrupt_at(broken, steps_an_epoch + 3)
    assert fit(broken, data, TRAINER, run_dir=tmp_path / "broken").interrupted
    assert not same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))

    resumed, data = start(options, task=task, optimizers=optimizers, seed=99)
    result = fit(resumed, data, TRAINER, run_dir=tmp_path / "broken", resume=True)
    assert not result.interrupted
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    assert result.validation == expected.validation
    assert result.best_epoch == expected.best_epoch


def test_rate_of_an_epoch_resumed_in_its_middle_counts_what_this_process_did(options, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    broken, data = start(options)
    steps_an_epoch = len(data.train_dataloader())
    interrupt_at(broken, steps_an_epoch - 2)
    fit(broken, data, TRAINER, run_dir=tmp_path)
    resumed, data = start(options)
    began = time.perf_counter()
    fit(resumed, data, dataclasses.replace(TRAINER, max_epochs=1), run_dir=tmp_path, resume=True)
    elapsed = time.perf_counter() - began
    [rate] = re.findall(r"epoch 0: .* ([\d,]+) examples/s", caplog.text)
    assert data.options.batch_size / float(rate.replace(",", "")) < elapsed


def test_same_seed_gives_the_same_weights_and_another_seed_others(options, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        task, data = start(options, seed=seed)
        fit(task, data, TRAINER, run_dir=tmp_path / name)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize(
    ("task", "metric", "chance"),
    [("retrieval", "ndcg@10", 0.2), ("sequences", "ndcg@10", 0.2), ("ranking", "auc", 0.5)],
)
def test_training_learns(options, tmp_path, task, metric, chance):
    trainer = dataclasses.replace(TRAINER, max_epochs=20)
    task, data = start(options, task=task)
    result = fit(task, data, trainer, run_dir=tmp_path)
    assert result.validation[metric] > chance + 0.15
    assert result.examples_per_second > 0


@pytest.mark.parametrize("task", ["retrieval", pytest.param("sequences", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "loss", ["sampled_softmax", "in_batch_softmax", "bpr", pytest.param("gbce", marks=pytest.mark.slow)]
)
def test_sampled_losses_learn(options, tmp_path, task, loss):
    task, data = start(options, task=task, loss=loss, num_negatives=16)
    # The mean over pairs of gBCE says little about which items are whose for a long time.
    epochs = 120 if loss == "gbce" else 25
    trainer = dataclasses.replace(TRAINER, max_epochs=epochs, validate_every_epochs=5)
    result = fit(task, data, trainer, run_dir=tmp_path)
    assert result.validation["ndcg@10"] > 0.35


@pytest.mark.parametrize("task", ["retrieval", "sequences"])
@pytest.mark.parametrize("negatives", ["uniform", "popularity", "mixed"])
def test_sampled_softmax_estimates_the_full_softmax(options, task, negatives):
    task, data = start(options, task=task, loss="sampled_softmax", num_negatives=4000, negatives=negatives)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=0))
    task.trainer = SimpleNamespace(datamodule=data, fit_loop=loop)
    task.setup("fit")
    batch = next(iter(data.train_dataloader()))
    queries = task.model.eval().encode_queries(batch)
    with torch.no_grad():
        sampled = task._loss_of(queries, batch)
        task._objective = FullSoftmax()
        task.on_fit_start()
        full = task._loss_of(queries, batch)
    assert sampled.item() == pytest.approx(full.item(), abs=0.05)


@pytest.mark.parametrize("negatives", ["uniform", "popularity", "mixed"])
def test_negatives_are_drawn_as_often_as_is_corrected_for(options, negatives):
    item_counts_I = RecDataModule(options, task="retrieval").dataset.item_counts.clamp(min=1).float()
    sampler = NegativeSampler(item_counts_I, kind=negatives, number=200_000)
    counts = torch.bincount(sampler.draw(0), minlength=len(item_counts_I))[1:].float()
    expected = sampler.log_expected_counts(batch_size=0, num_drawn=200_000).exp()[1:]
    assert counts.sum() == expected.sum().round() == 200_000
    assert (counts - expected).abs().max() < 5 * expected.max().sqrt()
    assert (expected.max() / expected.min() > 1.05) == (negatives != "uniform")


def test_smoothing_without_the_full_softmax_is_refused(options, tmp_path):
    task, data = start(options, loss="sampled_softmax", label_smoothing=0.1)
    with pytest.raises(
        ValueError, match=r"`task.label_smoothing=0.1` .* needs `task.loss=full_softmax`, got"
    ):
        fit(task, data, TRAINER, run_dir=tmp_path)


def test_bpr_compares_each_positive_with_the_drawn_items_but_itself(options):
    task, data = start(options, loss="bpr", num_negatives=64)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=0))
    task.trainer = SimpleNamespace(datamodule=data, fit_loop=loop)
    task.setup("fit")
    batch = next(iter(data.train_dataloader()))
    queries = task.model.eval().encode_queries(batch)
    drawn = task._sampler.draw(task.negatives_seed * 1_000_003)
    assert set(batch.item_rows.tolist()) & set(drawn.tolist())
    with torch.no_grad():
        found = task._loss_of(queries, batch)
        scores = queries @ task.model.encode_candidates(data.dataset.items).T
    losses = [
        np.mean([np.log1p(np.exp(row[other] - row[item])) for other in drawn.tolist() if other != item])
        for row, item in zip(scores.double().numpy(), batch.item_rows.tolist(), strict=True)
    ]
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_best_checkpoint_is_the_one_with_the_best_metric(options, tmp_path):
    task, data = start(options)
    result = fit(task, data, dataclasses.replace(TRAINER, max_epochs=6), run_dir=tmp_path)
    best = torch.load(tmp_path / "checkpoints" / "best", weights_only=True)
    assert best["epoch"] == result.best_epoch
    assert same(
        best["state_dict"], {f"model.{name}": value for name, value in task.model.state_dict().items()}
    )


def test_early_stopping_waits_for_its_patience(options, tmp_path):
    optimizers = Optimizers(learning_rate=0.0)
    task, data = start(options, optimizers=optimizers)
    result = fit(task, data, dataclasses.replace(TRAINER, max_epochs=50, patience=2), run_dir=tmp_path)
    assert result.best_epoch == 0
    assert torch.load(tmp_path / "checkpoints" / "last", weights_only=True)["epoch"] == 2


def test_tensorboard_holds_losses_rates_metrics_and_labelled_items(options, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    task, data = start(options)
    fit(task, data, TRAINER, run_dir=tmp_path, hyperparameters={"model.embedding_dim": 8})
    show_items(task.model, data, run_dir=tmp_path, num_items=5000)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss_step", "val/ndcg@10", "train/examples_per_second"} <= scalars
    assert any(tag.startswith("lr-AdamW") for tag in scalars)
    labels = list((tmp_path / "tensorboard").rglob("metadata.tsv"))
    assert len(labels) == 1
    assert len(labels[0].read_text().splitlines()) == data.dataset.num_items - 1


def test_unknown_monitor_names_the_metrics_there_are(options, tmp_path):
    task, data = start(options)
    trainer = dataclasses.replace(TRAINER, monitor="val/ndgc@10")
    with pytest.raises(ValueError, match=r"`val/ndgc@10`; there are: val/hit_rate@10"):
        fit(task, data, trainer, run_dir=tmp_path)


@pytest.mark.parametrize(
    "keys",
    [
        {"limit_val_batches": 0},
        {"max_steps": 2},
        {"validate_every_epochs": 5},
        {"max_steps": 2, "patience": 3},
        {"validate_every_epochs": 5, "patience": 3},
    ],
    ids=str,
)
def test_end_of_training_is_the_best_where_nothing_was_validated(options, tmp_path, caplog, keys):
    task, data = start(options)
    trainer = dataclasses.replace(TRAINER, **keys)
    with caplog.at_level(logging.WARNING):
        result = fit(task, data, trainer, run_dir=tmp_path)
    assert "no epoch was validated: `best` is the end of training" in caplog.text
    assert same(weights(tmp_path, "best"), weights(tmp_path, "last"))
    assert result.best_epoch == checkpoint(tmp_path, "last")["epoch"]
    assert result.validation == {}


def test_nothing_to_watch_is_refused(options, tmp_path):
    task, data = start(options)
    trainer = dataclasses.replace(TRAINER, limit_val_batches=0, patience=3)
    with pytest.raises(
        ValueError, match=r"limit_val_batches=0` leaves nothing to watch; add `trainer.patience"
    ):
        fit(task, data, trainer, run_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_precision_of_gpus_is_refused_on_a_cpu(options, tmp_path):
    task, data = start(options)
    trainer = dataclasses.replace(TRAINER, precision="16-mixed")
    with pytest.raises(ValueError, match=r"`trainer.precision=16-mixed` needs a GPU; on a CPU `auto`, `bf16"):
        fit(task, data, trainer, run_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(False, False, torch.float32), (True, False, torch.bfloat16), (False, True, torch.bfloat16)],
)
def test_auto_precision_is_bfloat16_where_the_processor_multiplies_it(
    options, tmp_path, monkeypatch, avx512, amx, expected
):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    task, data = start(options, task="ranking")
    found = set()
    task.model.head.deep.layers[0].register_forward_hook(lambda _, inputs, output: found.add(output.dtype))
    trainer = dataclasses.replace(TRAINER, precision="auto", max_epochs=1, limit_train_batches=2)
    fit(task, data, trainer, run_dir=tmp_path)
    assert found == {expected}
    assert all(weight.dtype == torch.float32 for weight in weights(tmp_path).values())


def test_matrix_factorization_trains_on_fused_tables_alone(options, tmp_path, caplog):
    seed_everything(0)
    data = RecDataModule(options, seed=0)
    model = MatrixFactorization(data.dataset.schema, embedding_dim=8)
    task = RetrievalTask(model, Optimizers(tables="rowwise_adagrad", table_learning_rate=0.1))
    with caplog.at_level(logging.WARNING):
        result = fit(task, data, dataclasses.replace(TRAINER, max_epochs=8), run_dir=tmp_path)
    assert result.validation["ndcg@10"] > 0.35
