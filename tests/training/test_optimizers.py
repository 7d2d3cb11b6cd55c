"""Who moves which parameter, and how fast."""

import copy
import dataclasses
import logging

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from recsys.models.wide_deep import WideDeep
from recsys.training import optimizers
from recsys.training.optimizers import Optimizers, parameter_groups
from recsys.training.tables import fused_collections, optimizer_of
from tests.training.runs import Case, run
from tests.worlds import SCHEMA, checkerboard, pairs

FUSED = ["adagrad", "rowwise_adagrad", "sgd"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return WideDeep(SCHEMA, embedding_dim=8, hidden=(16,), crosses=[["user_id", "item_id"]])


@pytest.mark.parametrize("tables", ["adamw", *FUSED])
def test_each_parameter_is_owned_exactly_once(model, tables):
    Optimizers(tables=tables).fuse(model)
    owned = [parameter for group in parameter_groups(model).values() for parameter in group]
    assert sorted(map(id, owned)) == sorted(map(id, model.parameters()))
    dense = Optimizers(tables=tables).dense(model)
    stepped = {id(parameter) for group in dense.param_groups for parameter in group["params"]}
    fused = {
        id(parameter)
        for collection in fused_collections(model).values()
        for parameter in collection.parameters()
    }
    assert stepped | fused == {id(parameter) for parameter in model.parameters()}
    assert not stepped & fused
    assert bool(fused) == (tables != "adamw")


@pytest.mark.parametrize("tables", FUSED)
def test_fusing_keeps_weights_names_and_answers(model, tables):
    rows = torch.arange(1, 9)
    batch = pairs(checkerboard(), rows, rows)
    model.eval()
    before, answers = {k: v.clone() for k, v in model.state_dict().items()}, model(batch)
    Optimizers(tables=tables).fuse(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    torch.testing.assert_close(model(batch), answers)


def test_fused_sgd_moves_only_the_rows_of_the_batch_by_the_gradient(model):
    rows = torch.tensor([3])
    batch = pairs(checkerboard(), rows, rows)
    model.eval()
    weight = model.tables.collection.embedding_bags["user_id"].weight
    model(batch).sum().backward()
    expected = weight.detach() - 0.5 * weight.grad
    Optimizers(tables="sgd", table_learning_rate=0.5).fuse(model)
    model(batch).sum().backward()
    moved = model.state_dict()["tables.collection.embedding_bags.user_id.weight"]
    torch.testing.assert_close(moved, expected)
    assert not torch.equal(moved[3], weight[3])
    assert torch.equal(moved[4:], weight[4:])


def test_weight_decay_spares_vectors_and_is_its_own_on_tables(model):
    groups = Optimizers(weight_decay=0.1, table_weight_decay=0.3).dense(model).param_groups
    by_decay = {group["weight_decay"]: group["params"] for group in groups}
    assert all(parameter.ndim == 1 for parameter in by_decay[0.0])
    assert {id(p) for p in by_decay[0.3]} == {
        id(p) for n, p in model.named_parameters() if "embedding_bags" in n
    }


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 0.5, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.25, 0.5, 1.0, 0.75, 0.5, 0.0]),
        ("cosine", [0.25, 0.5, 1.0, 0.5 + 0.5 * 2**-0.5, 0.5, 0.0]),
    ],
)
def test_schedule_rises_then_falls(schedule, expected):
    chosen = Optimizers(schedule=schedule, warmup_steps=4)
    factors = [chosen.factor(step, 12) for step in (0, 1, 4, 6, 8, 12)]
    assert factors == pytest.approx(expected)


def test_table_whose_optimizer_was_forgotten_or_given_twice_is_our_mistake(model):
    with pytest.raises(AssertionError, match="a table that should be fused is not"):
        Optimizers(tables="sgd").dense(model)
    Optimizers(tables="sgd").fuse(model)
    with pytest.raises(AssertionError, match="a table that should not be fused is"):
        Optimizers(tables="adamw").dense(model)


def test_weight_decay_that_fused_tables_do_not_have_is_no_secret(model, caplog):
    chosen = Optimizers(tables="sgd", table_weight_decay=0.1)
    with caplog.at_level(logging.WARNING):
        chosen.fuse(model)
    assert "`optimizer.table_weight_decay` is not applied: tables moved by sgd have none" in caplog.text


class Rates(pl.Callback):
    """The learning rates with which each step moves the dense parameters and the fused tables."""

    def __init__(self) -> None:
        super().__init__()
        self.dense: list[float] = []
        self.tables: list[float] = []

    def on_after_backward(self, trainer, pl_module) -> None:
        """By now the tables have been moved, and the dense parameters are about to be."""
        [optimizer] = trainer.optimizers
        collections = fused_collections(pl_module.model).values()
        fused = [one for collection in collections for _, one in optimizer_of(collection).optimizers]
        [dense] = {group["lr"] for group in optimizer.param_groups}
        [tables] = {one._emb_module.get_learning_rate() for one in fused}
        self.dense.append(dense)
        self.tables.append(tables)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("name", ["wide_deep", "two_tower"])
def test_schedule_drives_fused_tables_and_dense_parameters_alike(options, tmp_path, name, schedule):
    case = Case(model=name, schedule=schedule, trainer=dataclasses.replace(Case().trainer, max_epochs=2))
    rates = Rates()
    num_steps = len(run(case, options, tmp_path, watchers=[rates]))
    after = np.arange(num_steps - 3) / (num_steps - 3)
    falling = {"constant": 1 + 0 * after, "linear": 1 - after, "cosine": (1 + np.cos(np.pi * after)) / 2}
    expected = np.concatenate([[1 / 3, 2 / 3, 1], falling[schedule]])
    np.testing.assert_allclose(rates.dense, 0.002 * expected, rtol=1e-6)
    np.testing.assert_allclose(rates.tables, 0.02 * expected, rtol=1e-6)


def test_many_numbers_are_moved_in_one_pass_to_where_they_go_one_by_one(model, monkeypatch):
    models = {size: copy.deepcopy(model) for size in (10**9, 0)}
    for size, one in models.items():
        monkeypatch.setattr(optimizers, "_IN_ONE_PASS", size)
        optimizer = Optimizers(learning_rate=0.1, weight_decay=0.1).dense(one)
        assert optimizer.defaults["fused"] is (None if size else True)
        for number in range(1, 4):
            for parameter in one.parameters():
                parameter.grad = torch.full_like(parameter, 0.5**number)
            optimizer.step()
    for slow, quick in zip(*(one.parameters() for one in models.values()), strict=True):
        torch.testing.assert_close(slow, quick)
