"""The parity gate: the trained model and the file that was written must give the same answers.

Legend: B queries, I catalogue rows, N items.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch

from recsys.exporting.build import catalogue_vectors
from recsys.exporting.gate.differences import Comparison
from recsys.exporting.gate.evaluated_lists import check_evaluated_lists
from recsys.exporting.gate.observing import check_observing
from recsys.exporting.gate.recorded import Record, RecordedRequests, Recorder, with_unknown_ids
from recsys.exporting.gate.sentences import check_sentences
from recsys.exporting.options import ExportOptions
from recsys.models.protocols import MultiTaskModel, RankingModel, RetrievalModel
from recsys.schema.batch import Batch
from recsys.schema.features import ALL_ROLES, CANDIDATE_ROLES, ITEM_ID, QUERY_ROLES

_SCORED_AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class Parity:
    """Counts the requests that were compared, with the largest difference of a score and the lists."""

    num_requests: int
    max_difference: float
    lists: Mapping[str, Any] | None = None

    def describe(self, options: ExportOptions) -> dict[str, Any]:
        """Describes the comparison with the trained models, for a manifest."""
        described = {
            "requests": self.num_requests,
            "max_difference": self.max_difference,
            "tolerance": options.tolerance,
        }
        return described if self.lists is None else {**described, "lists": dict(self.lists)}


@torch.no_grad()
def check_stage(
    program: Any, recorder: Recorder, asked: list[RecordedRequests], options: ExportOptions
) -> Parity:
    """Compares what a file of one model, or one stage of a file, answers with the trained model.

    Args:
        program: the file or the stage of it, loaded again.
        recorder: of the trained model and its dataset.
        asked: recorded requests.
        options: of `export.`.

    Raises:
        ParityError: at the first difference.
    """
    check_sentences(recorder.dataset)
    if not recorder.stage.is_ranking:
        return _check_retrieval(program, recorder, asked, options)
    largest = _check_ranking(program, recorder, asked, options.tolerance)
    if recorder.dataset.schema.statistics:
        check_observing(program, recorder.stage, num_rows=options.parity_rows)
    return Parity(sum(map(len, asked)), largest)


def _check_retrieval(
    program: Any, recorder: Recorder, asked: list[RecordedRequests], options: ExportOptions
) -> Parity:
    """Scores of the whole catalogue, vectors of items, and lists of recommendations."""
    model = cast(RetrievalModel, recorder.stage.model)
    catalogue = catalogue_vectors(model, recorder.dataset)
    largest = 0.0
    for requests in asked:
        past = program.known.history_rows(requests.histories)
        features = program.query_features(requests.users, *past, requests.contexts)
        comparison = Comparison(
            *(recorder, requests.name, requests.queries(), requests.batch),
            *(program.query_inputs, features, QUERY_ROLES),
        )
        comparison.check_inputs()
        expected = model.encode_queries(requests.batch)
        found = program.encode_users(*requests.arguments())
        for first in range(0, len(requests), _SCORED_AT_ONCE):
            rows = slice(first, first + _SCORED_AT_ONCE)
            scores = expected[rows] @ catalogue.T, found[rows] @ program.candidates.T
            difference = comparison.check_scores(*scores, tolerance=options.tolerance, first_row=first)
            largest = max(largest, difference)
    queries = model.encode_queries(asked[0].batch)[:_SCORED_AT_ONCE]
    num_items = 0
    for name, items, batch in _item_requests(recorder, len(asked[0])):
        features, inputs = program.item_features(items), program.candidate.inputs
        comparison = Comparison(recorder, name, items, batch, inputs, features, CANDIDATE_ROLES)
        comparison.check_inputs()
        scores = model.encode_candidates(batch) @ queries.T, program.encode_items(items) @ queries.T
        largest = max(largest, comparison.check_scores(*scores, tolerance=options.tolerance))
        num_items += len(items)
    lists = check_evaluated_lists(program, recorder, k=options.k, tolerance=options.tolerance)
    return Parity(sum(map(len, asked)) + num_items, largest, lists)


def _check_ranking(
    program: Any, recorder: Recorder, asked: list[RecordedRequests], tolerance: float
) -> float:
    """Probabilities, and the outputs of all heads; the largest difference."""
    model = cast(RankingModel, recorder.stage.model)
    largest = 0.0
    for requests in asked:
        rows = requests.rows()
        features = program.features(rows)
        comparison = Comparison(
            *(recorder, requests.name, rows, requests.batch, program.network.inputs, features, ALL_ROLES)
        )
        comparison.check_inputs()
        answers = [(torch.sigmoid(model.forward(requests.batch)), program.predict(rows))]
        if isinstance(model, MultiTaskModel):
            answers.append((model.every_head(requests.batch), program.network(*features)))
        for expected, found in answers:
            largest = max(largest, comparison.check_scores(expected, found, tolerance=tolerance))
    return largest


def _item_requests(recorder: Recorder, num_items: int) -> Iterator[tuple[str, list[Record], Batch]]:
    """Items of the catalogue, at most `num_items`, evenly spaced, row 0 too, in every way of asking."""
    dataset = recorder.dataset
    rows = torch.linspace(0, dataset.num_items - 1, min(num_items, dataset.num_items)).long()
    batch = dataset.items.select(rows)
    known = [{ITEM_ID: dataset.item_ids[row]} for row in rows.tolist()]
    given = recorder.values_of_items(rows)
    yield "item by id alone", known, batch
    yield "item with raw values", [{**v, **i} for v, i in zip(given, known, strict=True)], batch
    strangers = [{**values, ITEM_ID: recorder.unknown[ITEM_ID]} for values in given]
    yield "unknown item with raw values", strangers, with_unknown_ids(batch)
