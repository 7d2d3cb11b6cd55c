"""Predictions of ranking models and rates, row by row."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from recsys.evaluation.predictions import baseline_probabilities, predict, predictions_table, with_negatives
from recsys.models.wide_deep import WideDeep


class AlwaysNaN(nn.Module):
    """A diverged model."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Identity()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return torch.full((len(batch),), math.nan)


def test_predictions_do_not_depend_on_the_batch_and_keep_the_order(rated):
    torch.manual_seed(0)
    model = WideDeep(rated.schema, embedding_dim=4, hidden=[8], init_std=0.5).eval()
    events = rated.events("test")
    found = predict(model, rated, events, history_length=5, batch_size=16)
    for position in (0, 17, len(events) - 1):
        row = events.select(torch.tensor([position]))
        batch = rated.collator(5).rows(row, rated.histories("test").before(row))
        with torch.no_grad():
            assert found[position] == pytest.approx(torch.sigmoid(model(batch)).item(), abs=1e-6)
    assert len(np.unique(found)) > 50


def test_diverged_model_is_refused(rated):
    with pytest.raises(ValueError, match="probability is not a number"):
        predict(AlwaysNaN(), rated, rated.events("test"), history_length=5, batch_size=16)


def test_predictions_table_has_a_row_per_test_row_in_order(rated, ratings):
    rows = rated.split_table("test")
    table = predictions_table(rows, np.linspace(0, 1, len(rows)))
    assert table.column_names == ["user_id", "item_id", "timestamp", "label", "probability"]
    raw = dict(
        zip(
            zip(ratings["user_id"], ratings["item_id"], ratings["timestamp"], strict=True),
            ratings["stars"],
            strict=True,
        )
    )
    for row in table.to_pylist():
        assert row["label"] == int(raw[row["user_id"], row["item_id"], row["timestamp"]] >= 4)
    assert table["probability"].to_pylist() == np.linspace(0, 1, len(rows)).tolist()


def test_predictions_without_timestamps_have_null_there(clicked):
    rows = clicked.split_table("test")
    assert predictions_table(rows, np.zeros(len(rows)))["timestamp"].null_count == len(rows)


def test_negatives_follow_the_rows_and_differ_in_item_and_label_alone(clicked):
    events = clicked.events("test")
    size = len(events)
    more = with_negatives(events, 3, num_items=clicked.num_items, seed=0)
    assert len(more) == 4 * size
    assert torch.equal(more.item_rows[:size], events.item_rows)
    assert more.positives[:size].all()
    assert not more.positives[size:].any()
    assert torch.equal(more.user_rows.view(4, size), events.user_rows.expand(4, size))
    drawn = more.item_rows[size:]
    assert set(drawn.tolist()) == set(range(1, clicked.num_items))
    assert torch.equal(drawn, with_negatives(events, 3, num_items=clicked.num_items, seed=0).item_rows[size:])
    assert len(more.dense) == len(more)


def test_rates_are_those_of_train_drawn_towards_the_mean(rated, ratings):
    events = rated.events("test")
    found = baseline_probabilities(rated, events, num_negatives=0)
    train = rated.split_table("train")
    positives = np.array(train["positive"].to_pylist())
    rate = (positives.sum() + 1) / (len(positives) + 2)
    assert found["rate"] == pytest.approx(np.full(len(events), rate))

    def drawn_in(column, row):
        own = positives[np.array(train[column].to_pylist()) == row]
        return (own.sum() + 10 * rate) / (len(own) + 10)

    def odds(probability):
        return math.log(probability / (1 - probability))

    for position in range(0, len(events), 20):
        item = drawn_in("item_row", int(events.item_rows[position]))
        user = drawn_in("user_row", int(events.user_rows[position]))
        assert found["item_rate"][position] == pytest.approx(item)
        both = odds(item) + odds(user) - odds(rate)
        assert found["user_and_item_rate"][position] == pytest.approx(1 / (1 + math.exp(-both)))


def test_rates_leave_out_what_no_model_has_learnt_from(rated):
    train, events = rated.split_table("train"), rated.events("test")
    times = np.array(train["timestamp"].cast("int64").to_pylist())
    since = int(np.median(times))
    positives = np.array(train["positive"].to_pylist())[times >= since]
    rows = np.array(train["item_row"].to_pylist())[times >= since]
    rate = (positives.sum() + 1) / (len(positives) + 2)
    found = baseline_probabilities(rated, events, num_negatives=0, since=since)
    assert found["rate"][0] == pytest.approx(rate)
    own = positives[rows == int(events.item_rows[0])]
    assert found["item_rate"][0] == pytest.approx((own.sum() + 10 * rate) / (len(own) + 10))
    assert found["item_rate"] != pytest.approx(
        baseline_probabilities(rated, events, num_negatives=0)["item_rate"]
    )


def test_item_unknown_to_train_is_given_the_mean_rate(rated):
    events = rated.events("test").select(torch.tensor([0]))
    events = events.replace(item_rows=torch.tensor([0]))
    found = baseline_probabilities(rated, events, num_negatives=0)
    assert found["item_rate"][0] == pytest.approx(found["rate"][0])


def test_rates_where_only_positives_are_logged_count_uniform_negatives(clicked):
    events = clicked.events("test")
    found = baseline_probabilities(clicked, events, num_negatives=4)
    counts = clicked.item_counts.numpy().astype(float)
    rate = (counts.sum() + 1) / (5 * counts.sum() + 2)
    assert found["rate"][0] == pytest.approx(rate)
    rows = counts + 4 * counts.sum() / (clicked.num_items - 1)
    expected = (counts + 10 * rate) / (rows + 10)
    assert found["item_rate"] == pytest.approx(expected[events.item_rows.numpy()])
    assert found["user_and_item_rate"] == pytest.approx(found["item_rate"], abs=0.01)  # all users are alike
