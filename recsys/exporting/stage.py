"""Stage: a trained model and the data that it was trained on, which becomes a bundle or a part of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Seen
from recsys.data.tasks import TASKS, Task, TaskData
from recsys.exporting.fields import Fields, fields_of
from recsys.models.protocols import RankingModel, RetrievalModel
from recsys.schema.errors import InputTypeError


@dataclasses.dataclass(frozen=True)
class Stage:
    """A trained model to export, by itself or as one of two stages.

    Args:
        model: with its weights loaded, on the CPU.
        dataset: what it was trained on.
        history_length: latest items of a history that it was trained to see (`data.history_length`).
        run: what the manifest says of the run, such as its path and metrics.
        seen: whether items of a history are recommended (`evaluation.seen`): `exclude` or `keep`.
    """

    model: nn.Module
    dataset: PreparedDataset
    history_length: int = 50
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seen: Seen = "exclude"

    @property
    def task(self) -> Task:
        """`ranking` or `retrieval`, which its file is named by.

        Raises:
            TypeError: the model is neither a retrieval nor a ranking model.
        """
        if isinstance(self.model, RetrievalModel):
            return "retrieval"
        if isinstance(self.model, RankingModel):
            return "ranking"
        raise InputTypeError(
            "expected a model with `query_tower` and `candidate_tower`, or `head` (recsys.models.protocols); "
            f"got {type(self.model).__name__}"
        )

    @property
    def reads(self) -> TaskData:
        """Describes the examples of the task."""
        return TASKS[self.task]

    def fields(self, *, flat: bool | None = None) -> Fields:
        """Names the fields of requests, see `fields_of`; as the model's own file where `flat` is None."""
        is_flat = not self.reads.asks_queries if flat is None else flat
        return fields_of(self.dataset.schema, self.dataset.manifest["config"], flat=is_flat)
