"""What `auto` stands for: sizes that follow from the train split, one rule a key.

Every rule is a step function of one or two facts, monotone and bounded, so that a little more data changes
nothing and much more data changes a little. Where the steps lie was tried on the sets of docs/results.md and
is judgement, not measurement, beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # a mistyped key needs no torch
    from recsys.data.facts import DataFacts

AUTO = "auto"
Value = int | float | list[int]


class Size(NamedTuple):
    """A value and, for the log, what of the data it follows from."""

    value: Value
    why: str


Rule = Callable[["DataFacts"], Size]


def embedding_dim(facts: DataFacts) -> Size:
    """Of retrieval models: 32, 64 or 128 by the positives, less where the tables would take 2 GiB."""
    value = 32 if facts.num_positives < 20_000 else 64 if facts.num_positives < 1_000_000 else 128
    rows = facts.num_users + facts.num_items
    while value > 16 and rows * value > 2**29:
        value //= 2
    return Size(value, f"{facts.num_positives:,} positives, {rows:,} users and items")


def ranking_embedding_dim(facts: DataFacts) -> Size:
    """Of ranking models, whose features are many and whose layers do the work: 8, 16 or 32 by the rows."""
    value = 8 if facts.num_rows < 20_000 else 16 if facts.num_rows < 5_000_000 else 32
    return Size(value, f"{facts.num_rows:,} rows")


def ranking_hidden(facts: DataFacts) -> Size:
    """Layers of ranking models, by the rows."""
    widths = [64] if facts.num_rows < 20_000 else [128, 64] if facts.num_rows < 1_000_000 else [256, 128]
    return Size(widths, f"{facts.num_rows:,} rows")


def embedding_penalty(facts: DataFacts) -> Size:
    """Of ranking models, 0.06 over the number of features, 0.001 at least: it weighs a sum over them."""
    value = max(round(0.06 / max(facts.num_features, 1), 4), 0.001)
    return Size(value, f"{facts.num_features:,} features with embeddings")


def sequence_dropout(facts: DataFacts) -> Size:
    """Less where much is known of a user: 0.3, or 0.2 from a median history of 100 on."""
    median = facts.median_history
    value = 0.3 if median < 100 else 0.2
    return Size(value, f"half of the users have {median:g} positives or more")


def sequence_blocks(facts: DataFacts) -> Size:
    """One block for short histories, which learns them sooner and better; 2 from a median of 20 on."""
    median = facts.median_history
    value = 1 if median < 20 else 2
    return Size(value, f"half of the users have {median:g} positives or more")


def history_length(facts: DataFacts) -> Size:
    """What nine users in ten fit into, in tens, from 20 to 200: time and memory grow with it."""
    value = min(max(10 * math.ceil(facts.long_history / 10), 20), 200)
    return Size(value, f"a tenth of the users have more than {facts.long_history:g} positives")


def ranking_history_length(facts: DataFacts) -> Size:
    """As of retrieval, at most 50: a ranking model reads the mean of it."""
    value, why = history_length(facts)
    assert isinstance(value, int)
    return Size(min(value, 50), why)


def max_epochs(facts: DataFacts) -> Size:
    """As many as show 16 million positives, from 20 to 200; patience ends most trainings earlier."""
    value = min(max(math.ceil(16_000_000 / max(facts.num_positives, 1)), 20), 200)
    return Size(value, f"{facts.num_positives:,} positives")


def patience(facts: DataFacts) -> Size:
    """A twentieth of the epochs, from 5 to 10: sparse data teaches popularity alone for some epochs."""
    epochs = max_epochs(facts).value
    assert isinstance(epochs, int)
    return Size(min(max(epochs // 20, 5), 10), f"a twentieth of {epochs} epochs")


_LASTING: Mapping[str, Rule] = {"trainer.max_epochs": max_epochs, "trainer.patience": patience}
_RANKING: Mapping[str, Rule] = {
    "model.embedding_dim": ranking_embedding_dim,
    "model.hidden": ranking_hidden,
    "data.history_length": ranking_history_length,
    "task.embedding_penalty": embedding_penalty,
}
# Keys for which `auto` may be given, by the class of the model.
RULES: Mapping[str, Mapping[str, Rule]] = {
    "MatrixFactorization": {
        "model.embedding_dim": embedding_dim,
        "data.history_length": history_length,  # which it does not read
        **_LASTING,
    },
    "TwoTower": {
        "model.embedding_dim": embedding_dim,
        "data.history_length": history_length,
        **_LASTING,
    },
    "SequenceTwoTower": {
        "model.embedding_dim": embedding_dim,
        "model.dropout": sequence_dropout,
        "model.num_blocks": sequence_blocks,
        "model.max_length": history_length,
        "data.history_length": history_length,
        **_LASTING,
    },
    **dict.fromkeys(("WideDeep", "DCNv2", "DeepFM", "DLRM", "FinalMLP", "DIN"), _RANKING),
}


def has_rule(key: str) -> bool:
    """Whether there is a model for which `auto` may be given at this dotted key."""
    return any(key in rules for rules in RULES.values())


def rules_of(target: str) -> Mapping[str, Rule]:
    """The rules of a model, by the name of its class with or without its module."""
    return RULES.get(target.rpartition(".")[2], {})


def refusal(key: str, target: str) -> str | None:
    """Why `auto` means nothing at a key for this model; None where it does."""
    rules = rules_of(target)
    if key in rules:
        return None
    known = f"it is known for {', '.join(f'`{one}`' for one in sorted(rules))}" if rules else "it has none"
    return f"there is no rule what `{key}=auto` is for `{target}`: {known}; give a number"
