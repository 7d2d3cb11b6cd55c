"""Judging lists and probabilities, overall and on every slice.

Legend: Q queries, K ranks, N rows, I catalogue.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime

import numpy as np
import numpy.typing as npt
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.events import Bags, Events
from recsys.data.queries import Queries
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.recommendations import Lists
from recsys.evaluation.slices import (
    ITEM_CLASSES,
    Mask,
    Slice,
    history_slices,
    item_classes,
    item_slices,
    time_slices,
    user_slices,
)
from recsys.evaluation.summary import Bootstrap, Figures, Values
from recsys.metrics.beyond_accuracy import coverage, novelty, self_information
from recsys.metrics.classification import auc, gauc, reliability, row_log_loss, user_auc
from recsys.metrics.ranking import find_hits, ranking_metrics

_RELIABILITY_BINS = 10


@dataclasses.dataclass(frozen=True)
class Judged:
    """One system's answers, judged.

    Args:
        values: [Q] or [N] for each metric that has a value per query or row.
        figures: over all of them.
        slices: figures on each of the judge's slices.
        chosen: what a baseline picked on the validation split, by its key.
    """

    values: Values
    figures: Figures
    slices: list[Figures]
    chosen: Mapping[str, float] = dataclasses.field(default_factory=dict)


class RetrievalJudge:
    """Judges lists for the same queries, on the same slices and resamples.

    Args:
        dataset: the prepared dataset.
        queries: of the test split.
        options: cut-offs, slices and resamples.
    """

    def __init__(self, dataset: PreparedDataset, queries: Queries, options: EvaluationOptions) -> None:
        self.ks = sorted(options.k)
        self.num_items = dataset.num_items
        self.relevant = queries.relevant
        self.bootstrap = Bootstrap(queries.events.history_rows.numpy(), options)
        counts_I = dataset.item_counts.numpy()
        self._bits_I = self_information(counts_I)
        classes_V = item_classes(counts_I)[queries.relevant.values.numpy()]
        self._relevant_of_class = [_keep(self.relevant, classes_V == c) for c in range(len(ITEM_CLASSES))]
        has_class = [(bags.lengths > 0).numpy() for bags in self._relevant_of_class]
        lengths_Q = queries.histories.lengths.numpy()
        self.slices = _slices(dataset, queries.events, lengths_Q, has_class, hot_history=options.hot_history)

    def judge(self, lists: Lists, *, on_slices: bool = True) -> Judged:
        """Figures of these lists, overall and, unless told otherwise, on every slice."""
        values = self._accuracy(lists, self.relevant)
        for k in self.ks:
            values[f"novelty@{k}"] = novelty(lists.item_rows, self_information_I=self._bits_I, k=k)
        figures = self.bootstrap.means(values)
        for k in self.ks:
            figures.values[f"coverage@{k}"] = coverage(lists.item_rows, num_items=self.num_items, k=k)
        slices = self._on_slices(lists, values) if on_slices else []
        return Judged(values=values, figures=figures, slices=slices)

    def _on_slices(self, lists: Lists, values: Values) -> list[Figures]:
        of_class = [self._accuracy(lists, relevant) for relevant in self._relevant_of_class]
        return [
            self.bootstrap.means(values if s.item_class is None else of_class[s.item_class], mask=s.mask)
            for s in self.slices
        ]

    def _accuracy(self, lists: Lists, relevant: Bags) -> dict[str, npt.NDArray[np.float64]]:
        """[Q] for every ranking metric at every cut-off."""
        hits_QK, num_relevant_Q = find_hits(
            lists.item_rows,
            relevant_rows_V=relevant.values.numpy(),
            relevant_offsets=relevant.offsets.numpy(),
        )
        return ranking_metrics(hits_QK, num_relevant_Q, ks=self.ks)


class RankingJudge:
    """Judges probabilities for the same rows, on the same slices and resamples.

    Args:
        dataset: the prepared dataset.
        events: the rows.
        options: slices and resamples.
    """

    def __init__(self, dataset: PreparedDataset, events: Events, options: EvaluationOptions) -> None:
        self.labels_N = events.positives.numpy().astype(np.int64)
        self.bootstrap = Bootstrap(events.history_rows.numpy(), options)
        classes_N = item_classes(dataset.item_counts.numpy())[events.item_rows.numpy()]
        lengths_N = dataset.histories("test").spans(events).lengths.numpy()
        has_class = [classes_N == c for c in range(len(ITEM_CLASSES))]
        self.slices = _slices(dataset, events, lengths_N, has_class, hot_history=options.hot_history)

    def judge(self, probabilities_N: npt.NDArray[np.float64], *, on_slices: bool = True) -> Judged:
        """Figures of these probabilities, overall and, unless told otherwise, on every slice."""
        values = {"log_loss": row_log_loss(self.labels_N, probabilities_N)}
        everything = np.ones(len(probabilities_N), dtype=np.bool_)
        return Judged(
            values=values,
            figures=self._figures(probabilities_N, values, everything),
            slices=[self._figures(probabilities_N, values, s.mask) for s in self.slices if on_slices],
        )

    def reliability(self, probabilities_N: npt.NDArray[np.float64]) -> list[dict[str, float]]:
        """Predicted and observed share of positives of up to ten bins, for `metrics.json`."""
        bins = reliability(self.labels_N, probabilities_N, num_bins=_RELIABILITY_BINS)
        names = ("predicted", "observed", "rows")
        return [
            dict(zip(names, values, strict=True)) for values in zip(*(b.tolist() for b in bins), strict=True)
        ]

    def _figures(self, probabilities_N: npt.NDArray[np.float64], values: Values, mask: Mask) -> Figures:
        """AUC, GAUC and log loss; no AUC where the rows are all of one class."""
        figures = self.bootstrap.means(values, mask=mask)
        labels_N, scores_N, users_N = self.labels_N[mask], probabilities_N[mask], self.bootstrap.users_N[mask]
        if 0 < labels_N.sum() < len(labels_N):
            figures.values["auc"] = auc(labels_N, scores_N)
            figures.samples["auc"] = self.bootstrap.auc_samples(labels_N, scores_N, users_N=users_N)
        users_U, auc_U, num_rows_U = user_auc(labels_N, scores_N, users_N)
        if len(users_U):
            figures.values["gauc"] = gauc(labels_N, scores_N, users_N)
            figures.samples["gauc"] = self.bootstrap.weighted_samples(auc_U, num_rows_U, users_U=users_U)
        return figures


def _slices(
    dataset: PreparedDataset,
    events: Events,
    lengths_N: npt.NDArray[np.int64],
    has_class: list[Mask],
    *,
    hot_history: int,
) -> list[Slice]:
    """The default slices that hold anything."""
    every = [
        *user_slices(lengths_N, hot_history=hot_history),
        *item_slices(has_class),
        *history_slices(lengths_N),
        *_times(dataset, events),
    ]
    return [one for one in every if one.mask.any()]


def _times(dataset: PreparedDataset, events: Events) -> Iterator[Slice]:
    """Steps of time, where one instant ends the train split for everybody."""
    boundaries = dataset.manifest["split"]["boundaries"]
    if boundaries and dataset.has_timestamps:
        train_end = datetime.fromisoformat(boundaries[0]["iso"])
        yield from time_slices(
            events.timestamps.numpy(), train_end_us=round(train_end.timestamp() * 1_000_000)
        )


def _keep(bags: Bags, kept_V: Mask) -> Bags:
    """The bags with only the values that are kept."""
    before = np.concatenate([[0], np.cumsum(kept_V)])
    offsets = before[bags.offsets.numpy()]
    return Bags(values=bags.values[torch.from_numpy(kept_V)], offsets=torch.from_numpy(offsets))
