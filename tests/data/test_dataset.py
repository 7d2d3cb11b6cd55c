"""Reading a prepared dataset: histories, queries and batches, checked by hand on a tiny table."""

import dataclasses

import pandas as pd
import pytest
import torch

from recsys.data.datamodule import RecDataModule, open_dataset
from recsys.data.dataset import PreparedDataset
from recsys.data.options import DataOptions, InteractionsTable, Label, SideTable
from recsys.data.prepare import prepare

# Two users. At instant 40 user "u" does two things at once: neither is history to the other.
ROWS = [
    ("u", "a", 10, 5),
    ("v", "b", 15, 5),
    ("u", "b", 20, 1),
    ("u", "c", 30, 5),
    ("v", "a", 35, 4),
    ("u", "d", 40, 5),
    ("u", "e", 40, 5),
    ("v", "zz", 45, 5),
    ("u", "b", 50, 5),
    ("w", "a", 60, 5),
]
SPLIT = ["train"] * 5 + ["validation"] * 2 + ["test"] * 3


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> DataOptions:
    folder = tmp_path_factory.mktemp("raw")
    table = pd.DataFrame(ROWS, columns=["user", "product", "when", "stars"]).assign(part=SPLIT)
    table.to_csv(folder / "events.csv", index=False)
    items = pd.DataFrame({"product": list("abcde"), "kind": ["x|y", "y", "", "x", "z|x"]})
    items.to_csv(folder / "items.csv", index=False)
    columns = {"user_id": "user", "item_id": "product", "timestamp": "when", "split": "part"}
    return DataOptions(
        name="tiny",
        interactions=InteractionsTable(
            path=str(folder / "events.csv"),
            columns=dataclasses.replace(InteractionsTable().columns, **columns),
            features={},
        ),
        items=SideTable(path=str(folder / "items.csv"), features={"kind": {"kind": "multi_id"}}),
        label=Label(column="stars", positive_at_least=4),
        split="predefined",
        timestamp_unit="s",
        cache_dir=str(tmp_path_factory.mktemp("cache")),
        batch_size=3,
    )


@pytest.fixture(scope="module")
def dataset(options) -> PreparedDataset:
    return PreparedDataset.open(prepare(options))


def names(dataset, bag) -> list[str | None]:
    return [dataset.item_ids[row] for row in bag.values.tolist()]


def test_history_of_a_train_event_is_the_positives_strictly_before_it(dataset):
    events = dataset.events("train")
    histories = dataset.histories("train").before(events)
    found = [names(dataset, histories.select(torch.tensor([i]))) for i in range(len(events))]
    # In time order: u-a, v-b, u-b (disliked), u-c, v-a.
    assert found == [[], [], ["a"], ["a"], ["b"]]


def test_without_an_order_a_train_event_sees_all_other_train_positives_of_its_user(dataset):
    events, histories = dataset.events("train"), dataset.histories("train")
    found = histories.others(events, torch.zeros(5, 9))
    # u likes a and c, v likes b and a; in time order: u-a, v-b, u-b (disliked), u-c, v-a.
    assert [names(dataset, found.select(torch.tensor([i]))) for i in range(5)] == [
        ["c"], ["a"], ["a", "c"], ["a"], ["b"],
    ]  # fmt: skip


def test_of_more_positives_than_fit_some_are_drawn_and_never_the_answer(dataset):
    events, histories = dataset.events("train"), dataset.histories("train")
    # Two positives each and room for one: below a half the first is drawn.
    found = histories.others(events, torch.tensor([[0.9], [0.6], [0.4], [0.7], [0.3]]))
    assert [names(dataset, found.select(torch.tensor([i]))) for i in range(5)] == [
        ["c"],
        ["a"],
        ["a"],
        [],
        ["b"],
    ]


def test_event_queries_see_earlier_test_events_and_nothing_of_the_same_instant(dataset):
    validation = dataset.queries("validation", mode="event")
    assert validation.user_ids.tolist() == ["u", "u"]
    assert validation.timestamps.tolist() == [40, 40]
    assert names(dataset, validation.relevant) == ["d", "e"]
    assert [names(dataset, validation.histories.select(torch.tensor([i]))) for i in (0, 1)] == [
        ["a", "c"]
    ] * 2
    test = dataset.queries("test", mode="event")
    assert list(zip(test.user_ids, test.timestamps, strict=True)) == [("v", 45), ("u", 50), ("w", 60)]
    assert [names(dataset, test.histories.select(torch.tensor([i]))) for i in range(3)] == [
        ["b", "a"],
        ["a", "c", "d", "e"],
        [],
    ]


def test_item_outside_the_catalogue_counts_as_relevant_row_zero(dataset):
    test = dataset.queries("test", mode="event")
    assert names(dataset, test.relevant) == [None, "b", "a"]
    assert test.relevant.values[0] == 0


def test_user_queries_ask_once_with_the_earlier_splits_as_history(dataset):
    test = dataset.queries("test", mode="user")
    by_user = dict(zip(test.user_ids, range(len(test)), strict=True))
    assert sorted(by_user) == ["u", "v", "w"]
    of_u = torch.tensor([by_user["u"]])
    assert names(dataset, test.histories.select(of_u)) == ["a", "c", "d", "e"]
    assert names(dataset, test.relevant.select(of_u)) == ["b"]


@pytest.mark.parametrize("mode", ["event", "user"])
def test_published_protocol_knows_train_alone(dataset, mode):
    test = dataset.queries("test", mode=mode, known="train")
    histories = {
        str(user): names(dataset, test.histories.select(torch.tensor([i])))
        for i, user in enumerate(test.user_ids)
    }
    # u's validation likes are d and e; the model neither reads nor leaves them out.
    assert histories == {"v": ["b", "a"], "u": ["a", "c"], "w": []}
    of_u = test.user_ids.tolist().index("u")
    seen = test.batch(torch.tensor([of_u])).seen
    assert [dataset.item_ids[row] for row in seen.values.tolist()] == ["a", "c"]


def test_sequences_know_train_alone_too(dataset):
    test = dataset.queries("test", mode="user", known="train", events_read="positives")
    of_u = test.user_ids.tolist().index("u")
    assert names(dataset, test.read.select(torch.tensor([of_u]))) == ["a", "c"]


def test_unknown_user_has_row_zero(dataset):
    test = dataset.queries("test", mode="event")
    assert test.user_rows[2] == 0
    assert (test.user_rows[:2] > 0).all()


def test_batch_shows_the_latest_history_and_excludes_all_of_it(options, dataset):
    queries = dataset.queries("test", mode="event", history_length=2)
    batch = queries.batch(torch.tensor([1]))
    item_id_row = dict(zip(dataset.item_ids, dataset.items.ids["item_id"].values().tolist(), strict=True))
    # d and e are known from the items' table alone, not from train: the model sees row 0.
    assert batch.ids["history"].values().tolist() == [item_id_row["d"], item_id_row["e"]] == [0, 0]
    assert [dataset.item_ids[row] for row in batch.seen.values.tolist()] == ["a", "c", "d", "e"]


def test_catalogue_holds_content_and_train_counts(dataset):
    row = dict(zip(dataset.item_ids, range(dataset.num_items), strict=True))
    assert sorted(name for name in row if name) == list("abcde")
    counts = dataset.item_counts
    assert {name: int(counts[row[name]]) for name in "abcde"} == {"a": 2, "b": 1, "c": 1, "d": 0, "e": 0}
    kinds = dataset.items.select(torch.tensor([row["a"], row["c"], row["e"]])).ids["kind"]
    assert kinds.lengths().tolist() == [2, 0, 1]  # z was never seen in train


def test_ranking_batches_hold_every_labelled_row(options, dataset):
    data = RecDataModule(options, task="ranking")
    rows = list(data.loader("train", shuffle=False))
    assert [label for batch in rows for label in batch.labels.tolist()] == [1, 1, 0, 1, 1]
    assert rows[0].ids.keys() == ["user_id", "history", "item_id", "kind"]
    assert rows[0].ids["item_id"].lengths().tolist() == [1] * 5


def test_where_only_positives_are_logged_negatives_are_drawn(options):
    only_positives = dataclasses.replace(
        options, label=Label(), name="liked", negatives_per_positive=3, batch_size=2
    )
    data = RecDataModule(only_positives, task="ranking")
    batch = next(iter(data.loader("train", shuffle=False)))
    assert batch.labels.tolist() == [1, 0, 0, 0] * (len(batch) // 4)
    drawn = batch.item_rows[batch.labels == 0]
    assert ((drawn >= 1) & (drawn < data.dataset.num_items)).all()
    again = next(iter(data.loader("train", shuffle=False)))
    assert torch.equal(again.item_rows, batch.item_rows)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 32), (2_700, 32), (3_000, 64), (44_000, 512), (10**7, 1024)]
)
def test_automatic_batch_size_makes_some_64_steps_an_epoch(options, dataset, count, expected):
    data = RecDataModule(dataclasses.replace(options, batch_size="auto"))
    data.dataset.manifest["counts"]["positives"]["train"] = count
    assert data.batch_size == expected


def test_automatic_batch_of_windows_makes_some_128_steps_an_epoch(options):
    data = RecDataModule(
        dataclasses.replace(options, batch_size="auto", history_length=10), events_read="all"
    )
    data.dataset.manifest["counts"]["positives"]["train"] = 440_000
    assert data.batch_size == 256  # 440,000 / 10 windows, 344 of them in each of 128 steps


def data_of_ranks(options, num_ranks, **keys):
    return [RecDataModule(options, rank=rank, num_ranks=num_ranks, **keys) for rank in range(num_ranks)]


def test_negatives_do_not_depend_on_the_number_of_ranks(options):
    only_positives = dataclasses.replace(
        options, label=Label(), name="liked", negatives_per_positive=3, batch_size=3
    )
    [alone] = [list(d.train_dataloader()) for d in data_of_ranks(only_positives, 1, task="ranking")]
    parts = [list(d.train_dataloader()) for d in data_of_ranks(only_positives, 2, task="ranking")]
    assert [len(batch) for batch in parts[0]] == [8, 4]  # of batches of 3 and 2 positives
    for batch, first, second in zip(alone, *parts, strict=True):
        for field in ("item_rows", "labels", "user_keys"):
            both = torch.cat([getattr(first, field), getattr(second, field)])
            assert torch.equal(both, getattr(batch, field))


def test_queries_are_shared_out_among_ranks(options):
    wide = dataclasses.replace(options, eval_batch_size=2)
    [[whole]] = [list(data.val_dataloader()) for data in data_of_ranks(wide, 1)]
    parts = [next(iter(data.val_dataloader())) for data in data_of_ranks(wide, 2)]
    assert [part.relevant.values.tolist() for part in parts] == [
        [row] for row in whole.relevant.values.tolist()
    ]
    assert [part.share for part in parts] == [1.0, 1.0]
    *_, third = (next(iter(data.val_dataloader())) for data in data_of_ranks(wide, 3))
    assert (third.share, third.weights.tolist()) == (0.0, [0.0])


@pytest.mark.parametrize("task", ["ranking", "retrieval"])
def test_history_length_of_nothing_leaves_the_history_empty(options, task):
    data = RecDataModule(dataclasses.replace(options, history_length=0), task=task)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            assert batch.ids["history"].lengths().tolist() == [0] * len(batch)
            assert batch.ids["user_id"].values().min() >= 0
    assert sum(batch.seen.values.numel() for batch in data.val_dataloader() if batch.seen) == (
        4 if task == "retrieval" else 0
    )


def test_histories_without_an_order_reach_the_training_batches(options):
    keys = {"before": [0, 0, 1, 1], "others": [1, 1, 1, 1]}  # u likes a and c, v likes b and a
    for key, expected in keys.items():
        data = RecDataModule(dataclasses.replace(options, train_histories=key, batch_size=8))
        [batch] = list(data.train_dataloader())
        assert sorted(batch.ids["history"].lengths().tolist()) == expected


@pytest.mark.parametrize(
    ("task", "events", "reader"),
    [("ranking", None, "a ranking model"), ("retrieval", "all", "event by event")],
)
def test_histories_without_an_order_are_for_bags_alone(options, task, events, reader):
    changed = dataclasses.replace(options, train_histories="others")
    with pytest.raises(ValueError, match=f"`data.train_histories=others` is for .* bags.*{reader}"):
        RecDataModule(changed, task=task, events_read=events)


@pytest.mark.parametrize(("task", "missing"), [("retrieval", "positives"), ("ranking", "rows")])
def test_a_dataset_by_which_no_model_can_be_judged_is_refused_before_training(options, task, missing):
    changed = dataclasses.replace(options, split="random", split_fractions=(0.5, 0.5, 0.0))
    with pytest.raises(ValueError, match=f"expected {missing} in the test split .*none; check `data"):
        open_dataset(changed, task=task)


def test_missing_station_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a prepared station at .*no such folder; make it anew"):
        PreparedDataset.open(tmp_path / "nowhere")


@pytest.mark.parametrize(("threads", "asked", "made"), [(2, "auto", 0), (3, "auto", 4), (2, 1, 1), (3, 0, 0)])
def test_batches_are_made_ahead_where_a_thread_is_left_for_it(options, monkeypatch, threads, asked, made):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    data = RecDataModule(dataclasses.replace(options, prefetch_batches=asked), task="ranking")
    assert data.loader("train", shuffle=True).prefetch_batches == made
    assert data.loader("validation", shuffle=False).prefetch_batches == 0
