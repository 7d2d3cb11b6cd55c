import pytest
import torch

from recsys.models.wide_deep import WideDeep
from recsys.training.optimizers import Optimizers, fused_collections, parameter_groups
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
