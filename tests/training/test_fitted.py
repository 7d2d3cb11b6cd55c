"""Models that are computed from all positives, through the same loop as every other."""

import dataclasses

import numpy as np
import pytest
import torch

from recsys.data.datamodule import RecDataModule
from recsys.models.ease import EASE
from recsys.models.ease_factorization import EaseFactorization
from recsys.models.ials import IALS
from recsys.models.item_knn import ItemKNN
from recsys.models.popularity import MostPopular
from recsys.models.two_tower import TwoTower
from recsys.models.validated_settings import next_settings
from recsys.training.fit import best_model, fit
from recsys.training.fitted import FittedTask, positives_of
from recsys.training.optimizers import Optimizers
from recsys.training.options import TrainerOptions
from tests.training.runs import checkpoint, differences

TRAINER = TrainerOptions(
    max_epochs=20, progress_bar=False, log_every_n_steps=1, patience=None, limit_train_batches=1
)
MODELS = {
    "ease": lambda schema: EASE(schema, embedding_dim=40, l2=[1.0, 10.0, 1e6]),
    "item_knn": lambda schema: ItemKNN(schema, embedding_dim=40, num_neighbours=[1, 10], shrinkage=1.0),
    "ials": lambda schema: IALS(schema, embedding_dim=8, num_rounds=4),
    "popularity": MostPopular,
}
SEARCHED = {
    "unobserved_weight": [0.3, 0.1],
    "penalty": [50.0, 1.0],  # the first shrinks all vectors away
    "ease_weight": [0.0, 0.5, 1.0],
    "ease_l2": [10.0],
}
BUILDERS = {
    **MODELS,
    "ease_factorization": lambda schema: EaseFactorization(schema, embedding_dim=8, ease_dim=40, **SEARCHED),
}


def train(name, options, run_dir, *, max_epochs=20, resume=False):
    data = RecDataModule(dataclasses.replace(options, history_length=1000), seed=0)
    task = FittedTask(BUILDERS[name](data.dataset.schema), Optimizers())
    trainer = dataclasses.replace(TRAINER, max_epochs=max_epochs)
    result = fit(task, data, trainer, run_dir=run_dir, resume=resume)
    return result, best_model(task, run_dir, build=lambda: BUILDERS[name](data.dataset.schema)), data


@pytest.mark.parametrize("name", MODELS)
def test_every_fit_is_an_epoch_and_the_best_on_validation_is_kept(options, tmp_path, name):
    result, model, data = train(name, options, tmp_path)
    last = checkpoint(tmp_path)
    assert last["epoch"] == model.num_fits - 1
    again = MODELS[name](data.dataset.schema)
    for number in range(result.best_epoch + 1):
        again.fit(_positives(data), number)
    for key, value in again.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value)


def _positives(data):
    return positives_of(data.dataset)


@pytest.mark.parametrize("name", ["ease", "ials", "ease_factorization"])
def test_resumed_training_equals_one_that_was_not_stopped(options, tmp_path, name):
    train(name, options, tmp_path / "whole")
    train(name, options, tmp_path / "halves", max_epochs=2)
    train(name, options, tmp_path / "halves", resume=True)
    for kept in ("best", "last"):
        found = differences(checkpoint(tmp_path / "whole", kept), checkpoint(tmp_path / "halves", kept))
        assert [one for one in found if one.startswith("/state_dict")] == []


def test_checkpoint_of_an_earlier_release_is_taken_up(options):
    data = RecDataModule(options, seed=0)
    task = FittedTask(BUILDERS["ease"](data.dataset.schema), Optimizers())
    kept = {}
    task.on_save_checkpoint(kept)
    del kept["qualities"]
    task.on_load_checkpoint(kept)
    task.on_save_checkpoint(kept)
    assert kept["qualities"] == []


def test_search_keeps_the_best_settings_of_those_that_validation_led_to(options, tmp_path):
    result, model, data = train("ease_factorization", options, tmp_path)
    last = checkpoint(tmp_path)
    qualities = last["qualities"]
    assert len(qualities) == model.num_fits == 5
    assert result.best_epoch == int(np.argmax(qualities))
    settings = next_settings(list(SEARCHED.values()), qualities[: result.best_epoch])
    assert settings[1] == 1.0
    alone = {key: [value] for key, value in zip(SEARCHED, settings, strict=True)}
    again = EaseFactorization(data.dataset.schema, embedding_dim=8, ease_dim=40, **alone)
    again.fit(_positives(data), 0)
    for key, value in again.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value)


def test_lists_are_those_of_the_matrix_of_items_by_items(options, tmp_path):
    """EASE as vectors against Steck's closed form, for every validation query."""
    result, model, data = train("ease", options, tmp_path)
    positives = _positives(data)
    liked = np.zeros((61, 41))
    liked[positives.user_rows, positives.item_rows] = 1
    inverse = np.linalg.inv(liked.T @ liked + model.l2[result.best_epoch] * np.eye(41))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    queries = data.dataset.queries("validation", history_length=1000)
    batch = queries.batch(torch.arange(len(queries)))
    candidates = model.encode_candidates(data.dataset.items)
    scores = (model.encode_queries(batch) @ candidates.T).detach().numpy()
    for query, history in enumerate(torch.split(batch.seen.values, batch.seen.lengths.tolist())):
        unseen = np.setdiff1d(np.arange(1, 41), history.numpy())
        expected = weights[history.numpy()].sum(axis=0)[unseen]
        np.testing.assert_allclose(scores[query, unseen] * len(history), expected, atol=1e-4)


def test_model_that_gradients_train_is_refused(options):
    schema = RecDataModule(options).dataset.schema
    with pytest.raises(ValueError, match=r"needs a model with a method `fit`, got TwoTower; .*RetrievalTask"):
        FittedTask(TwoTower(schema, embedding_dim=4), Optimizers())
