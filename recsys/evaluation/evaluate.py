"""From a trained model to an evaluation station: answers, figures beside baselines, report.

The flow of the evaluation command, `config` being the run's composed configuration:

    run = EvaluatedRun(folder, fingerprint=run_manifest["fingerprint"], config=config)
    dataset = PreparedDataset.open(run_manifest["prepared"])
    model = build(schema=dataset.schema).eval();  load_weights(model, folder / "checkpoints" / "best")
    path = evaluate_retrieval(model, dataset, options, run=run, history_length=config.data.history_length)

`evaluate_ranking` is called alike; `quick_metrics` gives the last step of training its short table.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.data.events import Events
from recsys.data.queries import Queries, queries_within
from recsys.evaluation.baselines import fit_baseline
from recsys.evaluation.candidates import candidate_mask, restricted
from recsys.evaluation.comparing.kept import kept_of_queries, kept_of_rows
from recsys.evaluation.examples import ranking_examples, retrieval_examples
from recsys.evaluation.kept_lists import WEIGHTS, keep_lists, question_of, read_lists_of
from recsys.evaluation.latency import ranking_latency, retrieval_latency
from recsys.evaluation.options import CONTENT_BASELINES, Baseline, EvaluationOptions
from recsys.evaluation.predictions import (
    baseline_probabilities,
    predict,
    predictions_table,
    with_negatives,
)
from recsys.evaluation.probabilities import users_table
from recsys.evaluation.protocol import ranking_protocol, retrieval_protocol
from recsys.evaluation.recommendations import (
    Lists,
    queries_table,
    recommend,
    recommendations_table,
)
from recsys.evaluation.results import calibration_of, exposure_of, results_of
from recsys.evaluation.scoring import ListScorer, RowScorer, SystemScores
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
from recsys.models.encoding import encode_catalogue
from recsys.models.protocols import HybridModel, RetrievalModel, events_read
from recsys.schema.errors import InputError
from recsys.schema.manifest import file_sha256
from recsys.schema.tables import USER_ID

# Scores of an evaluation that asks as many queries as it likes: half a minute on one core.
_TEST_SCORES = 2.5e9
# Each holds a matrix of items by items.
_BASELINES_AT_ONCE = 2

logger = logging.getLogger(__name__)

Findings = Sequence[Mapping[str, Any]]


def evaluate_retrieval(
    model: nn.Module,
    dataset: PreparedDataset,
    options: EvaluationOptions,
    *,
    run: EvaluatedRun,
    history_length: int,
) -> Path:
    """Recommends for every query of the test split and writes the evaluation station.

    Args:
        model: a trained `RetrievalModel` with its weights loaded; put in evaluation mode here.
        dataset: what it was trained on.
        options: every key under `evaluation.`.
        run: where the model comes from.
        history_length: `data.history_length` of the run.

    Returns:
        The station's folder: `metrics.json`, `report.html`, `recommendations.parquet`, `queries.parquet` and
        what a comparison reads, see `recsys.evaluation.comparing.kept`.

    Raises:
        ValueError: the test split has no positive, or the model's scores are not numbers.
    """
    options = _with_content(fitting(options, dataset), model)
    queries, num_all = _queries(model, dataset, options, history_length)
    weights = run.checkpoint["sha256"] if run.checkpoint else None
    asked = question_of(dataset, queries, options, history_length=history_length, weights=weights)
    lists = read_lists_of(run.folder, asked, k=options.list_length, num_items=dataset.num_items)
    if lists is None:
        lists = _recommend(model, dataset, queries, options)
    return evaluate_lists(
        lists, dataset, queries=queries, options=options, run=run, model=model, num_all=num_all
    )


def evaluate_lists(
    lists: Lists,
    dataset: PreparedDataset,
    *,
    queries: Queries,
    options: EvaluationOptions,
    run: EvaluatedRun,
    model: nn.Module | None = None,
    findings: Findings = (),
    num_all: int | None = None,
) -> Path:
    """Judges lists, whoever made them, and writes the evaluation station.

    Args:
        lists: one for each query.
        dataset: whose catalogue their rows are of.
        queries: of the test split.
        options: every key under `evaluation.`.
        run: where the lists come from.
        model: the `RetrievalModel` that made them; without it there is no diversity by embedding and no
            latency.
        findings: what was amiss with a table of them; its texts become warnings.
        num_all: queries of the test split, where `queries` were drawn from them.

    Returns:
        The station's folder, see `evaluate_retrieval`.
    """
    options = fitting(options, dataset)
    scorer = _list_scorer(model, dataset, queries, options)
    mask_I = candidate_mask(dataset, options)
    scores = scorer.score(lists if mask_I is None else lists.only(mask_I))
    baselines = _score_baselines(scorer, dataset, queries, options)
    protocol = retrieval_protocol(dataset, options, queries=queries)
    results = {
        **heading("retrieval", dataset, protocol),
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
        "exposure": exposure_of(scores, baselines),
    }
    if new_items := new_items_of(lists, queries, dataset, k=options.main_k):
        results["new_items"] = new_items
    if isinstance(model, HybridModel):
        results["warm_up"] = warm_up_of(model, dataset, queries, options)
    if num_all is not None and num_all > len(queries):
        results["counts"]["queries_of_the_split"] = num_all
        results["warnings"] = [*results["warnings"], _drawn_warning(len(queries), num_all)]
    if findings:
        results["findings"] = list(findings)
        results["warnings"] = [*results["warnings"], *(str(one["text"]) for one in findings)]
    tables = {
        RECOMMENDATIONS: recommendations_table(dataset, queries, lists),
        QUERIES: queries_table(dataset, queries, scores.values, described=scorer.described),
        **kept_of_queries(scorer.slices, baselines),
    }
    examples = retrieval_examples(dataset, queries, lists, options)
    return write_station(run, options, results, tables=tables, examples=examples)


def evaluate_ranking(
    model: nn.Module,
    dataset: PreparedDataset,
    options: EvaluationOptions,
    *,
    run: EvaluatedRun,
    history_length: int,
    negatives_per_positive: int = 4,
) -> Path:
    """Predicts every row of the test split and writes the evaluation station.

    Where only positives are logged there is nothing to tell apart: the figures, but not
    `predictions.parquet`, then take in `negatives_per_positive` uniform items beside each positive, and the
    protocol says so.

    Args:
        model: a trained `RankingModel` with its weights loaded; put in evaluation mode here.
        dataset: what it was trained on.
        options: every key under `evaluation.`.
        run: where the model comes from.
        history_length: `data.history_length` of the run.
        negatives_per_positive: `data.negatives_per_positive` of the run.

    Returns:
        The station's folder: `metrics.json`, `report.html`, `predictions.parquet`, `users.parquet`.

    Raises:
        ValueError: the test split has no row, or a probability is not a number.
    """
    rows = dataset.split_table("test")
    num_negatives = _num_negatives(dataset, negatives_per_positive)
    events = _events(dataset, options, num_negatives)
    probabilities = predict(
        model.eval(), dataset, events, history_length=history_length, batch_size=options.batch_size
    )
    scorer = RowScorer(dataset, events, options)
    scores = scorer.score(probabilities)
    rates = baseline_probabilities(dataset, events, num_negatives=num_negatives)
    baselines: dict[str, SystemScores | str] = {name: scorer.score(rate_N) for name, rate_N in rates.items()}
    protocol = ranking_protocol(dataset, rows=rows, num_negatives=num_negatives)
    results = {
        **heading("ranking", dataset, protocol),
        "counts": {
            "rows": len(events),
            "positives": int(events.positives.sum()),
            "users": scorer.bootstrap.num_users,
            "rows_of_unknown_items": int((events.item_rows == 0).sum()),
        },
        **ranking_latency(model, dataset, events, options, history_length=history_length),
        **results_of(scorer, scores, baselines, main_metric="auc", small_slice=options.small_slice),
        "reliability": scorer.reliability(probabilities),
        "calibration": calibration_of(scorer, scores, probabilities, small_slice=options.small_slice),
    }
    asking = pa.chunked_array(
        [chunk for _ in range(len(events) // len(rows)) for chunk in rows[USER_ID].chunks]
    )
    tables = {
        PREDICTIONS: predictions_table(rows, probabilities[: len(rows)]),
        USERS: users_table(asking, scorer.labels_N, probabilities, values=scores.values),
    }
    tables |= kept_of_rows(
        dataset, rows, events=events, slices=scorer.slices, probabilities={"model": probabilities, **rates}
    )
    examples = ranking_examples(dataset, rows, probabilities[: len(rows)], options)
    return write_station(run, options, results, tables=tables, examples=examples)


def quick_metrics(
    model: nn.Module,
    dataset: PreparedDataset,
    options: EvaluationOptions,
    *,
    task: Literal["retrieval", "ranking"],
    history_length: int,
    negatives_per_positive: int = 4,
    keep_in: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Figures of a model on the test split beside the simplest baseline: no intervals, slices or files.

    Args:
        model: a trained model with its weights loaded; put in evaluation mode here.
        dataset: what it was trained on.
        options: every key under `evaluation.`.
        task: what the model was trained for.
        history_length: `data.history_length` of the run.
        negatives_per_positive: `data.negatives_per_positive` of the run, for a ranking task.
        keep_in: the run's folder with the model's checkpoint `best`, where the lists of a retrieval model are
            kept for its evaluation.

    Returns:
        Metrics by name for `model`, and for `popularity` (retrieval) or `item_rate` (ranking).

    Raises:
        ValueError: the test split is empty, or the model's answers are not numbers.
    """
    quick = dataclasses.replace(options, resamples=0)
    scores: dict[str, SystemScores] = {}
    if task == "retrieval":
        quick = fitting(quick, dataset)
        queries, _ = _queries(model, dataset, quick, history_length)
        list_scorer = _list_scorer(model, dataset, queries, quick)
        own = _recommend(model, dataset, queries, quick)
        if keep_in is not None:
            weights = file_sha256(keep_in / WEIGHTS)
            asked = question_of(dataset, queries, quick, history_length=history_length, weights=weights)
            keep_lists(keep_in, own, asked)
        lists = {"model": own, "popularity": list_scorer.beyond.obvious}
        scores = {name: list_scorer.score(answer, on_slices=False) for name, answer in lists.items()}
    else:
        num_negatives = _num_negatives(dataset, negatives_per_positive)
        events = _events(dataset, quick, num_negatives)
        row_scorer = RowScorer(dataset, events, quick)
        rates = baseline_probabilities(dataset, events, num_negatives=num_negatives)
        probabilities = {
            "model": predict(
                model.eval(), dataset, events, history_length=history_length, batch_size=quick.batch_size
            ),
            "item_rate": rates["item_rate"],
        }
        scores = {name: row_scorer.score(answer, on_slices=False) for name, answer in probabilities.items()}
    return {
        name: {key: value for key, value in one.figures.values.items() if not math.isnan(value)}
        for name, one in scores.items()
    }


def query_values(
    model: nn.Module,
    dataset: PreparedDataset,
    options: EvaluationOptions,
    *,
    task: Literal["retrieval", "ranking"],
    history_length: int,
) -> pa.Table:
    """Returns the metrics of each query or row of the test split: no files, no baselines.

    Args:
        model: with its weights loaded; put in evaluation mode here.
        dataset: whose rows are those of the model's tables.
        options: every key under `evaluation.`.
        task: what the model was trained for.
        history_length: `data.history_length` of the run.

    Returns:
        `user_id` as in the raw table, and a column for each metric that has a value per query or row.

    Raises:
        ValueError: the test split is empty, or the model's answers are not numbers.
    """
    quick = dataclasses.replace(options, resamples=0)
    if task == "retrieval":
        quick = fitting(quick, dataset)
        queries, _ = _queries(model, dataset, quick, history_length)
        lists = _recommend(model, dataset, queries, quick)
        values = _list_scorer(model, dataset, queries, quick).score(lists, on_slices=False).values
        users = pa.array(queries.user_ids)
    else:
        events = _events(dataset, quick, num_negatives=0)
        answers = predict(
            model.eval(), dataset, events, history_length=history_length, batch_size=quick.batch_size
        )
        values = RowScorer(dataset, events, quick).score(answers, on_slices=False).values
        users = dataset.split_table("test")[USER_ID]
    return pa.table({USER_ID: users, **values})


def _recommend(
    model: nn.Module, dataset: PreparedDataset, queries: Queries, options: EvaluationOptions
) -> Lists:
    return recommend(
        model.eval(),
        dataset,
        queries,
        k=options.list_length,
        batch_size=options.batch_size,
        candidates_I=candidate_mask(dataset, options),
    )


def _with_content(options: EvaluationOptions, model: nn.Module) -> EvaluationOptions:
    """The options with the baselines of content, where the model mixes content with behaviour."""
    if not isinstance(model, HybridModel):
        return options
    more = [name for name in CONTENT_BASELINES if name not in options.baselines]
    return dataclasses.replace(options, baselines=(*options.baselines, *more))


def _list_scorer(
    model: nn.Module | None, dataset: PreparedDataset, queries: Queries, options: EvaluationOptions
) -> ListScorer:
    """A scorer that compares items by the model's own vectors of them, where there is a model."""
    if model is None:
        return ListScorer(dataset, queries, options)
    assert isinstance(model, RetrievalModel)
    vectors_ID = encode_catalogue(model.eval(), dataset.items).float().cpu().numpy()
    return ListScorer(dataset, queries, options, vectors_ID=vectors_ID)


def _score_baselines(
    scorer: ListScorer, dataset: PreparedDataset, queries: Queries, options: EvaluationOptions
) -> dict[str, SystemScores | str]:
    """Every baseline asked for, judged, or the reason why it cannot be had."""
    # Beside one another: most of the work is in products of sparse matrices, which take one core each.
    with ThreadPoolExecutor(max_workers=_BASELINES_AT_ONCE) as threads:
        one = partial(_score_baseline, scorer, dataset, queries, options)
        found = threads.map(one, options.baselines)
        scores: dict[str, SystemScores | str] = dict(zip(options.baselines, found, strict=True))
    for name, its in scores.items():
        if isinstance(its, str):
            logger.warning("baseline `%s` is left out: %s", name, its)
        else:
            logger.info("baseline `%s` judged", name)
    return scores


def _score_baseline(
    scorer: ListScorer,
    dataset: PreparedDataset,
    queries: Queries,
    options: EvaluationOptions,
    name: Baseline,
) -> SystemScores | str:
    fitted = fit_baseline(name, dataset, options)
    if isinstance(fitted, str):
        return fitted
    # The scorer has asked for the most popular items already.
    is_obvious = name == "popularity"
    answers = scorer.beyond.obvious if is_obvious else fitted.recommend(queries, options.list_length)
    return dataclasses.replace(scorer.score(answers, cut_offs=[options.main_k]), chosen=fitted.chosen)


def _queries(
    model: nn.Module, dataset: PreparedDataset, options: EvaluationOptions, history_length: int
) -> tuple[Queries, int]:
    """The queries that are asked, and how many the test split has."""
    dataset.check_has("positives", "test")
    queries = dataset.queries(
        "test",
        mode=options.queries,
        history_length=history_length,
        events_read=events_read(model),
        known=options.known,
        seen=options.seen,
    )
    return ask(queries, dataset, options)


def fitting(options: EvaluationOptions, dataset: PreparedDataset) -> EvaluationOptions:
    """The options with cut-offs that the candidates can fill, see `EvaluationOptions.within`."""
    mask_I = candidate_mask(dataset, options)
    return options.within(dataset.num_items - 1 if mask_I is None else int(mask_I.sum()))


def ask(queries: Queries, dataset: PreparedDataset, options: EvaluationOptions) -> tuple[Queries, int]:
    """The queries for `evaluation.candidates`, as many as `evaluation.max_queries` allows, and how many are.

    Raises:
        ValueError: none of them has a relevant item among the candidates.
    """
    queries = restricted(queries, candidate_mask(dataset, options))
    if not len(queries):
        raise InputError(
            f"expected queries of the test split with a relevant item among `evaluation.candidates="
            f"{options.candidates}`, found none in `{dataset.path}`; `all` asks every query"
        )
    number = queries_within(options.max_queries, num_items=dataset.num_items, auto_scores=_TEST_SCORES)
    if number is None or number >= len(queries):
        return queries, len(queries)
    logger.warning("%s", _drawn_warning(number, len(queries)))
    return queries.draw(number, seed=options.seed), len(queries)


def _drawn_warning(number: int, num_all: int) -> str:
    return (
        f"{number:,} of the {num_all:,} queries of the test split were drawn at random and asked; the "
        "intervals are of so many. `evaluation.max_queries=null` asks all."
    )


def _events(dataset: PreparedDataset, options: EvaluationOptions, num_negatives: int) -> Events:
    dataset.check_has("rows", "test")
    events = dataset.events("test")
    if num_negatives:
        return with_negatives(events, num_negatives, num_items=dataset.num_items, seed=options.seed)
    return events


def _num_negatives(dataset: PreparedDataset, negatives_per_positive: int) -> int:
    return negatives_per_positive if dataset.manifest["label"]["only_positives"] else 0
