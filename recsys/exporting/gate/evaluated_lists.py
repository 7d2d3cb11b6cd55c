"""check_evaluated_lists: a file must recommend what the evaluation of its model recommends, whole lists.

Evaluation and export do not know each other. Both ask what `PreparedDataset.queries` asks; what evaluation
recommends is what `recsys.retrieval.scorer.CatalogueScorer` finds best.

Legend: B queries, I catalogue rows, D dimension of their vectors, K cut-off.
"""

from __future__ import annotations

from typing import Any, cast

import torch

from recsys.exporting.gate.differences import ParityError
from recsys.exporting.gate.lists import first_difference
from recsys.exporting.gate.recorded import RecordedRequests, Recorder
from recsys.models.encoding import catalogue_scorer
from recsys.models.protocols import RetrievalModel, popularity_windows
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.scorer import CatalogueScorer

_MOST_QUERIES = 1000

Lists = tuple[list[list[Any]], list[list[float]]]


@torch.no_grad()
def check_evaluated_lists(program: Any, recorder: Recorder, *, k: int, tolerance: float) -> dict[str, Any]:
    """Compares the lists of up to a thousand held-out queries, evenly spaced, with evaluation's.

    The queries are those of the test split, or of validation where there is no test. Where vectors end in
    how popular items were of late, the file holds that as of the end of the data. Here it is given, in
    memory, what was known at each query, as evaluation does.

    Args:
        program: the file, loaded again.
        recorder: of the trained model and its dataset.
        k: length of the lists.
        tolerance: largest difference of a score; items that score alike may change places.

    Returns:
        What the manifest says: how many lists were `compared`, `of` how many, asked by `event` or by `user`,
        of which length `k`, and `with` what.

    Raises:
        ParityError: naming the first user, place and items that differ.
    """
    dataset, model = recorder.dataset, recorder.stage.model
    split = recorder.split
    queries = dataset.queries(
        split,
        history_length=recorder.stage.history_length,
        events_read=recorder.events_read,
        seen=recorder.stage.seen,
    )
    number = min(_MOST_QUERIES, len(queries))
    described = {
        "compared": number,
        "of": len(queries),
        "queries": queries.mode,
        "k": k,
        "with": f"what the evaluation of the model recommends on the {split} split",
    }
    if not number:
        return described
    asked = recorder.ask_queries(queries, torch.linspace(0, len(queries) - 1, number).round().long(), split)
    popularity = dataset.popularity(split, popularity_windows(model))
    expected = _expected_lists(recorder, asked, k, popularity)
    listed = lists_of_file(program, asked, k=k, popularity=popularity)
    for query, (ids, scores, other_ids, others) in enumerate(zip(*expected, *listed, strict=True)):
        place = first_difference((ids, scores), (other_ids, others), tolerance=tolerance)
        if place is not None:
            raise ParityError(
                f"`{recorder.file}` must recommend what the evaluation of its model does; but for query "
                f"{query} ({asked.queries()[query]}) evaluation has {_at(ids, scores, place)} at place "
                f"{place + 1}, the file {_at(other_ids, others, place)}; nothing was written"
            )
    return described


def _expected_lists(
    recorder: Recorder, asked: RecordedRequests, k: int, popularity: Popularity | None
) -> Lists:
    """Raw ids and scores by the trained model, as evaluation makes them, of B queries."""
    model = cast(RetrievalModel, recorder.stage.model)
    scorer = catalogue_scorer(model, recorder.dataset.items, popularity)
    scores_BK, rows_BK = scorer.best(model.encode_queries(asked.batch), k, batch=asked.batch)
    left_BK = scores_BK.isfinite()
    ids = [
        recorder.dataset.item_ids[rows[left].numpy()].tolist()
        for rows, left in zip(rows_BK, left_BK, strict=True)
    ]
    return ids, [scores[left].tolist() for scores, left in zip(scores_BK, left_BK, strict=True)]


def lists_of_file(program: Any, asked: RecordedRequests, *, k: int, popularity: Popularity | None) -> Lists:
    """Raw ids and scores by the file, of B queries."""
    if popularity is None:
        return _recommended(program, asked, k)
    assert asked.batch.sequences is not None
    ids: list[list[Any]] = [[] for _ in range(len(asked))]
    scores: list[list[float]] = [[] for _ in range(len(asked))]
    kept = program.candidates.clone()
    try:
        scorer = CatalogueScorer(kept, popularity)
        for chosen, candidates_ID in scorer.at(asked.batch.sequences.query_instants):
            program.candidates.copy_(candidates_ID)
            for query in chosen.tolist():
                [ids[query]], [scores[query]] = _recommended(program, asked, k, slice(query, query + 1))
    finally:
        program.candidates.copy_(kept)
    return ids, scores


def _recommended(program: Any, asked: RecordedRequests, k: int, rows: slice = slice(None)) -> Lists:
    users, histories, contexts, times, liked = asked.arguments(rows)
    lists: Lists = program.recommend_batch(users, histories, k, contexts, None, times, liked)
    return lists


def _at(ids: list[Any], scores: list[float], place: int) -> str:
    return f"item {ids[place]!r} with score {scores[place]:.8g}" if place < len(ids) else "no item"
