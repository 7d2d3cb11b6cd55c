"""Chooses sizes of a model where its configuration says `auto`, by rules from facts of the train split.

A model class names its rules in `auto_sizes`, by the dotted keys that may be left at `auto`. Every rule is a
step function of one or two facts, monotone and bounded, so that a little more data changes nothing and much
more data changes a little. Where the steps lie was tried on the sets of the docs and is judgement, not
measurement, beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from recsys.schema.facts import DataFacts
from recsys.schema.features import HISTORY, ITEM_ID

Value = int | float | str | list[int]


class Size(NamedTuple):
    """A value and, for the log, what of the data it follows from."""

    value: Value
    why: str


Rule = Callable[[DataFacts], Size]


def _embedding_dim(facts: DataFacts) -> Size:
    """Embedding dimension of retrieval models: 32 below 20,000 positives, 64 below 1,000,000, otherwise 128.

    Halved, down to 16, as long as the tables would take more than 2 GiB.
    """
    value = 32 if facts.num_positives < 20_000 else 64 if facts.num_positives < 1_000_000 else 128
    rows = facts.num_users + facts.num_items
    while value > 16 and rows * value > 2**29:
        value //= 2
    return Size(value, f"{facts.num_positives:,} positives, {rows:,} users and items")


def _ranking_embedding_dim(facts: DataFacts) -> Size:
    """Embedding dimension of ranking models: 8 below 20,000 rows, 16 below 5,000,000, otherwise 32."""
    value = 8 if facts.num_rows < 20_000 else 16 if facts.num_rows < 5_000_000 else 32
    return Size(value, f"{facts.num_rows:,} rows")


def _ranking_hidden(facts: DataFacts) -> Size:
    """Hidden layers of ranking models: [64] below 20,000 rows, [128, 64] below 1,000,000, else [256, 128]."""
    widths = [64] if facts.num_rows < 20_000 else [128, 64] if facts.num_rows < 1_000_000 else [256, 128]
    return Size(widths, f"{facts.num_rows:,} rows")


def _embedding_penalty(facts: DataFacts) -> Size:
    """Penalty of ranking models: 0.06 over the number of features that it sums over, 0.001 at least."""
    value = max(round(0.06 / max(facts.num_features, 1), 4), 0.001)
    return Size(value, f"{facts.num_features:,} features with embeddings")


def _sequence_dropout(facts: DataFacts) -> Size:
    """Dropout of sequence models: 0.3 below a median history of 100, otherwise 0.2."""
    median = facts.median_history
    value = 0.3 if median < 100 else 0.2
    return Size(value, f"half of the users have {median:g} positives or more")


def _sequence_blocks(facts: DataFacts) -> Size:
    """Blocks of sequence models: 1 below a median history of 20, learned sooner and better, otherwise 2."""
    median = facts.median_history
    value = 1 if median < 20 else 2
    return Size(value, f"half of the users have {median:g} positives or more")


def _history_length(facts: DataFacts) -> Size:
    """History length that nine users in ten fit into, in tens, from 20 to 200: time grows with it."""
    value = min(max(10 * math.ceil(facts.long_history / 10), 20), 200)
    return Size(value, f"a tenth of the users have more than {facts.long_history:g} positives")


def _ranking_history_length(facts: DataFacts) -> Size:
    """History length of ranking models: as of retrieval, at most 50, because they read the mean of it."""
    value, why = _history_length(facts)
    assert isinstance(value, int)
    return Size(min(value, 50), why)


def _max_epochs(facts: DataFacts) -> Size:
    """As many epochs as show 16 million positives, from 20 to 200; patience ends most trainings earlier."""
    value = min(max(math.ceil(16_000_000 / max(facts.num_positives, 1)), 20), 200)
    return Size(value, f"{facts.num_positives:,} positives")


def _patience(facts: DataFacts) -> Size:
    """Patience of a twentieth of the epochs, from 5 to 10: sparse data teaches popularity alone at first."""
    epochs = _max_epochs(facts).value
    assert isinstance(epochs, int)
    return Size(min(max(epochs // 20, 5), 10), f"a twentieth of {epochs} epochs")


def _cold_start(facts: DataFacts) -> Size:
    """Cold start of towers: `gate` where a tenth of the catalogue or more is new with content, else `none`.

    Below, as on MovieLens-100K by time (a twenty-fifth), what is new is too little to change the model for.
    """
    missing = [name for name in (ITEM_ID, HISTORY) if name in facts.leave_out]
    if missing:
        return Size("none", f"`{missing[0]}` is left out, and a gate reads it")
    share = facts.num_new_items / max(facts.num_items, 1)
    value = "gate" if facts.has_many_new_items else "none"
    number = f"{facts.num_new_items:,} of {facts.num_items:,} items"
    return Size(value, f"{number} ({share:.1%}) are new and have content")


def _whole_history(facts: DataFacts) -> Size:
    """History length of linear models, which read all of it: 10,000."""
    return Size(10_000, "a linear model reads the whole history")


def _num_singular_values(facts: DataFacts) -> Size:
    """Singular values of linear models: all up to 512 users, then 512, and 256 beyond 100,000 items."""
    value = min(512 if facts.num_items <= 100_000 else 256, facts.num_users)
    return Size(4 * math.ceil(max(value, 1) / 4), f"{facts.num_users:,} users and {facts.num_items:,} items")


def _least_squares_penalty(facts: DataFacts) -> Size:
    """L2 of iALS: 25 over the items, from 0.001 to 0.05; what it multiplies grows with the catalogue."""
    value = min(max(round(25 / max(facts.num_items, 1), 4), 0.001), 0.05)
    return Size(value, f"{facts.num_items:,} items")


# Of ranking models.
RANKING: Mapping[str, Rule] = {
    "model.embedding_dim": _ranking_embedding_dim,
    "model.hidden": _ranking_hidden,
    "data.history_length": _ranking_history_length,
    "task.embedding_penalty": _embedding_penalty,
}
# Of models whose hidden layers are those of several experts.
EXPERTS: Mapping[str, Rule] = {key: rule for key, rule in RANKING.items() if key != "model.hidden"}
# Of retrieval models; those that read no history make nothing of its length.
RETRIEVAL: Mapping[str, Rule] = {
    "model.embedding_dim": _embedding_dim,
    "data.history_length": _history_length,
    "trainer.max_epochs": _max_epochs,
    "trainer.patience": _patience,
}
# Of towers that may mix content with behaviour.
TOWERS: Mapping[str, Rule] = {**RETRIEVAL, "model.cold_start": _cold_start}
SEQUENCE: Mapping[str, Rule] = {
    **TOWERS,
    "model.dropout": _sequence_dropout,
    "model.num_blocks": _sequence_blocks,
    "model.max_length": _history_length,
}
# Of models that are computed from all positives: how often is theirs to say.
COMPUTED: Mapping[str, Rule] = {"data.history_length": _whole_history}
LINEAR: Mapping[str, Rule] = {**COMPUTED, "model.embedding_dim": _num_singular_values}
EASE_FACTORIZATION: Mapping[str, Rule] = {
    **COMPUTED,
    "model.embedding_dim": _embedding_dim,
    "model.ease_dim": _num_singular_values,
}
LEAST_SQUARES: Mapping[str, Rule] = {**COMPUTED, "model.l2": _least_squares_penalty}
