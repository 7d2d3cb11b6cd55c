"""The loss of a ranking task."""

import pytest
import torch

from recsys.losses.pointwise import binary_cross_entropy
from recsys.models.deep_fm import DeepFM
from recsys.models.protocols import embed
from recsys.nn.linear_terms import LINEAR_DIM
from recsys.training.optimizers import Optimizers
from recsys.training.ranking import RankingTask
from tests.worlds import SCHEMA, checkerboard, pairs


@pytest.fixture
def batch():
    rows = torch.arange(1, 9)
    return pairs(checkerboard(), rows, rows.flip(0))


def loss_of(batch, **keys) -> torch.Tensor:
    torch.manual_seed(0)
    model = DeepFM(SCHEMA, embedding_dim=8, init_std=0.5, dropout=0.0, id_dropout=0.0)
    for table in model.linear.collection.embedding_bags.values():
        table.weight.data = torch.linspace(-1, 1, len(table.weight))[:, None].repeat(1, LINEAR_DIM)
    return RankingTask(model, Optimizers(), **keys).training_step(batch, 0), model


def test_penalty_is_the_mean_squared_length_of_what_an_example_looks_up(batch):
    plain, model = loss_of(batch)
    expected = binary_cross_entropy(model(batch), batch.labels)
    torch.testing.assert_close(plain, expected)
    # Four equal numbers stand for one weight of the linear terms, and count as one.
    weights = {f"linear_{f.name}" for f in SCHEMA.sparse()}
    squares = [
        (vectors.mean(dim=1) if name in weights else vectors).square().sum().item()
        for name, vectors in embed(model, batch).items()
    ]
    assert len(squares) == 2 * len(weights)
    penalised, _ = loss_of(batch, embedding_penalty=0.01)
    torch.testing.assert_close(penalised.item(), expected.item() + 0.01 * sum(squares) / len(batch))


def test_penalty_moves_the_rows_that_were_looked_up_and_no_others(batch):
    gradients = []
    for penalty in (0.0, 0.1):
        loss, model = loss_of(batch, embedding_penalty=penalty)
        loss.backward()
        gradients.append(model.tables.collection.embedding_bags["user_id"].weight.grad)
    difference = (gradients[1] - gradients[0]).abs().sum(dim=1)
    assert (difference > 0).tolist() == [1 <= row <= 8 for row in range(len(difference))]


def test_negative_penalty_is_refused(batch):
    with pytest.raises(ValueError, match=r"`task.embedding_penalty` must not be negative, got -0.1"):
        loss_of(batch, embedding_penalty=-0.1)
