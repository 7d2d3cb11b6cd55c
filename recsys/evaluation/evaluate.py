"""From a trained model to an evaluation station: answers, figures beside baselines, report.

The flow of the evaluation command, `config` being the run's composed configuration:

    run = EvaluatedRun(folder, fingerprint=run_manifest["fingerprint"], config=config)
    dataset = PreparedDataset.open(run_manifest["prepared"])
    model = build(schema=dataset.schema).eval();  load_weights(model, folder / "checkpoints" / "best")
    path = evaluate(EvaluatedModel(model, dataset, "retrieval", history_length), options, run=run)

`quick_metrics` gives the last step of training its short table.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
from torch import nn

from recsys.evaluation.baselines import fit_baseline
from recsys.evaluation.comparing.kept import kept_of_queries, kept_of_rows
from recsys.evaluation.examples import ranking_examples, retrieval_examples
from recsys.evaluation.kept_lists import WEIGHTS, keep_lists, question_of, read_lists_of
from recsys.evaluation.latency import ranking_latency, retrieval_latency
from recsys.evaluation.options import CONTENT_BASELINES, Baseline, EvaluationOptions
from recsys.evaluation.predictions import predictions_table
from recsys.evaluation.probabilities import users_table
from recsys.evaluation.protocol import ranking_protocol, retrieval_protocol
from recsys.evaluation.questions import EvaluatedModel, RankingQuestions, RetrievalQuestions, questions_of
from recsys.evaluation.recommendations import Lists, queries_table, recommendations_table
from recsys.evaluation.results import calibration_of, results_of
from recsys.evaluation.scoring import ListScorer, SystemScores
from recsys.evaluation.station import (
    PREDICTIONS,
    QUERIES,
    RECOMMENDATIONS,
    USERS,
    EvaluatedRun,
    heading,
    write_station,
)
from recsys.evaluation.warm_up import new_items_of, warm_up_of
from recsys.models.protocols import HybridModel
from recsys.schema.manifest import file_sha256
from recsys.schema.tables import USER_ID

# Each holds a matrix of items by items.
_BASELINES_AT_ONCE = 2

logger = logging.getLogger(__name__)


def evaluate(trained: EvaluatedModel, options: EvaluationOptions, *, run: EvaluatedRun) -> Path:
    """Asks a trained model about the test split and writes the evaluation station.

    A retrieval model recommends for every query. A ranking model predicts every row; where only positives are
    logged there is nothing to tell apart: the figures, but not `predictions.parquet`, then take in uniform
    items beside each positive, and the protocol says so.

    Args:
        trained: the model.
        options: every key under `evaluation.`.
        run: where the model comes from.

    Returns:
        The station's folder: `metrics.json`, `report.html`, and `recommendations.parquet`, `queries.parquet`
        or `predictions.parquet`, `users.parquet`, with what a comparison reads, see
        `recsys.evaluation.comparing.kept`.

    Raises:
        ValueError: the test split has nothing to ask, or the model's answers are not numbers.
    """
    return (_evaluate_retrieval if trained.task == "retrieval" else _evaluate_ranking)(trained, options, run)


def _evaluate_retrieval(trained: EvaluatedModel, options: EvaluationOptions, run: EvaluatedRun) -> Path:
    model = trained.model
    if isinstance(model, HybridModel):  # beside what it mixes
        more = [name for name in CONTENT_BASELINES if name not in options.baselines]
        options = dataclasses.replace(options, baselines=(*options.baselines, *more))
    questions: Any = questions_of(trained, options)
    question = question_of(questions, weights=run.checkpoint["sha256"] if run.checkpoint else None)
    k, num_items = questions.options.list_length, trained.dataset.num_items
    lists = read_lists_of(run.folder, question, k=k, num_items=num_items) or questions.answers(model)
    return evaluate_lists(lists, questions, run=run, model=model)


def evaluate_lists(
    lists: Lists,
    questions: RetrievalQuestions,
    *,
    run: EvaluatedRun,
    model: nn.Module | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Judges lists, whoever made them, and writes the evaluation station.

    Args:
        lists: one for each query.
        questions: that they answer.
        run: where the lists come from.
        model: the `RetrievalModel` that made them; without it there is no diversity by embedding and no
            latency.
        findings: what was amiss with a table of them; its texts become warnings.

    Returns:
        The station's folder, see `evaluate`.
    """
    dataset, queries, options = questions.dataset, questions.queries, questions.options
    scorer = questions.scorer(model)
    mask_I = questions.candidates_I
    scores = scorer.score(lists if mask_I is None else lists.only(mask_I))
    baselines = _score_baselines(scorer, questions)
    results = {
        **heading("retrieval", dataset, retrieval_protocol(dataset, options, queries=queries)),
        "counts": {
            "queries": len(queries),
            "users": scorer.bootstrap.num_users,
            "catalogue": dataset.num_items - 1,
            "candidates": scorer.num_candidates,
            "relevant": len(queries.relevant.values),
            "relevant_outside_catalogue": int((queries.relevant.values == 0).sum()),
        },
        **(retrieval_latency(model, dataset, queries, options) if model is not None else {}),
        **results_of(
            scorer, scores, baselines, main_metric=f"ndcg@{options.main_k}", small_slice=options.small_slice
        ),
        "exposure": {
            name: {"lorenz": system.lorenz}
            for name, system in {"model": scores, **baselines}.items()
            if isinstance(system, SystemScores)
        },
    }
    if new_items := new_items_of(lists, queries, dataset, k=options.main_k):
        results["new_items"] = new_items
    if isinstance(model, HybridModel):
        results["warm_up"] = warm_up_of(model, dataset, queries, options)
    if questions.num_all > len(queries):
        results["counts"]["queries_of_the_split"] = questions.num_all
    if findings:
        results["findings"] = list(findings)
    results["warnings"] += [*questions.warnings, *(str(finding["text"]) for finding in findings)]
    tables = {
        RECOMMENDATIONS: recommendations_table(dataset, queries, lists),
        QUERIES: queries_table(dataset, queries, scores.values, described=scorer.described),
        **kept_of_queries(scorer.slices, baselines),
    }
    examples = retrieval_examples(dataset, queries, lists, options)
    return write_station(run, options, results, tables=tables, examples=examples)


def _evaluate_ranking(trained: EvaluatedModel, options: EvaluationOptions, run: EvaluatedRun) -> Path:
    questions: Any = questions_of(trained, options)
    dataset = trained.dataset
    rows, events = dataset.split_table("test"), questions.events
    probabilities = questions.answers(trained.model)
    logged = probabilities[: len(rows)]
    scorer = questions.scorer()
    scores, rates = scorer.score(probabilities), questions.baselines()
    baselines: dict[str, SystemScores | str] = {name: scorer.score(rate_N) for name, rate_N in rates.items()}
    protocol = ranking_protocol(dataset, rows=rows, num_negatives=questions.num_negatives)
    results = {
        **heading("ranking", dataset, protocol),
        "counts": {
            "rows": len(events),
            "positives": int(events.positives.sum()),
            "users": scorer.bootstrap.num_users,
            "rows_of_unknown_items": int((events.item_rows == 0).sum()),
        },
        **ranking_latency(trained.model, dataset, events, options, history_length=trained.history_length),
        **results_of(scorer, scores, baselines, main_metric="auc", small_slice=options.small_slice),
        "reliability": scorer.reliability(probabilities),
        "calibration": calibration_of(scorer, scores, probabilities, small_slice=options.small_slice),
    }
    systems = {"model": probabilities, **rates}
    tables = {
        PREDICTIONS: predictions_table(rows, logged),
        USERS: users_table(questions.user_ids, scorer.labels_N, probabilities, values=scores.values),
        **kept_of_rows(dataset, rows, events=events, slices=scorer.slices, probabilities=systems),
    }
    examples = ranking_examples(dataset, rows, logged, options)
    return write_station(run, options, results, tables=tables, examples=examples)


def quick_metrics(
    trained: EvaluatedModel, options: EvaluationOptions, *, keep_in: Path | None = None
) -> dict[str, dict[str, float]]:
    """Figures of a model on the test split beside the simplest baseline: no intervals, slices or files.

    Args:
        trained: the model.
        options: every key under `evaluation.`.
        keep_in: the run's folder with the model's checkpoint `best`, where the lists of a retrieval model are
            kept for its evaluation.

    Returns:
        Metrics by name for `model`, and for `popularity` (retrieval) or `item_rate` (ranking).

    Raises:
        ValueError: the test split is empty, or the model's answers are not numbers.
    """
    questions = questions_of(trained, dataclasses.replace(options, resamples=0))
    scorer: Any = questions.scorer(trained.model)
    answers: Any = questions.answers(trained.model)
    if isinstance(questions, RankingQuestions):
        systems = {"model": answers, "item_rate": questions.baselines()["item_rate"]}
    else:
        systems = {"model": answers, "popularity": scorer.beyond.obvious}
        if keep_in is not None:
            keep_lists(keep_in, answers, question_of(questions, weights=file_sha256(keep_in / WEIGHTS)))
    figures = {name: scorer.score(answer, on_slices=False).figures.values for name, answer in systems.items()}
    return {
        name: {key: value for key, value in values.items() if not math.isnan(value)}
        for name, values in figures.items()
    }


def query_values(trained: EvaluatedModel, options: EvaluationOptions) -> pa.Table:
    """Returns the metrics of each query or row of the test split: no files, no baselines.

    Args:
        trained: the model.
        options: every key under `evaluation.`.

    Returns:
        `user_id` as in the raw table, and a column for each metric that has a value per query or row.

    Raises:
        ValueError: the test split is empty, or the model's answers are not numbers.
    """
    questions = questions_of(trained, dataclasses.replace(options, resamples=0))
    answers: Any = questions.answers(trained.model)
    scorer: Any = questions.scorer(trained.model)
    return pa.table({USER_ID: questions.user_ids, **scorer.score(answers, on_slices=False).values})


def _score_baselines(scorer: ListScorer, questions: RetrievalQuestions) -> dict[str, SystemScores | str]:
    """Every baseline asked for, judged, or the reason why it cannot be had."""
    options = questions.options

    def score(name: Baseline) -> SystemScores | str:
        fitted = fit_baseline(name, questions.dataset, options)
        if isinstance(fitted, str):
            return fitted
        # The scorer has asked for the most popular items already.
        is_obvious = name == "popularity"
        lists = (
            scorer.beyond.obvious if is_obvious else fitted.recommend(questions.queries, options.list_length)
        )
        return dataclasses.replace(scorer.score(lists, cut_offs=[options.main_k]), chosen=fitted.chosen)

    # Beside one another: most of the work is in products of sparse matrices, which take one core each.
    with ThreadPoolExecutor(max_workers=_BASELINES_AT_ONCE) as threads:
        names: list[str] = list(options.baselines)
        scores = dict(zip(names, threads.map(score, options.baselines), strict=True))
    for name, system in scores.items():
        if isinstance(system, str):
            logger.warning("baseline `%s` is left out: %s", name, system)
        else:
            logger.info("baseline `%s` judged", name)
    return scores
