"""RetrievalTask: trains a retrieval model on positives, validates it on the whole catalogue.

Legend: B examples, D embedding dimension, I catalogue, N negatives, K cut-off.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from recsys.losses.candidates import CandidateLoss, CandidateScores, CatalogueLoss, WeightedConstants
from recsys.losses.named import LossName, named_loss
from recsys.losses.sampled_softmax import accidental_hits
from recsys.models.protocols import (
    CountsReader,
    PositivesReader,
    RetrievalModel,
    popularity_windows,
)
from recsys.retrieval.parts import popularity, taste
from recsys.retrieval.popularity import Popularity
from recsys.schema.batch import Batch
from recsys.schema.errors import InputError
from recsys.schema.features import ITEM_ID
from recsys.training.competitors import Competitors, NewItems, competitors, new_items_of
from recsys.training.fitted import positives_of
from recsys.training.negatives import Negatives, NegativeSampler
from recsys.training.optimizers import Optimizers
from recsys.training.processes import gather_rows
from recsys.training.task import GradientTask, data_module
from recsys.training.validation import CatalogueTask


class RetrievalTask(GradientTask, CatalogueTask):
    """Learns to score each positive above the rest of the catalogue.

    Args:
        model: a `RetrievalModel`.
        optimizers: who moves which parameter.
        loss: `full_softmax` over the whole catalogue; `in_batch_softmax` over the batch's items;
            `sampled_softmax` over these and `num_negatives` drawn ones, both with logQ correction; `bpr` and
            `gbce` against drawn ones; `auto`, full up to `full_softmax_limit` items and sampled beyond; or a
            node whose `_target_` names a class as in `recsys.losses.candidates`, with its arguments.
        num_negatives: negatives drawn for a batch, the same for all its examples.
        negatives: from what they are drawn: `uniform` over the catalogue, by `popularity` among the train
            positives, or `mixed`, half of each.
        calibration: of `gbce`, from 0 to 1.
        label_smoothing: of `full_softmax`, from 0 to 1.
        full_softmax_limit: largest catalogue for which `auto` takes the full softmax.
        new_items: what items of the catalogue without train positives are to the losses: `left_out`, or
            `negatives`, which are trained down in every step and never up; `auto` leaves them out of models
            that place them by content: those with `model.cold_start`, and where a tenth of the catalogue or
            more is new, all that read more of an item than its id.
        ks: cut-offs of the validation metrics.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Optimizers,
        *,
        loss: LossName | CandidateLoss | CatalogueLoss = "auto",
        num_negatives: int = 1024,
        negatives: Negatives = "uniform",
        calibration: float = 0.75,
        label_smoothing: float = 0.0,
        full_softmax_limit: int = 20_000,
        new_items: NewItems = "auto",
        ks: tuple[int, ...] = (10,),
    ) -> None:
        super().__init__(model, optimizers)
        self.loss = loss
        self.num_negatives = num_negatives
        self.negatives = negatives
        self.calibration = calibration
        self.label_smoothing = label_smoothing
        self.full_softmax_limit = full_softmax_limit
        self.new_items = new_items
        self.ks = tuple(ks)
        self.negatives_seed = torch.initial_seed()
        self._catalogue: Batch | None = None
        self._competitors: Competitors | None = None
        self._objective: CandidateLoss | CatalogueLoss | None = None
        self._sampler: NegativeSampler | None = None
        self._popularity: Popularity | None = None

    def setup(self, stage: str) -> None:
        """Takes the catalogue from the data module and settles `loss: auto`."""
        dataset = data_module(self).dataset
        self._catalogue = dataset.items
        if self.new_items == "auto":
            self.new_items = new_items_of(self.model, dataset)
        self._competitors = competitors(dataset.item_counts, self.new_items)
        self._sampler = NegativeSampler(
            self._competitors.counts_I, kind=self.negatives, number=self.num_negatives
        )
        windows = popularity_windows(self.model)
        self._popularity = dataset.popularity("train", windows)
        self.show_validation(dataset, windows)
        if stage == "fit" and isinstance(self.model, PositivesReader):
            self.model.show_positives(positives_of(dataset))
        if stage == "fit" and isinstance(self.model, CountsReader):
            self.model.counts.set(dataset.items.ids[ITEM_ID].values(), dataset.item_counts)
        if self.loss == "auto":
            is_small = len(self._competitors) < self.full_softmax_limit
            self.loss = "full_softmax" if is_small else "sampled_softmax"
        if isinstance(self.loss, str):
            self._objective = named_loss(
                self.loss, calibration=self.calibration, label_smoothing=self.label_smoothing
            )
        else:
            self._objective = self.loss

    def on_fit_start(self) -> None:
        """Moves the catalogue to where the model is."""
        assert self._catalogue is not None
        assert self._sampler is not None
        assert self._competitors is not None
        self._catalogue = self._catalogue.to(self.device)
        self._sampler.to(self.device)
        self._competitors.to(self.device, self._catalogue)
        if self._popularity is not None:
            self._popularity.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Loss of a batch of positives."""
        self._check_items(batch)
        return self._share_of_loss(self._loss_of(self._encoders.encode_queries(batch), batch), batch)

    def _check_items(self, batch: Batch) -> None:
        """NOTE: row 0, the unknown item, or a row from the end would be learnt from in silence."""
        assert self._catalogue is not None
        assert batch.item_rows is not None
        last = len(self._catalogue) - 1
        wrong = batch.item_rows[(batch.item_rows < 1) | (batch.item_rows > last)]
        if len(wrong):
            raise InputError(
                f"expected items of the catalogue, rows 1 to {last}, to learn from, got {int(wrong[0])}: the"
                " batch was not made with this catalogue; prepare the data anew"
            )

    def _loss_of(self, queries_BD: torch.Tensor, batch: Batch) -> torch.Tensor:
        if isinstance(self._objective, CandidateLoss):
            return self._objective.of_candidates(self._candidate_scores(queries_BD, batch))
        assert self._objective is not None
        assert self._competitors is not None
        assert batch.item_rows is not None
        return self._objective.of_catalogue(
            taste(queries_BD, self._num_windows),
            taste(self._competitors.encode(self._encoders), self._num_windows),
            self._competitors.places(batch.item_rows),
            added=self._weighted_popularity(queries_BD, batch),
            weights_B=batch.weights,
        )

    def _weighted_popularity(self, queries_BD: torch.Tensor, batch: Batch) -> WeightedConstants | None:
        """Popularity of the competitors at the instants of the queries, where the model weighs it."""
        if self._popularity is None:
            return None
        assert batch.sequences is not None
        assert self._competitors is not None
        periods = self._popularity.by_period(batch.sequences.query_instants)
        return WeightedConstants(
            popularity(queries_BD, self._num_windows),
            [(positions, self._competitors.of(features_IP)) for positions, features_IP in periods],
        )

    def _candidate_scores(self, queries_BD: torch.Tensor, batch: Batch) -> CandidateScores:
        """Scores of the batch's items and of drawn ones, encoded once for the whole batch."""
        assert self._competitors is not None
        assert self._sampler is not None
        assert batch.item_rows is not None
        drawn_N = None
        if cast(CandidateLoss, self._objective).draws:
            seed = self.negatives_seed * 1_000_003 + self._num_batches_done
            drawn_N = self._sampler.draw(seed).to(batch.item_rows.device)
        rows_N, vectors_ND, first = self._of_all_processes(batch, drawn_N)
        num_drawn = 0 if drawn_N is None else len(drawn_N)
        log_q_I = self._sampler.log_expected_counts(batch_size=len(rows_N) - num_drawn, num_drawn=num_drawn)
        scores_BN = self._with_popularity(queries_BD @ vectors_ND.T, queries_BD, batch, rows_N)
        return CandidateScores(
            positive_B=_own(scores_BN, first),
            candidates_BN=scores_BN,
            accidental_BN=accidental_hits(batch.item_rows, rows_N),
            positive_log_q_B=log_q_I[batch.item_rows],
            candidates_log_q_N=log_q_I[rows_N],
            num_drawn=num_drawn,
            sampling_rate=min(1.0, num_drawn / max(len(self._competitors) - 1, 1)),
            weights_B=batch.weights,
        )

    def _with_popularity(
        self,
        scores_BN: torch.Tensor,
        queries_BD: torch.Tensor,
        batch: Batch,
        rows_N: torch.Tensor,
    ) -> torch.Tensor:
        """The scores, where the model weighs popularity, with that of each query's instant."""
        if self._popularity is None:
            return scores_BN
        assert batch.sequences is not None
        weights_BP = popularity(queries_BD, self._num_windows)
        return scores_BN + self._popularity.scores(weights_BP, batch.sequences.query_instants, rows_N)

    def _of_all_processes(
        self, batch: Batch, drawn_N: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Rows and vectors of the items in all processes' batches, then of `drawn_N`; first of the own."""
        assert self._catalogue is not None
        assert batch.item_rows is not None
        own = batch.item_rows
        wanted = own if drawn_N is None else torch.cat([own, drawn_N])
        vectors = self._encoders.encode_candidates(self._catalogue.select(wanted))
        num_kept = len(own) if batch.share > 0 else 0
        rows_N, first = gather_rows(own, num_kept=num_kept)
        vectors_ND, _ = gather_rows(vectors[: len(own)], num_kept=num_kept)
        if drawn_N is None:
            return rows_N, vectors_ND, first
        return torch.cat([rows_N, drawn_N]), torch.cat([vectors_ND, vectors[len(own) :]]), first

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the fused optimizers' state and the seed of the negatives."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["negatives_seed"] = self.negatives_seed

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores what `on_save_checkpoint` added."""
        super().on_load_checkpoint(checkpoint)
        self.negatives_seed = checkpoint["negatives_seed"]

    @property
    def _num_windows(self) -> int:
        return 0 if self._popularity is None else self._popularity.num_windows

    @property
    def _encoders(self) -> RetrievalModel:
        return cast(RetrievalModel, self.model)


def _own(scores_BN: torch.Tensor, first: int) -> torch.Tensor:
    """[B] score of each example's own item, which stands `first` + its position among the candidates.

    NOTE: a process whose part is empty has none; its one example has no weight, so that any score will do.
    """
    columns = torch.arange(first, first + len(scores_BN), device=scores_BN.device)
    return scores_BN.gather(1, columns.clamp(max=scores_BN.shape[1] - 1)[:, None]).squeeze(1)
