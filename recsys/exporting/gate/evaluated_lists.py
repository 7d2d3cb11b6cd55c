"""check_evaluated_lists: a file must recommend what the evaluation of its model recommends, whole lists.

Evaluation and export do not know each other. Both ask what `PreparedDataset.queries` asks; what evaluation
recommends is `recsys.retrieval.popularity.answers` to that.

Legend: B queries, I catalogue rows, D dimension of their vectors, K cut-off.
"""

from __future__ import annotations

from typing import Any

import torch

from recsys.exporting.build import catalogue_vectors
from recsys.exporting.gate.differences import ParityError
from recsys.exporting.gate.lists import first_difference
from recsys.exporting.gate.recorded import RecordedRequests, Recorder
from recsys.models.protocols import RetrievalModel, popularity_windows
from recsys.retrieval.popularity import Popularity, answers

_MOST_QUERIES = 1000

Lists = tuple[list[list[Any]], list[list[float]]]


@torch.no_grad()
def check_evaluated_lists(
    model: RetrievalModel, program: Any, recorder: Recorder, *, k: int, tolerance: float
) -> dict[str, Any]:
    """Compares the lists of up to a thousand queries of the test split, evenly spaced, with evaluation's.

    Where vectors end in how popular items were of late, the file holds that as of the end of the data. Here
    it is given, in memory, what was known at each query, as evaluation does.

    Args:
        model: trained.
        program: the file, loaded again.
        recorder: of the prepared dataset.
        k: length of the lists.
        tolerance: largest difference of a score; items that score alike may change places.

    Returns:
        What the manifest says: how many lists were `compared`, `of` how many, asked by `event` or by `user`,
        of which length `k`, and `with` what.

    Raises:
        ParityError: naming the first user, place and items that differ.
    """
    dataset = recorder.dataset
    queries = dataset.queries(
        "test",
        history_length=recorder.history_length,
        events_read=recorder.events_read,
        seen="exclude" if program.excludes_history else "keep",
    )
    number = min(_MOST_QUERIES, len(queries))
    said = {
        "compared": number,
        "of": len(queries),
        "queries": queries.mode,
        "k": k,
        "with": "what the evaluation of the model recommends on the test split",
    }
    if not number:
        return said
    asked = recorder.ask_queries(queries, torch.linspace(0, len(queries) - 1, number).round().long())
    popularity = dataset.popularity("test", popularity_windows(model))
    expected = expected_lists(model, recorder, asked, k=k, popularity=popularity)
    found = found_lists(program, asked, k=k, popularity=popularity)
    for number, lists in enumerate(zip(*expected, *found, strict=True)):
        ids, scores, other_ids, others = lists
        place = first_difference((ids, scores), (other_ids, others), tolerance=tolerance)
        if place is not None:
            here = _at(ids, scores, place), _at(other_ids, others, place)
            raise ParityError(
                f"`{recorder.file}` must recommend what the evaluation of its model does; but for query "
                f"{number} ({asked.queries()[number]}) evaluation has {here[0]} at place {place + 1}, the "
                f"file {here[1]}; nothing was written"
            )
    return said


def expected_lists(
    model: RetrievalModel,
    recorder: Recorder,
    asked: RecordedRequests,
    *,
    k: int,
    popularity: Popularity | None,
) -> Lists:
    """Raw ids and scores by the trained model, as evaluation makes them, of B queries."""
    scores_BK, rows_BK = answers(
        model.encode_queries(asked.batch),
        catalogue_vectors(model, recorder.dataset),
        k,
        batch=asked.batch,
        popularity=popularity,
    )
    left_BK = scores_BK.isfinite()
    pairs = list(zip(rows_BK, scores_BK, left_BK, strict=True))
    ids = [recorder.dataset.item_ids[rows_K[left_K].numpy()].tolist() for rows_K, _, left_K in pairs]
    return ids, [scores_K[left_K].tolist() for _, scores_K, left_K in pairs]


def found_lists(program: Any, asked: RecordedRequests, *, k: int, popularity: Popularity | None) -> Lists:
    """Raw ids and scores by the file, of B queries."""
    if popularity is None:
        return _recommend(program, asked, list(range(len(asked))), k)
    assert asked.batch.sequences is not None
    ids: list[list[Any]] = [[] for _ in range(len(asked))]
    scores: list[list[float]] = [[] for _ in range(len(asked))]
    kept = program.candidates.clone()
    try:
        for chosen, filled_ID in popularity.candidates_at(kept, asked.batch.sequences.query_instants):
            program.candidates.copy_(filled_ID)
            lists = _recommend(program, asked, chosen.tolist(), k)
            for number, its_ids, its_scores in zip(chosen.tolist(), *lists, strict=True):
                ids[number], scores[number] = its_ids, its_scores
    finally:
        program.candidates.copy_(kept)
    return ids, scores


def _recommend(program: Any, asked: RecordedRequests, chosen: list[int], k: int) -> Lists:
    parts = (asked.users, asked.histories, asked.contexts, asked.times, asked.liked)
    users, histories, contexts, times, liked = (
        None if part is None else [part[number] for number in chosen] for part in parts
    )
    found: Lists = program.recommend_batch(users, histories, k, contexts, None, times, liked)
    return found


def _at(ids: list[Any], scores: list[float], place: int) -> str:
    return f"item {ids[place]!r} with score {scores[place]:.8g}" if place < len(ids) else "no item"
