"""Items that are in the catalogue without train positives are no negatives, unless asked for."""

import dataclasses
import logging

import pandas as pd
import pytest
import torch

from recsys.data.datamodule import RecDataModule
from recsys.data.options import SideTable
from recsys.data.prepare import prepare
from recsys.models.two_tower import TwoTower
from recsys.training.competitors import competitors
from recsys.training.fit import fit, seed_everything
from recsys.training.negatives import NegativeSampler
from recsys.training.optimizers import Optimizers
from recsys.training.options import TrainerOptions
from recsys.training.retrieval import RetrievalTask

TRAINER = TrainerOptions(max_epochs=1, progress_bar=False, log_every_n_steps=1, patience=None)
NUM_NEW = 10


@pytest.fixture(scope="module")
def with_new_items(options, tmp_path_factory):
    """The small dataset with ten films more that nobody has seen."""
    items = pd.read_csv(options.items.path)
    new = pd.DataFrame({"item_id": range(501, 501 + NUM_NEW), "genre": "drama"})
    path = tmp_path_factory.mktemp("raw") / "items.csv"
    pd.concat([items, new]).to_csv(path, index=False)
    changed = dataclasses.replace(options, items=SideTable(path=str(path)))
    prepare(changed)
    return changed


def movement(options, tmp_path, **keys) -> torch.Tensor:
    """How far training moves the id embedding of each row of the item table."""
    seed_everything(0)
    data = RecDataModule(options, seed=0)
    model = TwoTower(data.dataset.schema, embedding_dim=8, id_dropout=0.0, dropout=0.0)
    task = RetrievalTask(model, Optimizers(learning_rate=0.01, tables="sgd"), **keys)
    name = "tables.collection.embedding_bags.item_id.weight"
    before = model.state_dict()[name].clone()
    fit(task, data, TRAINER, run_dir=tmp_path / "run")
    after = torch.load(tmp_path / "run" / "checkpoints" / "last", weights_only=True)["state_dict"]
    rows = data.dataset.items.ids["item_id"].values()
    is_new = data.dataset.item_counts == 0
    is_new[0] = False
    assert int(is_new.sum()) >= NUM_NEW
    return (after[f"model.{name}"] - before).norm(dim=1)[rows[is_new]]


@pytest.mark.parametrize("loss", ["full_softmax", "sampled_softmax", "in_batch_softmax", "bpr"])
def test_new_items_are_no_negatives(loss, with_new_items, tmp_path):
    assert movement(with_new_items, tmp_path, loss=loss, num_negatives=64, new_items="left_out").max() == 0


@pytest.mark.parametrize("loss", ["full_softmax", "sampled_softmax"])
def test_new_items_are_negatives_where_asked_for(loss, with_new_items, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        moved = movement(with_new_items, tmp_path, loss=loss, num_negatives=256, new_items="negatives")
    assert moved.min() > 0
    assert "training pushes them down; `task.new_items=left_out` leaves them out" in caplog.text


def test_sampler_draws_each_item_with_positives_equally_often():
    counts = torch.tensor([1.0, 3.0, 0.0, 1.0, 2.0])
    drawn = NegativeSampler(counts, kind="uniform", number=30_000).draw(0)
    shares = torch.bincount(drawn, minlength=5) / 30_000
    assert torch.allclose(shares, torch.tensor([0, 1, 0, 1, 1]) / 3, atol=0.01)
    expected = NegativeSampler(counts, kind="uniform", number=6).log_expected_counts(
        batch_size=0, num_drawn=6
    )
    assert expected[1].exp() == 2.0  # 6 draws from 3 items
    assert expected[2] == -torch.inf


def test_competitors_are_the_catalogue_where_all_items_have_positives():
    counts = torch.tensor([0, 3, 1, 2])
    assert torch.equal(competitors(counts, "left_out").counts_I, torch.tensor([1.0, 3.0, 1.0, 2.0]))
    assert competitors(counts, "left_out").places(torch.tensor([1, 3])).tolist() == [0, 2]
    assert len(competitors(torch.tensor([0, 3, 0, 2]), "left_out")) == 2


def test_a_gate_ranks_new_items_by_their_content(with_new_items, tmp_path):
    seed_everything(0)
    data = RecDataModule(with_new_items, seed=0, events_read="content")
    dataset = data.dataset
    model = TwoTower(dataset.schema, embedding_dim=8, cold_start="gate", leave_out=["user_id"], hidden=[])
    task = RetrievalTask(model, Optimizers(learning_rate=0.02), loss="in_batch_softmax")
    fit(task, data, dataclasses.replace(TRAINER, max_epochs=8), run_dir=tmp_path / "run")
    is_new = dataset.item_counts == 0
    is_new[0] = False
    assert int((model.counts.counts > 0).sum()) == int((dataset.item_counts > 0).sum())
    queries = dataset.queries("test", history_length=50, events_read="content")
    model.eval()
    with torch.no_grad():
        vectors = model.encode_queries(queries.batch(torch.arange(len(queries))))
        scores = vectors @ model.encode_candidates(dataset.items).T
    likes_drama = torch.tensor([int(user) % 4 in (1, 2) for user in queries.user_ids])
    share = scores.argsort(dim=1, descending=True)[:, :15]
    new_shown = is_new[share].float().mean(dim=1)
    assert new_shown[likes_drama].mean() > 0.3
    assert new_shown[likes_drama].mean() > 3 * new_shown[~likes_drama].mean()
