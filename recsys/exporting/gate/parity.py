"""The parity gate: the trained model and the file that was written must give the same answers.

Legend: B queries, I catalogue rows, K cut-off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from recsys.exporting.build import catalogue_vectors
from recsys.exporting.gate.differences import Comparison, Features, ParityError
from recsys.exporting.gate.recorded import Record, RecordedRequests, Recorder, with_unknown_ids
from recsys.models.protocols import MultiTaskModel, RankingModel, RetrievalModel, embed
from recsys.retrieval.exact import top_k
from recsys.schema.batch import Batch
from recsys.schema.feature_kinds import Role
from recsys.schema.features import ALL_ROLES, CANDIDATE_ROLES, ITEM_ID, QUERY_ROLES
from recsys.schema.jagged import JaggedColumn

_SCORED_AT_ONCE = 32
# All scores are compared; the lists made of them, for some requests of each way of asking.
_LISTS_COMPARED = 50


@dataclasses.dataclass(frozen=True)
class Parity:
    """Counts the requests that were compared, with the largest difference of a score and the lists."""

    num_requests: int
    max_difference: float
    lists: Mapping[str, Any] | None = None


@torch.no_grad()
def check_retrieval(
    model: RetrievalModel,
    program: Any,
    recorder: Recorder,
    asked: list[RecordedRequests],
    *,
    k: int,
    tolerance: float,
) -> Parity:
    """Compares scores of the whole catalogue, vectors of items, and lists of recommendations.

    Args:
        model: trained.
        program: the file, loaded again.
        recorder: of the prepared dataset.
        asked: recorded requests.
        k: length of the lists.
        tolerance: largest difference of a score, relative to scores beyond 1.

    Raises:
        ParityError: at the first difference.
    """
    catalogue = catalogue_vectors(model, recorder.dataset)
    largest = 0.0
    for requests in asked:
        history, lengths = program.known.history_rows(requests.histories)
        bags, dense = program.query_features(requests.users, history, lengths, requests.contexts)
        features = Features(bags, dense, program.query_inputs.embed(bags, len(requests)))
        comparison = _comparison(model, recorder, requests.name, requests.queries(), requests.batch, features)
        comparison.check_inputs()
        expected = model.encode_queries(requests.batch)
        found = program.encode_users(
            requests.users, requests.histories, requests.contexts, requests.times, requests.liked
        )
        for first in range(0, len(requests), _SCORED_AT_ONCE):
            rows = slice(first, first + _SCORED_AT_ONCE)
            scores = expected[rows] @ catalogue.T, found[rows] @ program.candidates.T
            largest = max(largest, comparison.check_scores(*scores, tolerance=tolerance, first_row=first))
        check_lists(program, requests, (expected, catalogue), file=recorder.file, k=k, tolerance=tolerance)
    num_items, difference = _check_items(model, program, recorder, asked[0], tolerance=tolerance)
    return Parity(sum(map(len, asked)) + num_items, max(largest, difference))


@torch.no_grad()
def check_ranking(
    model: RankingModel, program: Any, recorder: Recorder, asked: list[RecordedRequests], *, tolerance: float
) -> Parity:
    """Compares probabilities; arguments as of `check_retrieval`."""
    largest = 0.0
    for requests in asked:
        rows = requests.rows()
        bags, dense = program.features(rows)
        features = Features(bags, dense, program.network.inputs.embed(bags, len(rows)))
        comparison = _comparison(model, recorder, requests.name, rows, requests.batch, features)
        comparison.check_inputs()
        scores = torch.sigmoid(model.forward(requests.batch)), program.predict(rows)
        largest = max(largest, comparison.check_scores(*scores, tolerance=tolerance))
        if isinstance(model, MultiTaskModel):
            heads = model.every_head(requests.batch), program.network(bags, dense)
            largest = max(largest, comparison.check_scores(*heads, tolerance=tolerance))
    return Parity(sum(map(len, asked)), largest)


def check_lists(
    program: Any,
    requests: RecordedRequests,
    vectors: tuple[torch.Tensor, torch.Tensor],
    *,
    file: str,
    k: int,
    tolerance: float,
) -> None:
    """The lists that the file recommends must be the model's best, but for the order of what scores alike.

    Args:
        program: of a retrieval model.
        requests: B of them, of which some are compared.
        vectors: [B, D] of the requests and [I, D] of the catalogue, by the trained model.
        file: name of the file.
        k: length of the lists.
        tolerance: largest difference of a score.

    Raises:
        ParityError: at the first list that differs.
    """
    queries, catalogue = vectors
    chosen = slice(0, _LISTS_COMPARED)
    seen = requests.seen.at(chosen)
    if not program.excludes_history:
        seen = JaggedColumn.of_lists([[]] * len(seen))
    expected, _ = top_k(queries[chosen], catalogue, k, seen=seen)
    times, liked = (None if given is None else given[chosen] for given in (requests.times, requests.liked))
    lists, scores = program.recommend_batch(
        requests.users[chosen], requests.histories[chosen], k, requests.contexts[chosen], None, times, liked
    )
    for row, (ids, found) in enumerate(zip(lists, scores, strict=True)):
        best = expected[row][expected[row].isfinite()]
        rows = program.known.items.rows_of(ids)
        model_scores = catalogue[rows] @ queries[row]
        forbidden = set(seen.select(torch.tensor([row])).values.tolist()) | {0}
        wrong = len(ids) != len(best) or bool(forbidden & set(rows.tolist()))
        for other in () if wrong else (best, model_scores):
            difference = (other - torch.tensor(found)).abs() / other.abs().clamp(min=1.0)
            wrong = wrong or not bool((difference <= tolerance).all())
        if wrong:
            raise ParityError(
                f"`{file}` must recommend what the trained model ranks highest; but for test row "
                f"{row} ({requests.name}: {requests.queries()[row]}) it gives {ids} with the scores {found}, "
                f"where the model's best have {best.tolist()}; nothing was written"
            )


def _check_items(
    model: RetrievalModel, program: Any, recorder: Recorder, requests: RecordedRequests, *, tolerance: float
) -> tuple[int, float]:
    """Number of items whose vectors were compared, by the scores they give, and the largest difference."""
    queries = model.encode_queries(requests.batch)[:_SCORED_AT_ONCE]
    number, largest = 0, 0.0
    for name, items, batch in item_requests(recorder, len(requests)):
        bags, dense = program.item_features(items)
        features = Features(bags, dense, program.candidate.inputs.embed(bags, len(items)))
        comparison = _comparison(model, recorder, name, items, batch, features, roles=CANDIDATE_ROLES)
        comparison.check_inputs()
        scores = model.encode_candidates(batch) @ queries.T, program.encode_items(items) @ queries.T
        number, largest = (
            number + len(items),
            max(largest, comparison.check_scores(*scores, tolerance=tolerance)),
        )
    return number, largest


def item_requests(recorder: Recorder, num_items: int) -> Iterator[tuple[str, list[Record], Batch]]:
    """Items of the catalogue, at most `num_items`, evenly spaced, row 0 too, in every way of asking."""
    dataset = recorder.dataset
    rows = torch.linspace(0, dataset.num_items - 1, min(num_items, dataset.num_items)).long()
    batch = dataset.items.select(rows)
    known = [{ITEM_ID: dataset.item_ids[row]} for row in rows.tolist()]
    given = recorder.items.of(rows.tolist())
    yield "item by id alone", known, batch
    yield "item with raw values", [{**v, **i} for v, i in zip(given, known, strict=True)], batch
    strangers = [{**values, ITEM_ID: recorder.unknown[ITEM_ID]} for values in given]
    yield "unknown item with raw values", strangers, with_unknown_ids(batch)


def _comparison(
    model: Any,
    recorder: Recorder,
    name: str,
    requests: list[Any],
    batch: Batch,
    found: Features,
    *,
    roles: Any = None,
) -> Comparison:
    is_ranking = isinstance(model, RankingModel)
    assert isinstance(model, nn.Module)
    chosen: tuple[Role, ...] = roles or (ALL_ROLES if is_ranking else QUERY_ROLES)
    return Comparison(
        file=recorder.file,
        asked=name,
        requests=requests,
        batch=batch,
        embedded=embed(model, batch),
        found=found,
        schema=recorder.dataset.schema,
        roles=chosen,
    )
