"""`data.label.weights` in the loss, against hand arithmetic over the rows of the raw table."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from recsys.data.datamodule import RecDataModule
from recsys.data.options import DataOptions, InteractionsTable, Label, StatisticOptions
from recsys.models.deep_fm import DeepFM
from recsys.models.two_tower import TwoTower
from recsys.schema.errors import InputError
from recsys.training.optimizers import Optimizers
from recsys.training.ranking import RankingTask
from recsys.training.retrieval import RetrievalTask
from tests.data.preparing import column, options_for

WORTH = {"view": 1, "cart": 3, "purchase": 10}
WORDS = list(WORTH)
ROWS = [
    (f"u{user}", f"i{(user * 5 + place * 3) % 11}", 1_700_000_000 + 97 * (7 * place + user), word)
    for user in range(8)
    for place in range(9)
    for word in [WORDS[(user + place * place) % 3]]
]
TABLE = dict(
    zip(("user_id", "item_id", "timestamp", "event"), map(list, zip(*ROWS, strict=True)), strict=True)
)
WEIGHTED = Label("event", weights=WORTH)
SPLIT = {"split": "global_time", "split_fractions": (0.8, 0.1, 0.1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of the raw table, and of what was prepared of it."""
    folder = tmp_path_factory.mktemp("weights")
    options_for(folder, TABLE)
    return folder


def module_of(folder, label, *, task="retrieval", events_read=None, rank=0, num_ranks=1, **changes):
    keys = {"batch_size": 16, "eval_batch_size": 16, "history_length": 4, "negatives_per_positive": 0}
    table = InteractionsTable(path=str(folder / "events.parquet"), features={})
    options = DataOptions(interactions=table, cache_dir=str(folder / "cache"), label=label)
    options = dataclasses.replace(options, **SPLIT, **(keys | changes))
    return RecDataModule(options, task=task, events_read=events_read, rank=rank, num_ranks=num_ranks)


def batches_of(folder, label, **changes):
    """The batches of one epoch."""
    return list(module_of(folder, label, **changes).train_dataloader())


def retrieval_task(module, loss):
    """A task that can be asked for its loss without a training."""
    torch.manual_seed(0)
    model = TwoTower(module.dataset.schema, embedding_dim=4)
    task = RetrievalTask(model, Optimizers(), loss=loss, num_negatives=8)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=0))
    task._trainer = SimpleNamespace(datamodule=module, fit_loop=loop)
    task.setup("validate")
    task.on_fit_start()
    return task.eval()


@pytest.mark.parametrize("task", ["retrieval", "ranking"])
def test_each_positive_weighs_what_its_word_is_worth(folder, task):
    module = module_of(folder, WEIGHTED, task=task)
    weights = torch.cat([batch.weights for batch in module.train_dataloader()])
    station = module.dataset.path
    assert sorted(weights.tolist()) == sorted(column(station, "train", "label"))
    assert set(weights.tolist()) == {1.0, 3.0, 10.0}
    assert all(batch.weights is None for batch in module.loader("validation", shuffle=False))


def test_rows_that_are_no_positives_weigh_one(folder):
    worth = {"view": 0, "cart": 3, "purchase": 10}
    for batch in batches_of(folder, Label("event", weights=worth), task="ranking"):
        assert torch.equal(batch.weights == 1, batch.labels == 0)


def test_drawn_negatives_weigh_as_their_positive(folder):
    for batch in batches_of(folder, WEIGHTED, task="ranking", negatives_per_positive=2):
        groups = batch.weights.view(-1, 3)
        assert torch.equal(groups[:, :1].expand(-1, 3), groups)
        assert torch.equal(batch.labels.view(-1, 3)[0], torch.tensor([1.0, 0.0, 0.0]))


def test_windows_of_histories_weigh_their_targets(folder):
    module = module_of(folder, WEIGHTED, events_read="all")
    weights = torch.cat([batch.weights for batch in module.train_dataloader()])
    assert sorted(weights.tolist()) == sorted(column(module.dataset.path, "train", "label"))


@pytest.mark.parametrize("events_read", [None, "all"])
def test_unweighted_batches_have_no_weights(folder, events_read):
    plain = Label("event", positives=("view", "cart", "purchase"))
    assert all(batch.weights is None for batch in batches_of(folder, plain, events_read=events_read))


@pytest.mark.parametrize("events_read", [None, "all"])
def test_ranks_weigh_their_parts_together_as_one_process_does(folder, events_read):
    """Mean over ranks of share times the part's weighted mean is the whole batch's weighted mean."""
    alone = batches_of(folder, WEIGHTED, events_read=events_read)
    ranks = [
        batches_of(folder, WEIGHTED, events_read=events_read, rank=rank, num_ranks=3) for rank in range(3)
    ]
    for whole, *parts in zip(alone, *ranks, strict=True):
        value = [float((part.item_rows * part.weights).sum() / part.weights.sum()) for part in parts]
        got = sum(part.share * mean for part, mean in zip(parts, value, strict=True)) / 3
        assert got == pytest.approx(float((whole.item_rows * whole.weights).sum() / whole.weights.sum()))


def test_ranking_loss_is_the_weighted_mean_of_the_log_losses(folder):
    worth = {"view": 0, "cart": 3, "purchase": 10}
    module = module_of(folder, Label("event", weights=worth), task="ranking")
    torch.manual_seed(0)
    model = DeepFM(module.dataset.schema, embedding_dim=4, init_std=0.5, dropout=0.0, id_dropout=0.0)
    batch = next(iter(module.train_dataloader()))
    loss = RankingTask(model, Optimizers()).training_step(batch, 0).item()
    total, weight = 0.0, 0.0
    for logit, label, one in zip(
        model(batch).tolist(), batch.labels.tolist(), batch.weights.tolist(), strict=True
    ):
        probability = 1 / (1 + math.exp(-logit))
        total += one * -math.log(probability if label else 1 - probability)
        weight += one
    assert {1.0, 3.0, 10.0} == set(batch.weights.tolist())
    assert loss == pytest.approx(total / weight, rel=1e-5)


@pytest.mark.parametrize("name", ["full_softmax", "sampled_softmax", "bpr", "gbce"])
def test_retrieval_loss_counts_a_positive_of_weight_w_as_w_positives(folder, name):
    """By the mean of the single losses, each as the task gives it for a batch where it alone has weight."""
    module = module_of(folder, WEIGHTED)
    task = retrieval_task(module, name)
    batch = next(iter(module.train_dataloader()))
    with torch.no_grad():
        loss = task.training_step(batch, 0).item()
        alone = [
            task.training_step(dataclasses.replace(batch, weights=one), 0).item()
            for one in functional.one_hot(torch.arange(len(batch))).float()
        ]
    weights = batch.weights.tolist()
    expected = sum(w * one for w, one in zip(weights, alone, strict=True)) / sum(weights)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert loss != pytest.approx(sum(alone) / len(alone), rel=1e-4)


def test_softmax_loss_by_hand(folder):
    module = module_of(folder, WEIGHTED)
    task = retrieval_task(module, "full_softmax")
    batch = next(iter(module.train_dataloader()))
    with torch.no_grad():
        loss = task.training_step(batch, 0).item()
        scores = task.model.encode_queries(batch) @ task.model.encode_candidates(module.dataset.items)[1:].T
    total = 0.0
    for row, item, weight in zip(
        scores.tolist(), batch.item_rows.tolist(), batch.weights.tolist(), strict=True
    ):
        total += weight * (math.log(sum(map(math.exp, row))) - row[item - 1])
    assert loss == pytest.approx(total / batch.weights.sum().item(), rel=1e-5)


def test_label_mean_is_of_the_weights(folder):
    statistics = {"item_worth": StatisticOptions(("item_id",), "label_mean", strength=0)}
    module = module_of(folder, WEIGHTED, task="ranking", statistics=statistics)
    station = module.dataset.path
    first = sorted(ROWS, key=lambda row: row[2])[: len(column(station, "train", "label"))]
    mean = sum(WORTH[row[3]] for row in first) / len(first)
    plain = {f["name"]: f for f in (f.to_dict() for f in module.dataset.schema.features)}
    found = column(station, "train", "item_worth")
    seen, values = {}, []
    for _, item, _, word in first:
        earlier = seen.setdefault(item, [])
        values.append(sum(earlier) / len(earlier) if earlier else mean)
        earlier.append(WORTH[word])
    expected = [(value - plain["item_worth"]["mean"]) / plain["item_worth"]["std"] for value in values]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "label",
    [
        Label("event", positives=("view",), weights={"view": 0, "cart": 1, "purchase": 2}),
        Label("event", 0, weights={"view": 0, "cart": 1, "purchase": 2}),
    ],
)
def test_a_positive_of_no_weight_is_refused(folder, label):
    with pytest.raises(InputError, match=r"`data.label.weights.view` is 0, and `view` is a positive"):
        module_of(folder, label)
