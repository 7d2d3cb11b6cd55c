"""Judges a hybrid while readers and items are new: curves by the number of events, beside both of its sides.

A reader's curve replays their first events through the model, without training: with none, one, two and so on
of the history known, the same answer is asked for. An item's curve is about answers by their train positives.
The two sides are the model with the items' gate held at 0 (content alone) and at 1 (behaviour alone); a model
that adds neighbours is judged without them, too, as its sides are.

Legend: Q queries, K cut-off, I catalogue.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from recsys.data.dataset import PreparedDataset
from recsys.data.queries import Queries
from recsys.evaluation.baselines import FittedBaseline, fit_baseline
from recsys.evaluation.candidates import Mask, candidate_mask
from recsys.evaluation.options import Baseline, EvaluationOptions
from recsys.evaluation.recommendations import Lists, recommend
from recsys.evaluation.summary import Bootstrap
from recsys.metrics.ranking import find_hits, ranking_metrics
from recsys.models.protocols import HybridModel, neighbours_of
from recsys.schema.jagged import JaggedColumn
from recsys.schema.rungs import FEW_EVENTS, PERSONAL, PROFILE, rung_name

STEPS = (0, 1, 2, 3, 5, 8, 20)
CONTENT, BEHAVIOUR, VECTORS = "content_alone", "behaviour_alone", "without_neighbours"
_FORCED = {CONTENT: 0.0, BEHAVIOUR: 1.0}
_BASELINES: tuple[Baseline, ...] = ("popularity", "item_knn", "content_knn")
_METRICS = ("ndcg", "hit_rate")
# Queries of a step: intervals of about a hundredth.
_MOST_QUERIES = 2000

Answers = dict[str, Lists]


def warm_up_of(
    model: HybridModel, dataset: PreparedDataset, queries: Queries, options: EvaluationOptions
) -> dict[str, Any]:
    """Curves of readers and of items, for `metrics.json`.

    Args:
        model: a hybrid in evaluation mode; its gate is put back.
        dataset: what it was trained on.
        queries: of the test split.
        options: cut-off, baselines' keys and intervals.

    Returns:
        `users` and `items`, a list each of `{events, queries, weight, systems}` where a system has `metrics`
        and `intervals`; `rungs`, likewise with `rung` and its `share` in place of events.
    """
    fitted = {name: fit_baseline(name, dataset, options) for name in _BASELINES}
    systems = _Systems(
        model,
        dataset,
        options,
        {name: one for name, one in fitted.items() if isinstance(one, FittedBaseline)},
    )
    asked = queries.draw(_MOST_QUERIES, seed=options.seed)
    answers = systems.answer(asked)
    return {
        "cut_off": options.main_k,
        "users": list(_users(systems, queries)),
        "items": list(_items(systems, asked, answers)),
        "rungs": list(_rungs(systems, asked, answers)),
    }


@dataclasses.dataclass
class _Systems:
    """The model, its two sides and the baselines."""

    model: HybridModel
    dataset: PreparedDataset
    options: EvaluationOptions
    baselines: Mapping[str, FittedBaseline]

    def answer(self, queries: Queries) -> Answers:
        """Lists of all of them."""
        answers = {"model": self._of_model(queries)}
        has_neighbours = neighbours_of(self.model) is not None
        with _without_neighbours(self.model):
            if has_neighbours:
                answers[VECTORS] = self._of_model(queries)
            for name, weight in _FORCED.items():
                with _held(self.model, weight):
                    answers[name] = self._of_model(queries)
        for name, fitted in self.baselines.items():
            answers[name] = fitted.recommend(queries, self.options.main_k)
        return answers

    def _of_model(self, queries: Queries) -> Lists:
        return recommend(
            cast(nn.Module, self.model),
            self.dataset,
            queries,
            k=self.options.main_k,
            batch_size=self.options.batch_size,
            candidates_I=candidate_mask(self.dataset, self.options),
        )

    def figures(self, queries: Queries, answers: Answers, items_I: Mask | None = None) -> dict[str, Any]:
        """`{metrics, intervals}` of each system; where items are given, of relevant ones among these."""
        found = {}
        for name, lists in answers.items():
            hits_QK, num_relevant_Q = _hits(lists, queries, items_I)
            asked_Q = num_relevant_Q > 0
            values = ranking_metrics(
                hits_QK[asked_Q], num_relevant_Q[asked_Q], ks=[self.options.main_k], names=_METRICS
            )
            bootstrap = Bootstrap(queries.events.history_rows.numpy()[asked_Q], self.options)
            found[name] = bootstrap.block(bootstrap.means(values), keys=list(values))
        return found


def _users(systems: _Systems, queries: Queries) -> Iterator[dict[str, Any]]:
    lengths_Q = queries.histories.lengths
    for events in STEPS:
        able = (lengths_Q >= events).nonzero().flatten()
        if len(able) < systems.options.small_slice:
            return
        asked = queries.part(able).draw(_MOST_QUERIES, seed=systems.options.seed)
        asked = dataclasses.replace(
            asked,
            histories=first_events(asked.histories, events),
            read=None if asked.read is None else first_events(asked.read, events),
        )
        weights_Q = _weights(systems.model, asked)
        yield {
            "events": events,
            "queries": len(asked),
            "weight": float(weights_Q.mean()),
            "systems": systems.figures(asked, systems.answer(asked)),
        }


def _items(systems: _Systems, queries: Queries, answers: Answers) -> Iterator[dict[str, Any]]:
    counts_I = systems.dataset.item_counts.numpy()
    weights_I = systems.model.candidate_weights(systems.dataset.items).cpu().numpy()
    for events, end in zip(STEPS, (*STEPS[1:], None), strict=True):
        items_I = (counts_I >= events) & (counts_I < (end or counts_I.max() + 1))
        items_I[0] = False
        num_queries = int((_hits(answers["model"], queries, items_I)[1] > 0).sum())
        if num_queries:
            yield {
                "events": events,
                "queries": num_queries,
                "weight": float(weights_I[items_I].mean()),
                "systems": systems.figures(queries, answers, items_I),
            }


def _rungs(systems: _Systems, queries: Queries, answers: Answers) -> Iterator[dict[str, Any]]:
    """Counts how often each rung of the ladder answers, and judges it there beside the others."""
    weights_Q = _weights(systems.model, queries)
    names_Q = np.array(
        [
            rung_name(weight, length)
            for weight, length in zip(weights_Q.tolist(), queries.histories.lengths.tolist(), strict=True)
        ]
    )
    for name in (PERSONAL, FEW_EVENTS, PROFILE):
        rows = np.flatnonzero(names_Q == name)
        if len(rows):
            some = {system: lists.part(rows) for system, lists in answers.items()}
            yield {
                "rung": name,
                "share": len(rows) / len(queries),
                "queries": len(rows),
                "weight": float(weights_Q[rows].mean()),
                "systems": systems.figures(queries.part(torch.from_numpy(rows)), some),
            }


def first_events(histories: JaggedColumn, number: int) -> JaggedColumn:
    """The first so many items of each history, oldest first."""
    return JaggedColumn(
        histories.values,
        starts=histories.starts,
        ends=torch.minimum(histories.ends, histories.starts + number),
    )


def new_items_of(
    lists: Lists, queries: Queries, dataset: PreparedDataset, *, k: int
) -> dict[str, float] | None:
    """Shares of items without train positives: of the catalogue, of k items shown, and of what is liked.

    None where there are no such items, or nothing of the catalogue is liked.
    """
    is_new_I = dataset.item_counts.numpy() == 0
    is_new_I[0] = False
    shown = lists.item_rows[:, :k]
    shown, liked = shown[shown > 0], queries.relevant.compact().values.numpy()
    liked = liked[liked > 0]
    if not is_new_I.any() or not len(liked) or not len(shown):
        return None
    return {
        "catalogue": float(is_new_I[1:].mean()),
        "shown": float(is_new_I[shown].mean()),
        "liked": float(is_new_I[liked].mean()),
    }


def _hits(
    lists: Lists, queries: Queries, items_I: Mask | None
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    relevant = queries.relevant
    rows_V, offsets = relevant.values.numpy(), relevant.offsets.numpy()
    hits_QK, num_relevant_Q = find_hits(lists.item_rows, relevant_rows_V=rows_V, relevant_offsets=offsets)
    if items_I is not None:
        hits_QK = hits_QK & items_I[lists.item_rows]
        query_V = relevant.rows.numpy()[items_I[rows_V]]
        num_relevant_Q = np.bincount(query_V, minlength=len(queries)).astype(np.int64)
    return hits_QK, num_relevant_Q


def _weights(model: HybridModel, queries: Queries) -> torch.Tensor:
    """[Q] weight of behaviour in each query."""
    return torch.cat([model.query_weights(queries.batch(part)) for part in _parts(queries)])


def _parts(queries: Queries) -> tuple[torch.Tensor, ...]:
    return torch.split(torch.arange(len(queries)), 1024)


@contextlib.contextmanager
def _without_neighbours(model: HybridModel) -> Iterator[None]:
    """Inside, the products of the model's vectors are its scores."""
    neighbours = neighbours_of(model)
    if neighbours is None:
        yield
        return
    cast(Any, model).neighbours = None
    try:
        yield
    finally:
        cast(Any, model).neighbours = neighbours


@contextlib.contextmanager
def _held(model: HybridModel, weight: float) -> Iterator[None]:
    """Inside, the weight of behaviour in the items' vectors is this one."""
    mix = cast(Any, model.candidate_tower).mix
    mix.forced = weight
    try:
        yield
    finally:
        mix.forced = -1.0
