"""The parity gate of a two-stage recommender: the trained models, composed here in Python, and the file.

For each request the candidates must be the retrieval model's best, their probabilities the ranking model's,
and the list must take at each place what `recsys.exporting.program.diverse` says, up to a tolerance.

Legend: B requests, N candidates, I catalogue rows, D dimension of their vectors, K cut-off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from recsys.exporting.build import catalogue_vectors
from recsys.exporting.bundle import recorder_of
from recsys.exporting.gate.differences import Comparison, Features, ParityError
from recsys.exporting.gate.parity import Parity, check_lists
from recsys.exporting.gate.recorded import Record, RecordedRequests, unknown_id, with_unknown_ids
from recsys.exporting.gate.shared_rows import shared_rows
from recsys.exporting.options import ExportOptions
from recsys.exporting.stages import Stage, names_for_ranker
from recsys.models.protocols import RankingModel, RetrievalModel, embed, popularity_windows
from recsys.schema.batch import Batch
from recsys.schema.features import ALL_ROLES, HISTORY, ITEM_ID, USER_ID
from recsys.schema.jagged import JaggedColumn

Floats = npt.NDArray[np.float64]

RECOMMENDER_FILE = "recommender.pt"
_ROWS_COMPARED = 49
# Lists spread like this are compared for some requests too, whatever the bundle does unasked.
_DIVERSITY = 0.3
_SPREAD_LISTS = 5
_FEW_ITEMS = 1000


@dataclasses.dataclass(frozen=True)
class AskedTwice:
    """B requests asked in one way, as both trained models take them.

    Args:
        retrieval, ranking: of the same events.
        pair_fields: statistics of user and item, which a request for a list can't give.
    """

    retrieval: RecordedRequests
    ranking: RecordedRequests
    pair_fields: frozenset[str]

    def queries(self) -> list[Record]:
        """Each request as the arguments of `recommend`: what either model reads."""
        found = []
        parts = zip(self.retrieval.queries(), self.ranking.users, self.ranking.contexts, strict=True)
        for query, user, context in parts:
            given = {field: value for field, value in context.items() if field not in self.pair_fields}
            user, context = {**user, **query["user"]}, {**given, **query["context"]}
            found.append({**query, "user": user, "context": context})
        return found


def ask_both(retrieval: Stage, ranking: Stage, *, num_rows: int) -> list[AskedTwice]:
    """Rows that both datasets hold out (about `num_rows`, 50 at most), in every way of asking."""
    recorders = [
        recorder_of(
            stage.model,
            stage.dataset,
            file=RECOMMENDER_FILE,
            history_length=stage.history_length,
            flat=False,
        )
        for stage in (retrieval, ranking)
    ]
    known = [
        {USER_ID: stage.dataset.user_ids, ITEM_ID: stage.dataset.item_ids} for stage in (retrieval, ranking)
    ]
    for name in (USER_ID, ITEM_ID):
        unknown = unknown_id([*known[0][name], *known[1][name]])
        for recorder in recorders:
            recorder.unknown[name] = unknown
    rows = shared_rows(retrieval.dataset, ranking.dataset, num_rows=min(num_rows, _ROWS_COMPARED))
    asked = [recorder.ask_rows(*held) for recorder, held in zip(recorders, rows, strict=True)]
    pair_fields = frozenset(ranking.fields(flat=False).columns["pair"].values())
    return [AskedTwice(first, second, pair_fields) for first, second in zip(*asked, strict=True)]


@dataclasses.dataclass(frozen=True)
class Request:
    """One request.

    Args:
        name: of the way of asking.
        number: of the row.
        arguments: of `recommend`, but for the rest.
        ranking: all requests of this way as the ranking model takes them.
    """

    name: str
    number: int
    arguments: Record
    ranking: RecordedRequests

    @property
    def liked(self) -> list[Any]:
        """The history as the ranking model is shown it."""
        history, liked = self.arguments[HISTORY], self.arguments.get("history_liked")
        if liked is None:
            return list(history)
        return [item_id for item_id, is_liked in zip(history, liked, strict=True) if is_liked]


@dataclasses.dataclass
class TrainedStages:
    """Both trained models beside the file.

    Args:
        retrieval, ranking: trained.
        program: the file, loaded again.
        options: of `export.`.
    """

    retrieval: Stage
    ranking: Stage
    program: Any
    options: ExportOptions

    def __post_init__(self) -> None:
        self.rows, self.ranker_rows = (
            {str(item_id): row for row, item_id in enumerate(stage.dataset.item_ids) if row}
            for stage in (self.retrieval, self.ranking)
        )
        self.collator = self.ranking.dataset.collator(self.ranking.history_length)
        self.has_pairs = any(feature.role == "pair" for feature in self.ranking.dataset.schema.features)
        self.largest = 0.0
        self.num_requests = 0

    @cached_property
    def catalogue(self) -> torch.Tensor:
        """[I, D] vectors of the catalogue by the trained model."""
        return catalogue_vectors(cast(RetrievalModel, self.retrieval.model), self.retrieval.dataset)

    def check(
        self, request: Request, *, k: int, exclude: list[Any] | None = None, diversities: Sequence[float] = ()
    ) -> list[Any]:
        """Compares the answers to a request, for each of the diversities and the one of the bundle.

        Returns:
            The candidates.

        Raises:
            ParityError: naming the request and what differs.
        """
        asked = request.arguments if exclude is None else {**request.arguments, "exclude": exclude}
        wanted = max(k, self.options.num_candidates)
        candidates, scores = self.program.retrieval.recommend(**asked, k=wanted)
        probabilities = self.probabilities(request, candidates)
        for diversity in (None, *diversities):
            answer = self.program.recommend(**asked, k=k, diversity=diversity)
            weight = self.options.diversity if diversity is None else diversity
            problem = self._problem(answer, (candidates, scores, probabilities), k=k, diversity=weight)
            self.num_requests += 1
            if problem:
                raise ParityError(
                    f"`{RECOMMENDER_FILE}` must answer as the two trained models composed do; but for test "
                    f"row {request.number} ({request.name}: {request.arguments}, k={k}, "
                    f"diversity={weight:g}, {len(exclude or [])} items excluded) {problem}; "
                    "nothing was written"
                )
        return list(candidates)

    def probabilities(self, request: Request, candidates: list[Any]) -> torch.Tensor:
        """[N] by the trained ranking model; those of the file must be the same.

        Statistics of a user and an item are prepared for events alone, not for every candidate: where there
        are some, the file's rows, one a candidate, stand in for it. `check_observing` has checked them.
        """
        if not candidates:
            return torch.zeros(0)
        rows = torch.tensor([self.rows[str(item_id)] for item_id in candidates])
        user, context = request.arguments["user"], request.arguments["context"]
        found = self.program.probabilities(user, context, request.liked, rows)
        if self.has_pairs:
            expected: torch.Tensor = self.program.ranking.predict(self._flat_rows(request, candidates))
            agrees = bool(((expected - found).abs() <= self.options.tolerance).all())
            if not agrees:
                raise ParityError(
                    f"`{RECOMMENDER_FILE}` must rank candidates as it predicts rows; but for test row "
                    f"{request.number} ({request.name}: {request.arguments}) it gives {found.tolist()}, "
                    f"rows {expected.tolist()}; nothing was written"
                )
        else:
            batch = self._batch(request, candidates)
            expected = torch.sigmoid(cast(RankingModel, self.ranking.model).forward(batch))
            if not bool(((expected - found).abs() <= self.options.tolerance).all()):
                self._refuse(request, candidates, batch, expected=expected, found=found)
        self.largest = max(self.largest, float((expected - found).abs().max()))
        return expected

    def _batch(self, request: Request, candidates: list[Any]) -> Batch:
        """The candidates as the trained ranking model takes them."""
        size = len(candidates)
        rows = torch.tensor([self.ranker_rows.get(str(item_id), 0) for item_id in candidates])
        events = request.ranking.events.select(torch.full((size,), request.number)).replace(item_rows=rows)
        liked = [self.ranker_rows.get(str(item_id), 0) for item_id in request.liked]
        history = torch.tensor(liked[-self.ranking.history_length :], dtype=torch.int64)
        visible = JaggedColumn.of_lengths(history.repeat(size), torch.full((size,), len(history)))
        batch = self.collator.rows(events, visible)
        return with_unknown_ids(batch, [USER_ID]) if request.ranking.is_stranger else batch

    def _flat_rows(self, request: Request, candidates: list[Any]) -> list[Record]:
        row: Record = {HISTORY: request.liked or None}
        for part in ("user", "context"):
            names = names_for_ranker(self.retrieval, self.ranking, part)
            row |= {names.get(field, field): value for field, value in request.arguments[part].items()}
        return [{**row, ITEM_ID: item_id} for item_id in candidates]

    def _refuse(
        self,
        request: Request,
        candidates: list[Any],
        batch: Batch,
        *,
        expected: torch.Tensor,
        found: torch.Tensor,
    ) -> None:
        rows = torch.tensor([self.rows[str(item_id)] for item_id in candidates])
        user, context = request.arguments["user"], request.arguments["context"]
        bags, dense = self.program.ranker_features(user, context, request.liked, rows)
        embedded = self.program.ranking.network.inputs.embed(bags, len(candidates))
        comparison = Comparison(
            file=RECOMMENDER_FILE,
            asked=request.name,
            requests=[{**request.arguments, ITEM_ID: item_id} for item_id in candidates],
            batch=batch,
            embedded=embed(self.ranking.model, batch),
            found=Features(
                {name: _for_each(bag, len(candidates)) for name, bag in bags.items()}, dense, embedded
            ),
            schema=self.ranking.dataset.schema,
            roles=ALL_ROLES,
            what=f"test row {request.number}, candidate",
        )
        comparison.check_inputs()
        comparison.check_scores(expected, found, tolerance=self.options.tolerance)

    def _problem(
        self,
        answer: tuple[list[Any], list[float], list[float], list[str]],
        expected: tuple[list[Any], list[float], torch.Tensor],
        *,
        k: int,
        diversity: float,
    ) -> str | None:
        """Says what is wrong with an answer, given candidates, retrieval scores and probabilities."""
        ids, probabilities, scores, sources = answer
        candidates, expected_scores, expected_probabilities = expected
        places = {str(item_id): place for place, item_id in enumerate(candidates)}
        chosen = [places.get(str(item_id), -1) for item_id in ids]
        if len(ids) != min(k, len(candidates)):
            return f"it gives {len(ids)} items of {len(candidates)} candidates"
        if -1 in chosen or len(set(chosen)) != len(chosen):
            return f"it gives items that are no candidates, or one of them twice: {ids}"
        if not _alike(probabilities, expected_probabilities.double().numpy()[chosen], self.options.tolerance):
            return f"it gives the probabilities {probabilities}, which are not those of {ids}"
        if not _alike(scores, np.array(expected_scores)[chosen], self.options.tolerance):
            return f"it gives the retrieval scores {scores}, which are not those of {ids}"
        if [place < k for place in chosen] != [source == "retrieval" for source in sources]:
            return f"it gives the sources {sources} of what is at {chosen} of the candidates"
        vectors = self.catalogue[[self.rows[str(item_id)] for item_id in candidates]]
        width = vectors.shape[1] - len(popularity_windows(self.retrieval.model)) if len(vectors) else 0
        wrong = first_wrong_pick(
            expected_probabilities.double().numpy(),
            vectors[:, :width].double().numpy() if len(vectors) else np.zeros((0, 1)),
            chosen,
            diversity=diversity,
            tolerance=2 * self.options.tolerance,
        )
        return None if wrong is None else f"{ids[wrong]!r} at place {wrong + 1} is not the best that is left"


def first_wrong_pick(
    probabilities_N: Floats, vectors_ND: Floats, chosen: list[int], *, diversity: float, tolerance: float
) -> int | None:
    """The first place of a list where another candidate would have been better by more than `tolerance`."""
    unit = vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
    closest = np.full(len(probabilities_N), -1.0)
    is_left = np.ones(len(probabilities_N), dtype=bool)
    for place, position in enumerate(chosen):
        values = (1 - diversity) * probabilities_N - diversity * closest
        if not values[position] >= values[is_left].max() - tolerance:
            return place
        is_left[position] = False
        closest = np.maximum(closest, unit @ unit[position])
    return None


@torch.no_grad()
def check_two_stage(
    retrieval: Stage, ranking: Stage, program: Any, asked: list[AskedTwice], options: ExportOptions
) -> Parity:
    """Compares the answers of two stages with those of the trained models.

    Args:
        retrieval: the first stage, trained.
        ranking: the second.
        program: the file, loaded again.
        asked: recorded requests.
        options: of `export.`.

    Raises:
        ParityError: at the first difference.
    """
    composed = TrainedStages(retrieval, ranking, program, options)
    model = cast(RetrievalModel, retrieval.model)
    for both in asked:
        vectors = model.encode_queries(both.retrieval.batch), composed.catalogue
        wanted = max(options.k, options.num_candidates)
        check_lists(
            program.retrieval,
            both.retrieval,
            vectors,
            file=RECOMMENDER_FILE,
            k=wanted,
            tolerance=options.tolerance,
        )
        for number, arguments in enumerate(both.queries()):
            request = Request(both.retrieval.name, number, arguments, both.ranking)
            spread = [_DIVERSITY] if number < _SPREAD_LISTS else []
            composed.check(request, k=options.k, diversities=spread)
            if number == 0:
                _check_ends(composed, request)
    return Parity(composed.num_requests, composed.largest)


def _check_ends(composed: TrainedStages, request: Request) -> None:
    """Everything is excluded; and more is asked for than the catalogue has."""
    ids = composed.retrieval.dataset.item_ids[1:].tolist()
    few = ids[:_FEW_ITEMS]
    for k, exclude, left in ((composed.options.k, ids, []), (len(ids) + 5, ids[_FEW_ITEMS:], few)):
        is_excluded = composed.program.retrieval.excludes_history
        expected = set(left) - (set(request.arguments[HISTORY]) if is_excluded else set())
        candidates = composed.check(request, k=k, exclude=exclude, diversities=[_DIVERSITY])
        if set(candidates) != expected:
            raise ParityError(
                f"`{RECOMMENDER_FILE}` must rank all that neither request nor history excludes; but for test "
                f"row {request.number} ({request.name}: {request.arguments}, {len(exclude)} items excluded) "
                f"it has {len(candidates)} candidates, not {len(expected)}; nothing was written"
            )


def _for_each(bag: tuple[torch.Tensor, torch.Tensor], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The bags of each of `size` candidates; one bag stands for all."""
    values, lengths = bag
    return bag if len(lengths) == size else (values.repeat(size), lengths.repeat(size))


def _alike(found: list[float], expected: Floats, tolerance: float) -> bool:
    difference = np.abs(np.array(found) - expected)
    return bool((difference <= tolerance * np.maximum(1.0, np.abs(expected))).all())
