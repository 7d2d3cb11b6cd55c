"""Probabilities of a ranking model for the rows of the test split, those of baselines, and their table.

Legend: N rows, I catalogue, U users.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.data.events import Events
from recsys.models.protocols import RankingModel
from recsys.schema import tables
from recsys.schema.errors import InputError
from recsys.schema.progress import progress

Probabilities = npt.NDArray[np.float64]

# Rows that the mean rate stands for when an item's or a user's own rate is estimated.
_PRIOR_ROWS = 10.0


def predict(
    model: nn.Module, dataset: PreparedDataset, events: Events, *, history_length: int, batch_size: int
) -> Probabilities:
    """Probability of a positive for each row.

    Args:
        model: a trained `RankingModel`, in evaluation mode.
        dataset: holds users, catalogue and histories.
        events: rows of the test split, or made from them.
        history_length: latest positives that the model sees.
        batch_size: rows at a time.

    Returns:
        [N] float64.

    Raises:
        ValueError: a probability is not a number.
    """
    assert isinstance(model, RankingModel)
    collator = dataset.collator(history_length)
    histories = dataset.histories("test") if collator.needs_history else None
    device = next(model.parameters()).device
    parts = []
    with torch.no_grad():  # FBGEMM has no kernel of its fused tables for inference mode
        blocks = torch.split(torch.arange(len(events)), batch_size)
        for positions in progress(blocks, f"scoring {len(events):,} rows"):
            rows = events.select(positions)
            history = histories.before(rows) if histories else None
            batch = collator.rows(rows, history).to(device)
            parts.append(torch.sigmoid(model(batch).double()).cpu())
    probabilities = torch.cat(parts).numpy() if parts else np.zeros(0)
    if np.isnan(probabilities).any():
        raise InputError(
            "a predicted probability is not a number (NaN); the model has diverged: train it anew"
        )
    return np.asarray(probabilities)


def predictions_table(rows: pa.Table, probabilities_N: Probabilities) -> pa.Table:
    """The table Predictions: a row per test row in their order, label 1 for a positive."""
    raw_timestamp = tables.RAW_PREFIX + tables.TIMESTAMP
    has_timestamps = raw_timestamp in rows.column_names
    return pa.table(
        {
            tables.USER_ID: rows[tables.USER_ID],
            tables.ITEM_ID: rows[tables.ITEM_ID],
            tables.TIMESTAMP: rows[raw_timestamp] if has_timestamps else pa.nulls(len(rows), pa.int64()),
            tables.LABEL: rows[tables.POSITIVE].cast(pa.int8()),
            tables.PROBABILITY: pa.array(probabilities_N),
        }
    )


def with_negatives(events: Events, num_negatives: int, *, num_items: int, seed: int) -> Events:
    """The events, then copies of each with items drawn uniformly from the catalogue, as negatives."""
    drawn = np.random.default_rng(seed).integers(1, num_items, size=len(events) * num_negatives)
    repeated = events.select(torch.arange(len(events)).repeat(1 + num_negatives))
    is_copy = torch.arange(len(repeated)) >= len(events)
    return repeated.replace(
        item_rows=torch.cat([events.item_rows, torch.from_numpy(drawn)]),
        positives=repeated.positives & ~is_copy,
    )


def baseline_probabilities(
    dataset: PreparedDataset, events: Events, *, num_negatives: int, since: int | None = None
) -> dict[str, Probabilities]:
    """Predicts each row by the rates of the train split, without a model.

    `rate` is the share of positives in train, for every row. `item_rate` is the item's own, and
    `user_and_item_rate` adds the user's log-odds to it; both are drawn towards the mean rate by as much as
    ten rows would. `num_negatives` uniform negatives for each positive are taken to be among the rows of
    train. Rows before `since` (microseconds), from which no model has learnt, count for nothing here either.
    """
    counts = dataset.train_counts(since=since)
    item_positives_I, item_rows_I = counts["item"]
    user_positives_U, user_rows_U = counts["user"]
    if num_negatives:
        expected = num_negatives * item_positives_I.sum() / max(dataset.num_items - 1, 1)
        item_rows_I = item_positives_I + expected
        item_rows_I[0] = 0  # the unknown item is never drawn
        user_rows_U = user_positives_U * (1 + num_negatives)
    rate = (item_positives_I.sum() + 1) / (item_rows_I.sum() + 2)
    item_odds_N = _log_odds(item_positives_I, item_rows_I, rate)[events.item_rows.numpy()]
    user_odds_N = _log_odds(user_positives_U, user_rows_U, rate)[events.user_rows.numpy()]
    mean_odds = np.log(rate / (1 - rate))
    return {
        "rate": np.full(len(events), rate),
        "item_rate": _sigmoid(item_odds_N),
        "user_and_item_rate": _sigmoid(item_odds_N + user_odds_N - mean_odds),
    }


def _log_odds(positives: npt.NDArray[np.float64], rows: npt.NDArray[np.float64], rate: float) -> Any:
    drawn_in = (positives + _PRIOR_ROWS * rate) / (rows + _PRIOR_ROWS)
    return np.log(drawn_in / (1 - drawn_in))


def _sigmoid(log_odds: npt.NDArray[np.float64]) -> Probabilities:
    return np.asarray(1 / (1 + np.exp(-log_odds)))
