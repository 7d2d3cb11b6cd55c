"""Says what the two tasks, retrieval and ranking, read of a dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

from recsys.data.collate import Collator
from recsys.data.events import Events
from recsys.schema.batch import Batch
from recsys.schema.jagged import JaggedColumn

Task = Literal["retrieval", "ranking"]


@dataclasses.dataclass(frozen=True)
class TaskData:
    """Describes the examples of a task.

    Args:
        examples: what it learns from, and is judged by: positives, or every labelled row.
        asks_queries: it is validated by queries over the catalogue, so that there must be items.
        draws_negatives: where only positives are logged, items drawn for each become negatives.
        collate: makes a batch of events and their histories.
    """

    examples: Literal["positives", "rows"]
    asks_queries: bool
    draws_negatives: bool
    collate: Callable[[Collator, Events, JaggedColumn | None], Batch]


TASKS: Mapping[Task, TaskData] = {
    "retrieval": TaskData("positives", asks_queries=True, draws_negatives=False, collate=Collator.queries),
    "ranking": TaskData("rows", asks_queries=False, draws_negatives=True, collate=Collator.rows),
}
