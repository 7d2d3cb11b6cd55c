"""Stage: a trained model and the data that it was trained on, which becomes a bundle or a part of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Seen
from recsys.exporting.fields import Fields, fields_of
from recsys.models.protocols import RankingModel


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
    def is_ranking(self) -> bool:
        """Whether the model ranks rows; otherwise it retrieves items."""
        return isinstance(self.model, RankingModel)

    @property
    def task(self) -> str:
        """`ranking` or `retrieval`, which its file is named by."""
        return "ranking" if self.is_ranking else "retrieval"

    def fields(self, *, flat: bool | None = None) -> Fields:
        """Names the fields of requests, see `fields_of`; as the model's own file where `flat` is None."""
        is_flat = self.is_ranking if flat is None else flat
        return fields_of(self.dataset.schema, self.dataset.manifest["config"], flat=is_flat)
