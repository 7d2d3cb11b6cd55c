"""Several heads: what they lose, how good they are, and a run of them."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from recsys.data.datamodule import RecDataModule
from recsys.data.options import Auxiliary
from recsys.models.mmoe import MMoE
from recsys.models.wide_deep import WideDeep
from recsys.schema.labels import AuxiliaryLabel
from recsys.training.fit import fit, seed_everything
from recsys.training.heads import auxiliary_loss, auxiliary_metrics
from recsys.training.optimizers import Optimizers
from recsys.training.ranking import RankingTask
from tests.training.runs import TRAINER, checkpoint

LABELS = (AuxiliaryLabel("liked", "binary", "liked"), AuxiliaryLabel("dwell", "numeric", "seconds"))
NAN = math.nan


def test_loss_is_the_weighted_sum_of_the_means_over_known_labels():
    outputs = torch.tensor([[0.0, 1.0], [5.0, 2.0], [math.log(3), 9.0]])
    labels = torch.tensor([[1.0, 3.0], [NAN, 2.5], [1.0, NAN]])
    found = auxiliary_loss(outputs, labels, labels=LABELS, head_weights={"dwell": 0.5}, weights_B=None)
    liked = (math.log(2) + math.log(4 / 3)) / 2  # logits 0 and log 3: probabilities 1/2 and 3/4
    dwell = (0.5 * 2.0**2 + 0.5 * 0.5**2) / 2
    assert found.item() == pytest.approx(liked + 0.5 * dwell)


def test_examples_weigh_what_they_weigh_and_unknown_labels_have_no_gradient():
    outputs = torch.zeros(3, 2, requires_grad=True)
    labels = torch.tensor([[1.0, 2.0], [NAN, 4.0], [0.0, NAN]])
    weights = torch.tensor([1.0, 3.0, 0.0])
    loss = auxiliary_loss(outputs, labels, labels=LABELS, head_weights={"liked": 0.0}, weights_B=weights)
    assert loss.item() == pytest.approx((1 * 2.0 + 3 * 8.0) / 4)
    loss.backward()
    torch.testing.assert_close(outputs.grad, torch.tensor([[0.0, -2 / 4], [0.0, -3 * 4 / 4], [0.0, 0.0]]))


def test_a_batch_without_any_known_label_loses_nothing():
    labels = torch.full((2, 2), NAN)
    found = auxiliary_loss(torch.ones(2, 2), labels, labels=LABELS, head_weights={}, weights_B=None)
    assert found.item() == 0.0


def test_metrics_are_of_the_rows_whose_label_is_known():
    outputs = np.array([[0.0, 1.0], [2.0, 2.0], [1.0, 7.0], [-1.0, 0.0]], np.float32)
    labels = np.array([[0.0, 2.0], [1.0, 4.0], [NAN, NAN], [1.0, 0.0]], np.float32)
    found = auxiliary_metrics(outputs, labels, LABELS)
    sigmoid = [1 / (1 + math.exp(-x)) for x in (0.0, 2.0, -1.0)]
    assert found["dwell/rmse"] == pytest.approx(math.sqrt((1 + 4 + 0) / 3))
    assert found["liked/log_loss"] == pytest.approx(
        -(math.log(1 - sigmoid[0]) + math.log(sigmoid[1]) + math.log(sigmoid[2])) / 3
    )
    assert found["liked/auc"] == 0.5  # of the pairs (2 over 0) and (-1 over 0) one is right
    assert auxiliary_metrics(outputs[2:3], labels[2:3], LABELS) == {}


@pytest.fixture(scope="module")
def outcomes(options, tmp_path_factory):
    """The small dataset with two more things known of each event."""
    folder = tmp_path_factory.mktemp("outcomes")
    events = pd.read_parquet(options.interactions.path)
    random = np.random.default_rng(0)
    likes = events["rating"] >= 4
    events["shared"] = np.where(random.random(len(events)) < 0.2, np.nan, likes)
    events["seconds"] = np.exp(1 + 2 * likes + 0.1 * random.normal(size=len(events)))
    events.to_parquet(folder / "events.parquet")
    return dataclasses.replace(
        options,
        interactions=dataclasses.replace(options.interactions, path=str(folder / "events.parquet")),
        auxiliary_labels={
            "shared": Auxiliary("shared", positive_at_least=1),
            "dwell": Auxiliary("seconds", transform="log"),
        },
    )


def train(outcomes, run_dir, *, model=MMoE, **keys):
    seed_everything(0)
    data = RecDataModule(outcomes, task="ranking", seed=0)
    built = model(data.dataset.schema, embedding_dim=8)
    task = RankingTask(built, Optimizers(learning_rate=0.01), **keys)
    return fit(task, data, dataclasses.replace(TRAINER, max_epochs=5), run_dir=run_dir)


def test_every_head_learns_and_is_measured(outcomes, tmp_path):
    found = train(outcomes, tmp_path).validation
    assert set(found) == {
        *("log_loss", "auc", "gauc"),
        *("shared/log_loss", "shared/auc", "dwell/rmse"),
    }
    assert found["auc"] > 0.9
    assert found["shared/auc"] > 0.9
    assert found["dwell/rmse"] < 0.7  # of deviations; 1 is what the mean alone has
    assert "model.head.towers.2.layers.0.weight" in checkpoint(tmp_path)["state_dict"]


def test_a_weight_of_zero_leaves_a_head_unlearnt(outcomes, tmp_path):
    found = train(outcomes, tmp_path, head_weights={"dwell": 0.0}).validation
    assert found["shared/auc"] > 0.9
    assert found["dwell/rmse"] > 0.9


def test_a_model_of_one_task_passes_the_other_labels_over(outcomes, tmp_path):
    assert set(train(outcomes, tmp_path, model=WideDeep).validation) == {"log_loss", "auc", "gauc"}


def test_weights_of_heads_that_do_not_exist_are_refused(outcomes, tmp_path):
    with pytest.raises(ValueError, match=r"the model does not have: \['dwel'\]; it has: main, shared, dwell"):
        train(outcomes, tmp_path, head_weights={"dwel": 0.5})
    with pytest.raises(ValueError, match=r"must not be negative, got \{'dwell': -1.0\}"):
        train(outcomes, tmp_path, head_weights={"dwell": -1.0})
