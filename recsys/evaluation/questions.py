"""Questions of the test split: the queries of a retrieval task, or the rows of a ranking task.

Either says how its questions are answered by a model, how answers are scored, and what the simplest baseline
answers, so that whoever evaluates need not tell the tasks apart.
"""

from __future__ import annotations

import dataclasses
import logging

import pyarrow as pa
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.data.events import Events
from recsys.data.queries import Queries, queries_within
from recsys.data.tasks import Task
from recsys.evaluation.candidates import candidate_mask, restricted
from recsys.evaluation.expressions import Mask
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.predictions import Probabilities, baseline_probabilities, predict, with_negatives
from recsys.evaluation.recommendations import Lists, recommend
from recsys.evaluation.scoring import ListScorer, RowScorer
from recsys.models.encoding import encode_catalogue
from recsys.models.protocols import RetrievalModel, events_read
from recsys.schema.batch import HistoryEvents
from recsys.schema.errors import InputError
from recsys.schema.tables import USER_ID

# Scores of an evaluation that asks as many queries as it likes: half a minute on one core.
_TEST_SCORES = 2.5e9

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class EvaluatedModel:
    """A trained model that is asked, with what it was trained on and for.

    Args:
        model: with its weights loaded; put in evaluation mode when it is asked.
        dataset: whose rows are those of the model's tables.
        task: what the model was trained for.
        history_length: `data.history_length` of the run.
        negatives_per_positive: `data.negatives_per_positive` of the run, for a ranking task.
        train_from: `data.train_from` of the run, in microseconds.
    """

    model: nn.Module
    dataset: PreparedDataset
    task: Task
    history_length: int
    negatives_per_positive: int = 4
    train_from: int | None = None


@dataclasses.dataclass(frozen=True)
class RetrievalQuestions:
    """The queries of the test split that are asked.

    Args:
        dataset: whose catalogue is ranked.
        options: cut-offs are such that the candidates can fill them.
        queries: those that are asked.
        num_all: how many the split has.
        history_length: latest positives that a model sees.
        candidates_I: [I] what may be recommended; None for the whole catalogue.
    """

    dataset: PreparedDataset
    options: EvaluationOptions
    queries: Queries
    num_all: int
    history_length: int
    candidates_I: Mask | None

    @classmethod
    def of(
        cls,
        dataset: PreparedDataset,
        options: EvaluationOptions,
        *,
        history_length: int,
        events_read: HistoryEvents | None = None,
    ) -> RetrievalQuestions:
        """The queries by `options`: for its candidates, and no more than it allows.

        Raises:
            ValueError: the split has no positive, none for the candidates, or too few of these for a cut-off.
        """
        options = fitting(options, dataset)
        dataset.check_has("positives", "test")
        mask_I = candidate_mask(dataset, options)
        queries = dataset.queries(
            "test",
            mode=options.queries,
            history_length=history_length,
            events_read=events_read,
            known=options.known,
            seen=options.seen,
        )
        queries = restricted(queries, mask_I)
        if not len(queries):
            raise InputError(
                f"expected queries of the test split with a relevant item among `evaluation.candidates="
                f"{options.candidates}`, found none in `{dataset.path}`; `all` asks every query"
            )
        number = queries_within(options.max_queries, num_items=dataset.num_items, auto_scores=_TEST_SCORES)
        drawn = queries if number is None else queries.draw(number, seed=options.seed)
        questions = cls(dataset, options, drawn, len(queries), history_length, mask_I)
        for warning in questions.warnings:
            logger.warning("%s", warning)
        return questions

    @property
    def warnings(self) -> list[str]:
        """Says so where not all queries are asked."""
        if len(self.queries) == self.num_all:
            return []
        return [
            f"{len(self.queries):,} of the {self.num_all:,} queries of the test split were drawn at random "
            "and asked; the intervals are of so many. `evaluation.max_queries=null` asks all."
        ]

    @property
    def user_ids(self) -> pa.Array:
        """[Q] raw ids."""
        return pa.array(self.queries.user_ids)

    def answers(self, model: nn.Module) -> Lists:
        """The lists that a model recommends."""
        return recommend(
            model.eval(),
            self.dataset,
            self.queries,
            k=self.options.list_length,
            batch_size=self.options.batch_size,
            candidates_I=self.candidates_I,
        )

    def scorer(self, model: nn.Module | None = None) -> ListScorer:
        """A scorer that compares items by the model's own vectors of them, where there is a model."""
        if model is None:
            return ListScorer(self.dataset, self.queries, self.options)
        assert isinstance(model, RetrievalModel)
        vectors_ID = encode_catalogue(model.eval(), self.dataset.items).float().cpu().numpy()
        return ListScorer(self.dataset, self.queries, self.options, vectors_ID=vectors_ID)


@dataclasses.dataclass(frozen=True)
class RankingQuestions:
    """The rows of the test split, and where only positives are logged drawn negatives behind them.

    Args:
        dataset: whose rows they are.
        options: every key under `evaluation.`.
        events: what is asked.
        num_negatives: beside each positive, 0 where rows of both classes are logged.
        history_length: latest positives that a model sees.
        train_from: see `EvaluatedModel`.
    """

    dataset: PreparedDataset
    options: EvaluationOptions
    events: Events
    num_negatives: int
    history_length: int
    train_from: int | None = None

    @classmethod
    def of(
        cls,
        dataset: PreparedDataset,
        options: EvaluationOptions,
        *,
        history_length: int,
        negatives_per_positive: int = 0,
        train_from: int | None = None,
    ) -> RankingQuestions:
        """The rows; `negatives_per_positive` are drawn where only positives are logged.

        Raises:
            ValueError: the split has no row.
        """
        dataset.check_has("rows", "test")
        number = negatives_per_positive if dataset.manifest["label"]["only_positives"] else 0
        events = dataset.events("test")
        if number:
            events = with_negatives(events, number, num_items=dataset.num_items, seed=options.seed)
        return cls(dataset, options, events, number, history_length, train_from)

    @property
    def user_ids(self) -> pa.ChunkedArray:
        """[N] raw ids."""
        logged = self.dataset.split_table("test")[USER_ID]
        times = len(self.events) // len(logged)
        return pa.chunked_array([chunk for _ in range(times) for chunk in logged.chunks])

    def answers(self, model: nn.Module) -> Probabilities:
        """The probabilities that a model predicts."""
        return predict(
            model.eval(),
            self.dataset,
            self.events,
            history_length=self.history_length,
            batch_size=self.options.batch_size,
        )

    def scorer(self, model: nn.Module | None = None) -> RowScorer:
        """A scorer of probabilities; the model makes no difference."""
        return RowScorer(self.dataset, self.events, self.options)

    def baselines(self) -> dict[str, Probabilities]:
        """Probabilities of every baseline."""
        return baseline_probabilities(
            self.dataset, self.events, num_negatives=self.num_negatives, since=self.train_from
        )


def questions_of(
    trained: EvaluatedModel, options: EvaluationOptions
) -> RetrievalQuestions | RankingQuestions:
    """The questions for a trained model."""
    if trained.task == "retrieval":
        return RetrievalQuestions.of(
            trained.dataset,
            options,
            history_length=trained.history_length,
            events_read=events_read(trained.model),
        )
    return RankingQuestions.of(
        trained.dataset,
        options,
        history_length=trained.history_length,
        negatives_per_positive=trained.negatives_per_positive,
        train_from=trained.train_from,
    )


def fitting(options: EvaluationOptions, dataset: PreparedDataset) -> EvaluationOptions:
    """The options with cut-offs that the candidates can fill, see `EvaluationOptions.within`."""
    mask_I = candidate_mask(dataset, options)
    return options.within(dataset.num_items - 1 if mask_I is None else int(mask_I.sum()))
