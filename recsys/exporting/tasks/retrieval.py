"""RetrievalExport: makes, describes and checks the program of a retrieval model.

Legend: B requests, D dimension of the vectors, L events of the longest history, S states.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from recsys.exporting.attributes import attributes_of, filters_of
from recsys.exporting.build import ProgramParts, catalogue_vectors, frozen, scripted, trained
from recsys.exporting.compiled import STATES, EmbeddedTensors, Package, TensorOf, entries_of, tensors_of
from recsys.exporting.gate.differences import Comparison
from recsys.exporting.gate.evaluated_lists import check_evaluated_lists
from recsys.exporting.gate.parity import Parity
from recsys.exporting.gate.recorded import Call, Record, RecordedRequests, Recorder, with_unknown_ids
from recsys.exporting.gate.replay import request_to
from recsys.exporting.interests import described_interests, interest_fields
from recsys.exporting.options import ExportOptions
from recsys.exporting.program.inputs import Network
from recsys.exporting.program.interests import Interests
from recsys.exporting.program.queries import ContentQuery, SequenceQuery, Weights
from recsys.exporting.program.retrieval import RetrievalProgram
from recsys.exporting.program.tensors import PackageTensors
from recsys.exporting.signature import history_of, methods_of, records_of
from recsys.exporting.stage import Stage
from recsys.metrics.ranking import find_hits, ndcg
from recsys.models.encoding import added_to
from recsys.models.protocols import (
    HybridModel,
    RetrievalModel,
    events_read,
    popularity_windows,
)
from recsys.retrieval.scorer import CatalogueScorer
from recsys.schema.batch import Batch
from recsys.schema.features import CANDIDATE_ROLES, HISTORY, ITEM_ID, QUERY_ROLES
from recsys.schema.jagged import JaggedColumn
from recsys.schema.requests import INTERESTS

_SCORED_AT_ONCE = 32
_K = 10
_ASKED_AT_ONCE = 1024


class RetrievalExport:
    """Exports a model that encodes queries and candidates."""

    has_catalogue = True

    def program(self, parts: ProgramParts) -> RetrievalProgram:
        """The module of raw values in, vectors or raw item ids out."""
        stage = parts.stage
        model = cast(RetrievalModel, stage.model)
        # NOTE: a second copy of the tower: a module has one scripted `forward` behind an interface.
        weigher = scripted(Weights(frozen(model.query_tower))) if isinstance(model, HybridModel) else None
        candidates = catalogue_vectors(model, stage.dataset)
        neighbours = added_to(model, stage.dataset.items, candidates)
        return RetrievalProgram(
            parts.known(),
            item_ids=parts.item_ids(),
            query_inputs=parts.inputs(QUERY_ROLES),
            query=parts.query(model),
            weigher=weigher,
            candidate=Network(parts.inputs(CANDIDATE_ROLES), trained(model.candidate_tower)),
            candidates=candidates,
            filters=filters_of(stage.dataset, parts.fields),
            read_fields=[*parts.fields.read(stage.dataset.schema), *described_interests(stage)],
            interests=Interests(interest_fields(stage), prefix=f"{INTERESTS}."),
            num_events=stage.dataset.item_events,
            popularity_windows=len(popularity_windows(model)),
            excludes_history=stage.seen == "exclude",
            neighbours=None if neighbours is None else frozen(neighbours),
        )

    def package(self, program: Any, stage: Stage) -> Package:
        """The query tower, to be compiled; from now on the program, not yet scripted, makes its tensors."""
        inputs, query = program.query_inputs, program.query
        entries = entries_of(inputs, stage.dataset.schema)
        program.package = PackageTensors(entries, has_requests=False)
        given = [
            TensorOf("dense", "float32", ("requests", len(inputs.dense))),
            *tensors_of(entries, "requests"),
        ]
        if isinstance(query, SequenceQuery):
            given += [
                TensorOf("history.items", "float32", ("requests", "events", query.width)),
                TensorOf("history.liked", "bool", ("requests", "events")),
                TensorOf("history.instants", "float32", ("requests", STATES)),
                TensorOf("history.times_known", "bool", ("requests",)),
                TensorOf("history.length", "int64", ("requests",)),
            ]
        if isinstance(query, ContentQuery):
            given += [
                TensorOf("history.items", "float32", ("requests", program.candidates.size(1))),
                TensorOf("history.count", "float32", ("requests", 1)),
            ]
        embedded = EmbeddedTensors(inputs, entries, stage.dataset.schema, has_requests=False)
        tower = frozen(cast(RetrievalModel, stage.model).query_tower)
        return Package(
            "retrieval.pt2",
            _QueryArithmetic(embedded, tower, query),
            given,
            TensorOf("vectors", "float32", ("requests", program.candidates.size(1))),
            ("inputs_of_users",),
        )

    def signature(self, stage: Stage) -> dict[str, Any]:
        """Methods, and the fields of users, contexts and items."""
        attributes = list(attributes_of(stage.dataset, stage.fields()))
        methods = methods_of(RetrievalProgram, stage, attributes=attributes)
        records = records_of(stage)
        records["user"] |= described_interests(stage)
        return {"methods": methods, HISTORY: history_of(stage)} | records

    @torch.no_grad()
    def check(
        self, program: Any, recorder: Recorder, asked: list[RecordedRequests], options: ExportOptions
    ) -> Parity:
        """Scores of the whole catalogue, vectors of items, and lists of recommendations."""
        model = cast(RetrievalModel, recorder.stage.model)
        catalogue = catalogue_vectors(model, recorder.dataset)
        added = added_to(model, recorder.dataset.items, catalogue)
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
                if added is not None:
                    bags = requests.batch.ids[HISTORY]
                    given = (bags.values(), bags.lengths().long()), past
                    some = [JaggedColumn.of_lengths(*history).select(rows) for history in given]
                    scores[0].add_(added(some[0].values, some[0].lengths))
                    scores[1].add_(program.added((some[1].values, some[1].lengths)))
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

    def requests(self, asked: list[RecordedRequests], options: ExportOptions) -> list[Record]:
        """Lists, and vectors of users and items."""
        each = -(-options.recorded_requests // (len(asked) + 2))
        queries = [query for some in asked for query in some.queries()[:each]]
        return [
            *(request_to("recommend", **query, k=options.k) for query in queries),
            *(request_to("encode_user", **query) for query in asked[0].queries()[:each]),
            *(request_to("encode_item", item=item) for item in asked[1].items[:each]),
        ]

    def package_call(self, requests: RecordedRequests, rows: slice) -> Call:
        """Tensors of users."""
        names = ("users", "histories", "contexts", "history_times", "history_liked")
        given = zip(names, requests.arguments(rows), strict=True)
        return "inputs_of_users", {name: values for name, values in given if values is not None}

    def item_calls(self, recorder: Recorder, requests: RecordedRequests, row: int) -> list[Call]:
        """None: items are scored by their vectors."""
        return []

    @torch.no_grad()
    def metrics_on_test(self, stage: Stage) -> dict[str, float]:
        """NDCG, with the vectors of the bundle."""
        model = cast(RetrievalModel, stage.model)
        queries = stage.dataset.queries(
            "test", history_length=stage.history_length, events_read=events_read(model), seen=stage.seen
        )
        if not len(queries):
            return {}
        catalogue = catalogue_vectors(model, stage.dataset)
        scorer = CatalogueScorer(catalogue, added=added_to(model, stage.dataset.items, catalogue))
        lists = []
        for positions in torch.split(torch.arange(len(queries)), _ASKED_AT_ONCE):
            batch = queries.batch(positions)
            _, rows = scorer.best(model.encode_queries(batch), _K, batch=batch)
            lists.append(rows.numpy())
        hits, num_relevant = find_hits(
            np.concatenate(lists),
            relevant_rows_V=queries.relevant.values.numpy(),
            relevant_offsets=queries.relevant.offsets.numpy(),
        )
        return {f"ndcg@{_K}": float(ndcg(hits, num_relevant, k=_K).mean())}


class _QueryArithmetic(nn.Module):
    """Tensors -> vectors [B, D] of users."""

    def __init__(self, embedded: EmbeddedTensors, tower: nn.Module, query: nn.Module) -> None:
        super().__init__()
        self.embedded = embedded
        self.tower = tower
        self.has_events = isinstance(query, SequenceQuery)
        self.history_names = (query.items_name, query.count_name) if isinstance(query, ContentQuery) else ()

    def forward(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """Vectors of B requests."""
        embedded, dense = self.embedded(tensors), tensors[0]
        embedded |= zip(self.history_names, tensors[-2:], strict=False)
        if not self.has_events:
            vectors: torch.Tensor = self.tower(embedded, dense)
            return vectors
        items_BLD, liked_BL, instants_BS, known_B, length_B = tensors[-5:]
        states_BSD = self.tower(embedded, dense, items_BLD, liked_BL, instants_BS, known_B)
        asked: torch.Tensor = states_BSD[torch.arange(length_B.numel()), length_B]
        return asked


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
