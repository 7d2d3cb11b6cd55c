"""ServedBundle: a bundle, and what the server has to know to ask it; and the exchange of one for another."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys.bandits.estimates import Floats
from recsys.retrieval.parts import taste
from recsys.schema.errors import InputError
from recsys.schema.json_files import read_json_list
from recsys.schema.requests import read_recorded
from recsys.schema.rungs import rung_name
from recsys.schema.tables import ITEM_ID, TIMESTAMP
from recsys.serving.bundle import Bundle
from recsys.serving.candidates import scores_of
from recsys.serving.coordinates import Coordinates
from recsys.serving.records import Id, Space
from recsys.serving.rules import SECOND

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-3
# Priority of whoever opens a bundle beside the one that serves; 0 is that of others, 19 the lowest.
_NICE = 10
# Items whose coordinates are kept at hand.
_MOST_PLACES = 200_000
# Items by which the next bundle finds the space of this one.
_ITEMS_OF_A_SPACE = 1000


@dataclasses.dataclass(frozen=True)
class Query:
    """A request as a bundle takes it.

    Args:
        user, context: fields.
        history: ids, oldest first; of what was liked, or of all where `liked` says which.
        times: microseconds of each.
        liked: whether each was liked.
        exclude: ids to leave out.
        where: filters.
        candidates: ids to choose from; None: the catalogue.
        seen: ids of what was liked before the history, the oldest first.
    """

    user: dict[str, Any]
    context: dict[str, Any]
    history: list[Id]
    times: list[int] | None
    liked: list[bool]
    exclude: list[Id]
    where: dict[str, list[Any]] | None
    candidates: list[Id] | None
    seen: list[Id] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Scored:
    """Candidates of a bundle, best first, with the weight of behaviour of a gate and the model's rung."""

    item_ids: list[Id]
    scores: list[float]
    sources: list[str]
    behaviour_weight: float | None = None
    rung: str | None = None


class ServedBundle:
    """A bundle that answers.

    Args:
        folder: of the bundle.
    """

    def __init__(self, folder: Path) -> None:
        self.bundle = Bundle.open(folder, threads=1)
        self.folder = Path(folder).resolve()
        self.fingerprint = str(self.bundle.manifest["fingerprint"])
        requests = read_recorded(self.folder)
        arguments = [one["arguments"] for one in requests]
        # The recorded requests show what the model reads of a history.
        self._reads_times = any(one.get("history_times") for one in arguments)
        self.reads_skips = any(one.get("history_liked") for one in arguments)
        # Events until then are in the statistics already.
        self.data_until = 0 if self.statistics is None else int(self.statistics.latest)
        self._takes_text_ids = self._id_type() != "integer"
        self.can_retrieve = self.bundle.can_retrieve
        self._coordinates = Coordinates.of(self._vectors) if self.can_retrieve else None
        self._places: dict[Id, Floats] = {}
        # Of the coordinates: those of another space mean something else.
        self.space = self.fingerprint[:16]
        self._check_recorded(requests)

    @property
    def statistics(self) -> Any:
        """Returns the counts of events that its ranking model reads; None where it reads none."""
        ranking = self.bundle.ranking
        return None if ranking is None or not len(ranking.statistics.fields) else ranking.statistics

    def scored(self, query: Query, *, wanted: int, num_candidates: int) -> Scored:
        """The best candidates of a query.

        Args:
            query: what is asked.
            wanted: how many.
            num_candidates: how many are ranked, where the bundle has two stages.

        Raises:
            ValueError: the query is not what the bundle takes.
        """
        context = {**query.context}
        if query.candidates is not None or not self.can_retrieve:
            return self._ranked(query, context, wanted)
        options = self._history_options(query)
        if self.bundle.has_two_stages:
            options["num_candidates"] = max(wanted, num_candidates)
        answer, rung = self.bundle.recommend_with_rung(
            query.user,
            self._as_ids(query.history),
            wanted,
            context,
            self._as_ids([*query.exclude, *self._seen(query)]) or None,
            where=query.where,
            **options,
        )
        name = "retrieval" if rung is None else rung.name
        sources = answer[3] if len(answer) > 3 else [name] * len(answer[0])
        return Scored(
            *(list(answer[0]), list(answer[1]), list(sources)),
            behaviour_weight=None if rung is None else rung.weight,
            # Without a gate what is known is all that there is to go by.
            rung=rung_name(1.0, len(query.history)) if rung is None else rung.name,
        )

    def scores_of(self, query: Query, item_ids: Sequence[Id]) -> list[float]:
        """Scores of given items for a query, as `scored` would give them."""
        if self.bundle.ranking is None:
            return self.nearness(query, item_ids)
        ids, history = self._as_ids(list(item_ids)), self._as_ids(query.history)
        liked = [one for one, good in zip(history, query.liked, strict=True) if good]
        listed, probabilities = self.bundle.rank(query.user, ids, liked, query.context)
        by_id = dict(zip(listed, probabilities, strict=True))
        return [by_id[one] for one in ids]

    def nearness(self, query: Query, item_ids: Sequence[Id]) -> list[float]:
        """Scores of given items by the retrieval model."""
        ids, history = self._as_ids(list(item_ids)), self._as_ids(query.history)
        options = self._history_options(query)
        batch = self.bundle.requests.one(query.user, history, 1, query.context, None, **options)
        past = batch.history_times, batch.history_liked
        first = self.bundle.retrieval
        with self.bundle.reading():
            vectors, _ = first.questions(batch.users, batch.histories, batch.contexts, None, *past)
            rows = first.known.rows_of_items(ids)
            scores: list[float] = scores_of(first, vectors[0], rows).tolist()
        return scores

    def along(self, query: Query, weights_C: Floats, k: int) -> list[Id]:
        """The k items that lie furthest in a direction of the coordinates, of those that a query may have."""
        assert self._coordinates is not None
        first = self.bundle.retrieval
        gone = self._as_ids([*self.past(query), *query.exclude])
        with self.bundle.reading():
            vector = torch.zeros(first.candidates.size(1))
            vector[: self._vectors.size(1)] = torch.from_numpy(self._coordinates.directions_DC @ weights_C)
            excluded = first.known.rows_of_items(gone)
            allowed, index = first.allowed(query.where), self.bundle.index
            near = None if index is None else index.near(vector, k, excluded=excluded, allowed=allowed)
            rows, _ = (
                first.best(vector, excluded, k, allowed)
                if near is None
                else first.best_among(vector, near, excluded, k)
            )
            return list(first.item_ids.ids_of(rows))

    def past(self, query: Query) -> list[Id]:
        """Items that were liked, or are in the history, and are not to be shown again."""
        return [*self._seen(query), *query.history] if self.bundle.excludes_history else []

    def _seen(self, query: Query) -> list[Id]:
        return query.seen if self.bundle.excludes_history else []

    def _history_options(self, query: Query) -> dict[str, Any]:
        """Returns what else the bundle reads of a history: what was liked of it, and when."""
        options: dict[str, Any] = {"history_liked": query.liked} if self.reads_skips else {}
        if self._reads_times and query.times is not None:
            options["history_times"] = [iso_text(time) for time in query.times]
        return options

    def coordinates_of(self, item_ids: Sequence[Id]) -> Floats:
        """[N, C] coordinates of items, zeros for unknown ones; C is 0 where the bundle has no space."""
        if self._coordinates is None or not item_ids:
            return np.zeros((len(item_ids), 0))
        unseen = [one for one in item_ids if one not in self._places]
        if unseen:
            self._place(self._coordinates, unseen)
        nowhere_C = self._coordinates.nowhere()
        return np.array([self._places.get(one, nowhere_C) for one in item_ids])

    def lie_in(self, space: Space) -> None:
        """Takes coordinates in the space of an earlier bundle, where items that both know tell the way."""
        if self._coordinates is None or space.name == self.space:
            return
        there_NC = np.frombuffer(space.coordinates, np.float32).reshape(len(space.item_ids), -1)
        with self.bundle.reading():
            rows_N = self.bundle.retrieval.known.rows_of_items(self._as_ids(space.item_ids))
            vectors_ND = self._vectors[rows_N[rows_N > 0]]
        mapped = Coordinates.mapped(vectors_ND, there_NC[(rows_N > 0).numpy()].astype(np.float64))
        if mapped is not None:
            self._coordinates, self._places, self.space = mapped, {}, space.name

    def own_space(self, time: int) -> Space | None:
        """Where some of its items lie, for a bundle that follows; None where the bundle has no space."""
        if self._coordinates is None:
            return None
        with self.bundle.reading():
            size = self._vectors.shape[0]
            rows_N = torch.arange(1, size, max(1, size // _ITEMS_OF_A_SPACE))
            [item_ids] = self.bundle.retrieval.item_ids.lists_of([rows_N])
            there_NC = self._coordinates.at(self._vectors[rows_N])
        return Space(self.space, self.fingerprint, item_ids, there_NC.astype(np.float32).tobytes(), time)

    def _place(self, coordinates: Coordinates, item_ids: Sequence[Id]) -> None:
        """Keeps the coordinates of items that are known."""
        with self.bundle.reading():
            rows = self.bundle.retrieval.known.rows_of_items(self._as_ids(list(item_ids)))
            vectors_ND = self._vectors[rows]
        if len(self._places) > _MOST_PLACES:
            self._places = {}
        for item_id, row, place_C in zip(item_ids, rows.tolist(), coordinates.at(vectors_ND), strict=True):
            if row:
                self._places[item_id] = place_C

    @property
    def _vectors(self) -> torch.Tensor:
        first = self.bundle.retrieval
        return taste(first.candidates, first.popularity_windows)

    def _ranked(self, query: Query, context: dict[str, Any], wanted: int) -> Scored:
        if query.candidates is None:
            raise InputError(
                "the bundle only ranks: expected `candidates`, the item ids to choose from, received none"
            )
        if self.bundle.ranking is None:
            raise InputError(
                "`candidates` needs a bundle that ranks, this one only retrieves; leave them out"
            )
        gone = {str(one) for one in query.exclude}
        distinct = {str(one): one for one in query.candidates}
        left = [one for text, one in distinct.items() if text not in gone]
        if not left:
            return Scored([], [], [])
        liked = [one for one, good in zip(query.history, query.liked, strict=True) if good]
        ids, probabilities = self.bundle.rank(query.user, self._as_ids(left), self._as_ids(liked), context)
        return Scored(list(ids)[:wanted], list(probabilities)[:wanted], ["candidates"] * len(ids[:wanted]))

    def knows(self, item_ids: Sequence[Id]) -> list[bool]:
        """Whether the catalogue has each item."""
        known = (self.bundle.retrieval if self.can_retrieve else self.bundle.program).known
        rows = known.rows_of_items(self._as_ids(list(item_ids)))
        return [row > 0 for row in rows.tolist()]

    def add_items(self, items: Sequence[dict[str, Any]]) -> int:
        """Adds the items that it does not know yet; how many."""
        ids = [item[ITEM_ID] for item in items]
        new = [item for item, known in zip(items, self.knows(ids), strict=True) if not known]
        return self.bundle.add_items(new) if new else 0

    def set_available(self, item_ids: Sequence[Id], available: bool) -> int:
        """Says whether items may be recommended; how many of them it knows."""
        if not self.can_retrieve:
            return sum(self.knows(item_ids))
        return self.bundle.set_available(self._as_ids(list(item_ids)), available)

    def observe(self, rows: Sequence[dict[str, Any]]) -> None:
        """Counts events in the statistics of its ranking model."""
        self.bundle.observe([{**row, TIMESTAMP: iso_text(row[TIMESTAMP])} for row in rows])

    def _as_ids(self, item_ids: Sequence[Id]) -> list[Id]:
        """Ids of one type, as TorchScript wants them: text, or whole numbers where all of them are."""
        if not self._takes_text_ids and all(isinstance(one, int) for one in item_ids):
            return list(item_ids)
        return [str(one) for one in item_ids]

    def showable(self, item_ids: Sequence[Id], where: dict[str, list[Any]] | None) -> list[bool]:
        """Whether the catalogue has each item, and it may be recommended."""
        first = self.bundle.retrieval
        with self.bundle.reading():
            rows = first.known.rows_of_items(self._as_ids(list(item_ids)))
            allowed = first.allowed(where)
        fits = torch.ones_like(rows, dtype=torch.bool) if allowed is None else allowed[rows]
        return [bool(one) for one in ((rows > 0) & fits).tolist()]

    def _id_type(self) -> str:
        manifest = self.bundle.manifest
        signature = manifest["signature"]
        item = signature.get("item") or signature.get("row") or {}
        if ITEM_ID not in item and "stages" in manifest:
            item = manifest["stages"]["retrieval"]["signature"]["item"]
        return str(item.get(ITEM_ID, {}).get("type", "text"))

    def _check_recorded(self, requests: Sequence[dict[str, Any]]) -> None:
        """Answers the recorded requests as they were answered when the bundle was made."""
        responses = read_json_list(self.folder / "responses.json")
        for request, response in zip(requests, responses, strict=True):
            if request["method"] != "recommend" or self.bundle.index is not None:
                continue
            try:
                answer = self.bundle.recommend(**request["arguments"])
            except InputError:
                continue  # raw tables hold values that a request may not
            if not _same(list(answer), response):
                raise InputError(
                    f"`{self.folder}` answers a recorded request otherwise than when it was made; make the "
                    "bundle anew on this machine"
                )


def _same(answer: Any, expected: Any) -> bool:
    """Whether two answers are equal but for rounding."""
    expected = list(expected.values()) if isinstance(expected, dict) else expected
    if isinstance(answer, list | tuple) and isinstance(expected, list | tuple):
        return len(answer) == len(expected) and all(map(_same, answer, expected))
    if isinstance(answer, float) and isinstance(expected, int | float):
        return bool(np.isclose(answer, expected, rtol=_TOLERANCE, atol=_TOLERANCE))
    return bool(answer == expected)


def iso_text(microseconds: int) -> str:
    """An instant as ISO 8601 text, which every bundle reads whatever the unit of its data.

    Example:
        >>> iso_text(1_500_000)
        '1970-01-01T00:00:01.500000Z'
    """
    instant = datetime.datetime.fromtimestamp(microseconds // SECOND, datetime.UTC)
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{microseconds % SECOND:06}Z"


def open_beside(folder: Path) -> ServedBundle:
    """Opens a bundle while another one serves: in a thread that gets the processor when nobody else wants it.

    NOTE: torch holds Python's lock while it reads a file of TorchScript, a third of a second, whatever the
    thread; requests wait for so long.

    Raises:
        ValueError: it can't be opened, or answers its recorded requests otherwise than when it was made.
    """
    with ThreadPoolExecutor(1, initializer=_wait_for_others) as executor:
        return executor.submit(ServedBundle, folder).result()


def _wait_for_others() -> None:
    if sys.platform == "linux":  # elsewhere threads have no priority of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


class BundleBox:
    """The bundle that serves, and the one before it.

    Args:
        first: that serves from the start.
    """

    def __init__(self, first: ServedBundle) -> None:
        self.current = first
        self.previous: ServedBundle | None = None
        self._lock = threading.Lock()

    def exchange(self, new: ServedBundle) -> None:
        """Serves by another bundle from the next request on; requests under way end with the old one."""
        with self._lock:
            self.previous, self.current = self.current, new
