"""Parts of an evaluation beside the ways they took before, in one run and with the same answers.

- popularity lists: walking down the one order of the items, against scoring every item for each query;
- item-kNN with four numbers of neighbours to choose from: neighbours found once, against once for each;
- evaluating a run whose last step of training has kept its lists, against scoring them again.

Legend: I catalogue.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from scipy import sparse

from benchmarks.evaluation import evaluated_run
from benchmarks.harness import Figure, Settings, alternate, ratios
from recsys.data.queries import Queries
from recsys.evaluation.baselines import FittedBaseline, fit_baseline
from recsys.evaluation.kept_lists import question_of, read_lists_of
from recsys.evaluation.options import EvaluationOptions
from recsys.evaluation.questions import RetrievalQuestions
from recsys.evaluation.recommendations import recommend
from recsys.models.item_knn import ItemNeighbours, item_neighbours
from recsys.nn.spectral import interaction_matrix
from recsys.retrieval.exact import top_k_of_scores
from recsys.schema.positives import TrainPositives

_NEIGHBOURS = (200, 20, 50, 100)
_K = 50


def run(settings: Settings) -> list[Figure]:
    """Ratios of the seconds of each part to those of the way before."""
    trained = evaluated_run(settings, "retrieval")
    dataset, options = trained.dataset, EvaluationOptions()
    questions = RetrievalQuestions.of(dataset, options, history_length=trained.history_length)
    queries = questions.queries
    popularity = fit_baseline("popularity", dataset, options)
    assert isinstance(popularity, FittedBaseline)
    user_rows, item_rows, _ = map(torch.from_numpy, dataset.train_positives())
    matrix_UI = interaction_matrix(TrainPositives(user_rows, item_rows), num_rows=dataset.num_items)
    question = question_of(questions, weights=trained.weights_sha256)
    parts: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "popularity lists": (
            lambda: popularity.recommend(queries, _K),
            lambda: _scored_popularity(popularity, queries),
        ),
        "neighbours to choose from": (
            lambda: _chosen_from(_neighbours(matrix_UI)),
            lambda: [_neighbours(matrix_UI, number).weights(number) for number in _NEIGHBOURS],
        ),
        "the model's lists": (
            lambda: read_lists_of(trained.path, question, k=_K, num_items=dataset.num_items),
            lambda: recommend(trained.model, dataset, queries, k=_K, batch_size=options.batch_size),
        ),
    }
    figures = []
    for name, (now, before) in parts.items():
        sides = {"now": lambda now=now: _seconds(now), "before": lambda before=before: _seconds(before)}
        found = alternate(sides, repeats=settings.repeats)
        size = f"{len(queries):,} queries, {dataset.num_items - 1:,} items"
        figures.append(
            Figure(
                f"seconds of {name} to the way before, {size}",
                ratios(found["now"], found["before"]),
                "",
                found,
            )
        )
    return figures


def _scored_popularity(popularity: FittedBaseline, queries: Queries) -> list[object]:
    assert popularity.constant is not None
    scores_I = torch.from_numpy(popularity.constant)
    size = max(1, 2**24 // len(scores_I))
    return [
        top_k_of_scores(scores_I.expand(len(part), -1), _K, seen=queries.histories.select(part))
        for part in torch.split(torch.arange(len(queries)), size)
    ]


def _chosen_from(neighbours: ItemNeighbours) -> list[object]:
    return [neighbours.weights(number) for number in _NEIGHBOURS]


def _neighbours(matrix_UI: sparse.csr_matrix, number: int = max(_NEIGHBOURS)) -> ItemNeighbours:
    return item_neighbours(matrix_UI, num_neighbours=number, shrinkage=10.0)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
