"""CatalogueTask: ranks the whole catalogue for every validation query of a retrieval task.

Legend: B queries, D embedding dimension, K cut-off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.metrics.ranking import find_hits, ranking_metrics
from recsys.models.encoding import catalogue_scorer
from recsys.models.protocols import RetrievalModel
from recsys.retrieval.scorer import CatalogueScorer
from recsys.schema.batch import Batch
from recsys.training.processes import gather_objects


class CatalogueTask(pl.LightningModule):
    """A retrieval task: adds up its validation metrics batch by batch, at the cut-offs `ks`."""

    kind = "retrieval"
    monitor = "val/ndcg@10"

    model: nn.Module
    ks: tuple[int, ...]

    def show_validation(self, dataset: PreparedDataset, windows: Sequence[int | None] = ()) -> None:
        """Takes the catalogue of validation, and its popularity where the model reads that."""
        self._ranked_items = dataset.items
        self._ranked_popularity = dataset.popularity("validation", windows)
        self._scorer: CatalogueScorer | None = None

    def on_validation_epoch_start(self) -> None:
        """Encodes the catalogue once for all validation queries."""
        self._hits: list[np.ndarray[Any, Any]] = []
        self._num_relevant: list[np.ndarray[Any, Any]] = []
        self._ranked_items = self._ranked_items.to(self.device)
        if self._ranked_popularity is not None:
            self._ranked_popularity.to(self.device)
        model = cast(RetrievalModel, self.model)
        self._scorer = catalogue_scorer(model, self._ranked_items, self._ranked_popularity)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Ranks the whole catalogue for a batch of queries."""
        assert self._scorer is not None
        assert batch.relevant is not None
        queries_BD = cast(RetrievalModel, self.model).encode_queries(batch)
        _, rows_BK = self._scorer.best(queries_BD, max(self.ks), batch=batch)
        if batch.share == 0:
            return
        hits, num_relevant = find_hits(
            rows_BK.cpu().numpy(),
            relevant_rows_V=batch.relevant.values.cpu().numpy(),
            relevant_offsets=batch.relevant.offsets.cpu().numpy(),
        )
        self._hits.append(hits)
        self._num_relevant.append(num_relevant)

    def on_validation_epoch_end(self) -> None:
        """Logs the means over the queries of all processes."""
        self._scorer = None
        gathered = gather_objects((self._hits, self._num_relevant))
        hits, num_relevant = (
            [part for parts in kind for part in parts] for kind in zip(*gathered, strict=True)
        )
        if not hits:
            return
        values = ranking_metrics(np.concatenate(hits), np.concatenate(num_relevant), ks=self.ks)
        for name, per_query in values.items():
            key = f"val/{name}"
            self.log(key, float(per_query.mean()), prog_bar=key == self.monitor, sync_dist=True)
