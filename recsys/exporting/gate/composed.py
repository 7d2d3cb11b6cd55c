"""The parity gate of a two-stage recommender: its own two stages, composed here in Python, and the file.

Each stage has been checked beside its trained model. For each request the candidates must be the first
stage's best, their probabilities those of the second stage's rows, and the list must take at each place what
`recsys.exporting.program.diverse` says, up to a tolerance.

Legend: N candidates, D dimension of their vectors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recsys.exporting.gate.differences import ParityError
from recsys.exporting.gate.parity import Parity
from recsys.exporting.gate.recorded import Record, Recorder, unknown_id
from recsys.exporting.gate.shared_rows import shared_rows
from recsys.exporting.options import ExportOptions
from recsys.exporting.stage import Stage
from recsys.models.protocols import popularity_windows
from recsys.retrieval.parts import taste
from recsys.schema.features import HISTORY, ITEM_ID, USER_ID

Floats = npt.NDArray[np.float64]

_ROWS_COMPARED = 49
# Lists spread like this are compared for some requests too, whatever the bundle does unasked.
_DIVERSITY = 0.3
_SPREAD_LISTS = 5
_FEW_ITEMS = 1000


@dataclasses.dataclass(frozen=True)
class TwoStageRequest:
    """One request, as the two stages together take it and as the second takes it alone.

    Args:
        name: of the way of asking, and the number of the row.
        arguments: of `recommend`, but for those that say how the list is made.
        row: fields of the user and the context of a row of the ranking model, and `history`.
    """

    name: str
    arguments: Record
    row: Record


def ask_both(retrieval: Stage, ranking: Stage, *, file: str, num_rows: int) -> list[list[TwoStageRequest]]:
    """Rows that both datasets hold out (about `num_rows`, 50 at most), a list for every way of asking.

    Statistics of a user and an item are left out: a request for a list can't give them.
    """
    recorders = [
        Recorder(retrieval, file, flat=False),
        *(Recorder(ranking, file, flat=f) for f in (False, True)),
    ]
    for name, ids in ((USER_ID, "user_ids"), (ITEM_ID, "item_ids")):
        unknown = unknown_id([*getattr(retrieval.dataset, ids), *getattr(ranking.dataset, ids)])
        for recorder in recorders:
            recorder.unknown[name] = unknown
    ours, theirs = shared_rows(retrieval.dataset, ranking.dataset, num_rows=min(num_rows, _ROWS_COMPARED))
    asked = [
        recorder.ask_rows(*rows) for recorder, rows in zip(recorders, (ours, theirs, theirs), strict=True)
    ]
    of_pairs = {*recorders[1].fields.columns["pair"].values(), *recorders[2].fields.columns["pair"].values()}

    def without_pairs(context: Record) -> Record:
        return {field: value for field, value in context.items() if field not in of_pairs}

    by_way = []
    for first, second, flat in zip(*asked, strict=True):
        requests = []
        for at, query in enumerate(first.queries()):
            user = {**second.users[at], **query["user"]}
            context = {**without_pairs(second.contexts[at]), **query["context"]}
            is_liked = query.get("history_liked") or [True] * len(query[HISTORY])
            # As text: a row takes no list of mixed types.
            liked = [str(item_id) for item_id, good in zip(query[HISTORY], is_liked, strict=True) if good]
            row = {**flat.users[at], **without_pairs(flat.contexts[at]), HISTORY: liked or None}
            arguments = {**query, "user": user, "context": context}
            requests.append(TwoStageRequest(f"{at} ({first.name}: {arguments})", arguments, row))
        by_way.append(requests)
    return by_way


@torch.no_grad()
def check_two_stage(
    program: Any, retrieval: Stage, asked: list[list[TwoStageRequest]], options: ExportOptions
) -> Parity:
    """Compares the answers of two stages together with those of each.

    Args:
        program: the file, loaded again; each of its stages has been checked.
        retrieval: the first stage.
        asked: recorded requests, by way of asking.
        options: of `export.`.

    Raises:
        ParityError: at the first difference.
    """
    gate = _TwoStageGate(program, retrieval, options)
    for requests in asked:
        for number, request in enumerate(requests):
            gate.check(request, options.k, diversities=[_DIVERSITY] if number < _SPREAD_LISTS else [])
        gate.check_ends(requests[0])
    return Parity(gate.num_lists, gate.largest)


@dataclasses.dataclass
class _TwoStageGate:
    """Compares lists; counts them, and keeps the largest difference of a probability."""

    program: Any
    retrieval: Stage
    options: ExportOptions
    largest: float = 0.0
    num_lists: int = 0

    def check(
        self,
        request: TwoStageRequest,
        k: int,
        *,
        exclude: list[Any] | None = None,
        diversities: Sequence[float] = (),
    ) -> list[Any]:
        """The candidates, once the lists of each of the diversities and of the bundle's were compared."""
        asked = request.arguments if exclude is None else {**request.arguments, "exclude": exclude}
        wanted = max(k, self.options.num_candidates)
        candidates, scores = self.program.retrieval.recommend(**asked, k=wanted)
        rows = [{**request.row, ITEM_ID: item_id} for item_id in candidates]
        probabilities = self.program.ranking.predict(rows).double().numpy()
        for diversity in (None, *diversities):
            answer = self.program.recommend(**asked, k=k, diversity=diversity)
            weight = self.options.diversity if diversity is None else diversity
            problem = self._problem(answer, (candidates, scores, probabilities), k, weight)
            self.num_lists += 1
            if problem:
                raise ParityError(
                    "`recommender.pt` must answer as its two stages composed do; but for test row "
                    f"{request.name}, k={k}, diversity={weight:g}, {len(exclude or [])} items excluded, "
                    f"{problem}; nothing was written"
                )
        return list(candidates)

    def check_ends(self, request: TwoStageRequest) -> None:
        """Compares lists where everything is excluded, and where more is asked for than there is."""
        ids = self.retrieval.dataset.item_ids[1:].tolist()
        few = ids[:_FEW_ITEMS]
        for k, exclude, left in ((self.options.k, ids, []), (len(ids) + 5, ids[_FEW_ITEMS:], few)):
            expected = set(left)
            if self.program.retrieval.excludes_history:
                expected -= set(request.arguments[HISTORY])
            candidates = self.check(request, k, exclude=exclude, diversities=[_DIVERSITY])
            if set(candidates) != expected:
                raise ParityError(
                    "`recommender.pt` must rank all that neither request nor history excludes; but for test "
                    f"row {request.name}, {len(exclude)} items excluded, it has {len(candidates)} candidates"
                    f", not {len(expected)}; nothing was written"
                )

    def _problem(
        self,
        answer: tuple[list[Any], list[float], list[float], list[str]],
        expected: tuple[list[Any], list[float], Floats],
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
        difference = np.abs(np.array(probabilities) - expected_probabilities[chosen])
        if not bool((difference <= self.options.tolerance).all()):
            return f"it gives the probabilities {probabilities}, which are not those of {ids}"
        self.largest = max(self.largest, *difference, 0.0)
        if not np.allclose(
            scores,
            np.array(expected_scores)[chosen],
            rtol=self.options.tolerance,
            atol=self.options.tolerance,
        ):
            return f"it gives the retrieval scores {scores}, which are not those of {ids}"
        if [place < k for place in chosen] != [source == "retrieval" for source in sources]:
            return f"it gives the sources {sources} of what is at {chosen} of the candidates"
        rows = self.program.retrieval.known.rows_of_items(candidates)
        alike = taste(self.program.retrieval.candidates[rows], len(popularity_windows(self.retrieval.model)))
        wrong = first_wrong_pick(
            expected_probabilities,
            alike.double().numpy(),
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
