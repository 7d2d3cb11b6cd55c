"""Scores lists and probabilities, overall and on every slice.

Legend: Q queries, K ranks, N rows, I catalogue, V values of a jagged field.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys.data.dataset import PreparedDataset
from recsys.data.events import Events
from recsys.data.queries import Queries
from recsys.evaluation.beyond import BeyondAccuracy
from recsys.evaluation.candidates import candidate_mask
from recsys.evaluation.expressions import Mask
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.probabilities import RELIABILITY_BINS, figures_of, reliability_of
from recsys.evaluation.recommendations import Lists
from recsys.evaluation.slices import Slice, described_questions, item_classes, slices_of
from recsys.evaluation.summary import Bootstrap, Figures, Values
from recsys.metrics.classification import row_log_loss
from recsys.metrics.ranking import find_hits, ranking_metrics
from recsys.schema.errors import InputError


@dataclasses.dataclass(frozen=True)
class SystemScores:
    """Holds the scores of one system's answers.

    Args:
        values: [Q] or [N] for each metric that has a value per query or row; NaN where it cannot be told.
        figures: over all of them.
        slices: figures on each of the scorer's slices.
        chosen: what a baseline picked on the validation split, by its key.
        lorenz: of lists: the Lorenz curve of exposure.
    """

    values: Values
    figures: Figures
    slices: list[Figures]
    chosen: Mapping[str, float] = dataclasses.field(default_factory=dict)
    lorenz: list[list[float]] = dataclasses.field(default_factory=list)


class ListScorer:
    """Scores lists for the same queries, on the same slices and resamples.

    Args:
        dataset: the prepared dataset.
        queries: of the test split.
        options: cut-offs, slices and resamples.
        vectors_ID: candidate vectors of the model, for the diversity by embedding of everybody's lists; it
            is left out without them.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        queries: Queries,
        options: EvaluationOptions,
        *,
        vectors_ID: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.ks = sorted(options.k)
        self._names = options.list_metrics
        mask_I = candidate_mask(dataset, options)
        self.num_candidates = dataset.num_items - 1 if mask_I is None else int(mask_I.sum())
        self.bootstrap = Bootstrap(queries.events.history_rows.numpy(), options)
        classes_I = item_classes(dataset.item_counts.numpy())
        self.beyond = BeyondAccuracy(dataset, queries, options, classes_I=classes_I, vectors_ID=vectors_ID)
        self._relevant = queries.relevant
        self._relevant_query_V, self._relevant_rows_V = _different(queries)
        lengths_Q = queries.histories.lengths.numpy()
        self.described = described_questions(
            dataset, queries.events, history_lengths_N=lengths_Q, about_items=queries.mode == "event"
        ).append_column("num_relevant", pa.array(queries.relevant.lengths.numpy()))
        self.slices = slices_of(
            dataset,
            queries.events,
            options,
            described=self.described,
            holding=lambda items: self._num_relevant(items) > 0,
        )

    def score(
        self, lists: Lists, *, on_slices: bool = True, cut_offs: Sequence[int] | None = None
    ) -> SystemScores:
        """Figures of these lists, overall and, unless told otherwise, on every slice.

        Args:
            lists: of any system.
            on_slices: whether to look at the slices.
            cut_offs: at which the slices are judged; all when None.
        """
        hits_QK, num_relevant_Q = find_hits(
            lists.item_rows,
            relevant_rows_V=self._relevant.values.numpy(),
            relevant_offsets=self._relevant.offsets.numpy(),
        )
        values = self._of_lists(hits_QK, num_relevant_Q, self.ks) | self.beyond.values(lists, hits_QK)
        figures = self.bootstrap.means(values)
        figures.values.update(self.beyond.of_all(lists))
        slices = self._on_slices(lists, hits_QK, values, cut_offs or self.ks) if on_slices else []
        return SystemScores(values=values, figures=figures, slices=slices, lorenz=self.beyond.lorenz(lists))

    def _on_slices(
        self, lists: Lists, hits_QK: npt.NDArray[np.bool_], values: Values, cut_offs: Sequence[int]
    ) -> list[Figures]:
        asked = {key: value for key, value in values.items() if int(key.partition("@")[2]) in cut_offs}
        return [
            self.bootstrap.means(asked, mask=piece.mask)
            if piece.items is None
            else self._on_items(lists, hits_QK, piece, cut_offs)
            for piece in self.slices
        ]

    def _on_items(
        self, lists: Lists, hits_QK: npt.NDArray[np.bool_], piece: Slice, cut_offs: Sequence[int]
    ) -> Figures:
        """Accuracy where only the relevant items of the slice count."""
        assert piece.items is not None
        hits_QK = hits_QK[piece.mask] & piece.items[lists.item_rows[piece.mask]]
        num_relevant_Q = self._num_relevant(piece.items)[piece.mask]
        values = self._of_lists(hits_QK, num_relevant_Q, cut_offs)
        return self.bootstrap.means_of(values, users_N=self.bootstrap.users_N[piece.mask])

    def _of_lists(
        self, hits_QK: npt.NDArray[np.bool_], num_relevant_Q: npt.NDArray[np.int64], ks: Sequence[int]
    ) -> dict[str, npt.NDArray[np.float64]]:
        return ranking_metrics(hits_QK, num_relevant_Q, ks=ks, names=self._names)

    def _num_relevant(self, items: Mask) -> npt.NDArray[np.int64]:
        """[Q] how many of these items are relevant."""
        counted = self._relevant_query_V[items[self._relevant_rows_V]]
        return np.bincount(counted, minlength=len(self._relevant)).astype(np.int64)


class RowScorer:
    """Scores probabilities for the same rows, on the same slices and resamples.

    Args:
        dataset: the prepared dataset.
        events: the rows.
        options: slices and resamples.
    """

    def __init__(self, dataset: PreparedDataset, events: Events, options: EvaluationOptions) -> None:
        self.labels_N = events.positives.numpy().astype(np.int64)
        self.bootstrap = Bootstrap(events.history_rows.numpy(), options)
        self._impressions_N = _impressions(dataset, events) if options.impressions else None
        item_rows_N = events.item_rows.numpy()
        lengths_N = dataset.histories("test").before(events).lengths.numpy()
        self.described = described_questions(dataset, events, history_lengths_N=lengths_N, about_items=True)
        self.slices = slices_of(
            dataset, events, options, described=self.described, holding=lambda items: items[item_rows_N]
        )

    def score(self, probabilities_N: npt.NDArray[np.float64], *, on_slices: bool = True) -> SystemScores:
        """Figures of these probabilities, overall and, unless told otherwise, on every slice."""
        values = {"log_loss": row_log_loss(self.labels_N, probabilities_N)}
        figures = functools.partial(
            figures_of,
            self.bootstrap,
            self.labels_N,
            probabilities_N,
            impressions_N=self._impressions_N,
        )
        return SystemScores(
            values=values,
            figures=figures(),
            slices=[figures(mask=piece.mask) for piece in self.slices if on_slices],
        )

    def reliability(self, probabilities_N: npt.NDArray[np.float64]) -> list[dict[str, float | None]]:
        """Predicted and observed share of positives of up to ten bins, for `metrics.json`."""
        return reliability_of(self.bootstrap, self.labels_N, probabilities_N, num_bins=RELIABILITY_BINS)


def _impressions(dataset: PreparedDataset, events: Events) -> npt.NDArray[np.int64]:
    """[N] number of the impression of each row: its user and its instant."""
    if not dataset.has_timestamps:
        raise InputError(
            "`evaluation.impressions=true`: an impression is the rows of one user at one instant, and the "
            "data have no timestamps"
        )
    instants, instants_N = np.unique(events.timestamps.numpy(), return_inverse=True)
    return np.asarray(events.history_rows.numpy() * len(instants) + instants_N)


def _different(queries: Queries) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Query and catalogue row of each relevant item, as `find_hits` counts them.

    A known item once a query, an unknown one (row 0) each time.
    """
    rows_V = queries.relevant.values.numpy().astype(np.int64)
    query_V = np.repeat(np.arange(len(queries)), queries.relevant.lengths.numpy())
    known_V = rows_V > 0
    span = int(rows_V.max(initial=0)) + 1
    pairs = np.unique(query_V[known_V] * span + rows_V[known_V])
    unknown = query_V[~known_V]
    return np.concatenate([pairs // span, unknown]), np.concatenate([pairs % span, np.zeros_like(unknown)])
