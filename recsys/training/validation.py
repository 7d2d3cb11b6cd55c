"""CatalogueValidation: ranks the whole catalogue for every validation query of a retrieval task.

Legend: B queries, D embedding dimension, K cut-off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import pytorch_lightning as pl
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.metrics.ranking import find_hits, ranking_metrics
from recsys.models.encoding import encode_catalogue
from recsys.models.protocols import RetrievalModel
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.scorer import CatalogueScorer
from recsys.schema.batch import Batch
from recsys.training.processes import gather_objects


class _RetrievalModule(Protocol):
    """A task that is validated here."""

    model: nn.Module
    monitor: str


class CatalogueValidation:
    """Adds up the validation metrics of a task, batch by batch.

    Args:
        ks: cut-offs of the metrics.
    """

    def __init__(self, ks: Sequence[int]) -> None:
        self.ks = tuple(ks)
        self._catalogue: Batch | None = None
        self._popularity: Popularity | None = None
        self._scorer: CatalogueScorer | None = None
        self._hits: list[np.ndarray[Any, Any]] = []
        self._num_relevant: list[np.ndarray[Any, Any]] = []

    def setup(self, dataset: PreparedDataset, windows: Sequence[int | None] = ()) -> None:
        """Takes the catalogue, and its popularity where the model reads that."""
        self._catalogue = dataset.items
        self._popularity = dataset.popularity("validation", windows)

    def start(self, task: pl.LightningModule) -> None:
        """Encodes the catalogue once for all queries."""
        assert self._catalogue is not None
        self._hits, self._num_relevant = [], []
        self._catalogue = self._catalogue.to(task.device)
        if self._popularity is not None:
            self._popularity.to(task.device)
        self._scorer = CatalogueScorer(encode_catalogue(_model(task), self._catalogue), self._popularity)

    def add(self, task: pl.LightningModule, batch: Batch) -> None:
        """Ranks the catalogue for a batch of queries."""
        assert self._scorer is not None
        assert batch.relevant is not None
        _, rows_BK = self._scorer.best(_model(task).encode_queries(batch), max(self.ks), batch=batch)
        if batch.share == 0:
            return
        hits, num_relevant = find_hits(
            rows_BK.cpu().numpy(),
            relevant_rows_V=batch.relevant.values.cpu().numpy(),
            relevant_offsets=batch.relevant.offsets.cpu().numpy(),
        )
        self._hits.append(hits)
        self._num_relevant.append(num_relevant)

    def log(self, task: pl.LightningModule) -> None:
        """Logs the means over the queries of all processes."""
        self._scorer = None
        gathered = gather_objects((self._hits, self._num_relevant))
        hits, num_relevant = (
            [part for parts in kind for part in parts] for kind in zip(*gathered, strict=True)
        )
        if not hits:
            return
        monitor = cast(_RetrievalModule, task).monitor
        values = ranking_metrics(np.concatenate(hits), np.concatenate(num_relevant), ks=self.ks)
        for name, per_query in values.items():
            key = f"val/{name}"
            task.log(key, float(per_query.mean()), prog_bar=key == monitor, sync_dist=True)


def _model(task: pl.LightningModule) -> RetrievalModel:
    return cast(RetrievalModel, cast(_RetrievalModule, task).model)
