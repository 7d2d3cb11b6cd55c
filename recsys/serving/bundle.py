"""Bundle: what `export.py` wrote, opened to be served; beside it there are torch, numpy and perhaps FAISS.

    from recsys.serving.bundle import Bundle

    bundle = Bundle.open("runs/two_tower/bundle", threads=1)
    item_ids, scores = bundle.recommend({"user_id": 196}, [242, 257], 10, where={"genres": ["Drama"]})

Everything is answered by the file, as `recsys.exporting.bundle` says; where the bundle has an index,
candidates are found by it, and the lists made of them by the same code as without.

Legend: B users, K cut-off, I catalogue rows, D dimension of their vectors.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Unpack

import torch

from recsys.retrieval.ann import Index, faiss_module
from recsys.schema import signing
from recsys.schema.errors import InputError, InputTypeError
from recsys.schema.manifest import MADE_BY, read_station
from recsys.schema.program import load_scripted
from recsys.schema.requests import read_recorded
from recsys.serving.candidates import CandidateSearch
from recsys.serving.index import open_index
from recsys.serving.locks import ReadersWriterLock
from recsys.serving.record_reader import Record
from recsys.serving.requests import QueryOptions, RequestBatch, RequestReader, check_not_ahead
from recsys.serving.rungs import Rung, rung_of
from recsys.serving.values import RequestError, shown

# At first the types are recorded, then the code is optimised for them.
_TIMES_ANSWERED = 2
# Candidates are read from one matrix of all items where it takes no more memory than this.
_MOST_PREPARED_BYTES = 2**29
# Options of two stages, and of retrieval alone.
_OF_RANKING = ("num_candidates", "diversity")
_OF_RETRIEVAL = ("explore", "explore_below")


@dataclasses.dataclass
class Bundle:
    """A bundle, loaded, that many threads may ask and change at the same time.

    Requests are answered side by side. What changes the bundle (`observe`, `add_items`, `set_available`)
    waits for the requests that are being answered and goes before those that come after it, so that each
    answer is one of before or of after. Every request is checked and bounded before the file sees it; what is
    refused is a `RequestError`, a `ValueError` that names the field.

    NOTE: `program`, the TorchScript file itself, is not safe among threads: a dictionary that one thread
    reads while another adds to it ends the process. Call what changes it through the bundle.

    Args:
        folder: where it is.
        manifest: its manifest.
        program: the TorchScript file; whatever else it can do is called on it.
        index: of the retrieval model's catalogue; None where the file searches by itself.
        strict: whether a field that no feature reads is refused; otherwise it is logged, once a name.
        clock: seconds since 1970; events that are observed may not lie far beyond it.
    """

    folder: Path
    manifest: dict[str, Any]
    program: Any
    index: Index | None = None
    strict: bool = False
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._lock = ReadersWriterLock()
        # Until an answer of the model says that it does not.
        self._mixes_content = True
        ranking = self.ranking
        times: set[str] = set()
        if ranking is not None:
            times.update(ranking.statistics.timestamp_fields)
        if self.can_retrieve:
            times.update(getattr(self.retrieval.query, "time_fields", ()))
            self._search = CandidateSearch(self.retrieval, self.index)
        self.requests = RequestReader(
            self.manifest,
            read_fields=[*ranking.read_fields, *ranking.ambiguous] if ranking is not None else (),
            time_fields=times,
            label_fields=ranking.statistics.label_fields if ranking is not None else (),
            strict=self.strict,
        )
        # Of what is observed later anybody may say when it was.
        self._latest_at_first = int(ranking.statistics.latest) if ranking is not None else 0

    @staticmethod
    def open(
        folder: str | Path,
        *,
        threads: int | None = None,
        strict: bool = False,
        verify: str | Path | None = None,
    ) -> Bundle:
        """The bundle at `folder`, after every file of it has been read and found whole.

        It has answered the requests that are recorded in it: TorchScript optimises for what it has seen, and
        the first two requests would wait for that, a quarter of a second.

        Args:
            folder: of the bundle.
            threads: that torch and FAISS use from now on, in the whole process; None leaves them. One is best
                where requests come at the same time on every core.
            strict: whether a field that no feature reads is refused.
            verify: public key of whoever must have signed the bundle; see `recsys.schema.signing`.

        Raises:
            ValueError: the bundle is missing, incomplete, damaged or of another version, naming the file; it
                is not signed with the key; or it has an index and FAISS is not installed.
        """
        folder = Path(folder)
        manifest = read_station(folder, "bundle", verify_all=True)
        if verify is not None:
            signing.verify(folder, manifest, Path(verify))
        index = open_index(folder, manifest.get("index") or {})
        if threads is not None:
            torch.set_num_threads(threads)
            if index is not None:
                faiss_module().omp_set_num_threads(threads)
        program = load_scripted(folder / manifest["file"])
        bundle = Bundle(folder, manifest, program, index, strict=False)
        if hasattr(bundle.ranking, "prepare_items"):
            bundle.ranking.prepare_items(_MOST_PREPARED_BYTES)
        bundle._warm_up(read_recorded(folder))
        bundle.requests.strict = bundle.strict = strict
        return bundle

    @property
    def retrieval(self) -> Any:
        """The part of the program that knows the catalogue.

        Raises:
            ValueError: the bundle is that of a ranking model alone.
        """
        if not self.can_retrieve:
            raise InputError(
                f"`{self.folder}` must hold a retrieval model to recommend, it holds a ranking model "
                f"alone; export both: `{MADE_BY['bundle']} ranker=DIR`"
            )
        return self.program.retrieval if self.has_two_stages else self.program

    @property
    def ranking(self) -> Any:
        """The ranking model of the program; None where there is none."""
        if self.has_two_stages:
            return self.program.ranking
        return None if self.can_retrieve else self.program

    @property
    def can_retrieve(self) -> bool:
        """Whether it finds candidates by itself."""
        return bool(self.manifest["task"] != "ranking")

    @property
    def has_two_stages(self) -> bool:
        """Whether what is retrieved is ranked."""
        return bool(self.manifest["task"] == "two_stage")

    @property
    def excludes_history(self) -> bool:
        """Whether items of a history are left out of the lists."""
        return bool(self.manifest.get("seen", "exclude") == "exclude")

    def recommend(
        self,
        user: Record,
        history: list[Any],
        k: int,
        context: Record | None = None,
        exclude: list[Any] | None = None,
        **options: Unpack[QueryOptions],
    ) -> tuple[list[Any], ...]:
        """Raw ids of the k best items for a user, their scores, and what else the manifest names, best first.

        Args:
            user: fields of the users' table; of a known user the id is enough.
            history: raw ids of items the user liked, oldest first; recommended again where the manifest's
                `seen` is `keep`.
            k: length of the list; shorter only where fewer items are left.
            context: fields of the interactions' table.
            exclude: raw ids of further items to leave out.
            **options: see `QueryOptions`.

        Raises:
            RequestError: naming the argument or the field that is not what it must be.
            TypeError: an option that the bundle does not take.
        """
        self._check_options(options)
        batch = self.requests.one(user, history, k, context, exclude, **options)
        return tuple(part[0] for part in self._lists(batch)[0])

    def recommend_with_rung(
        self,
        user: Record,
        history: list[Any],
        k: int,
        context: Record | None = None,
        exclude: list[Any] | None = None,
        **options: Unpack[QueryOptions],
    ) -> tuple[tuple[list[Any], ...], Rung | None]:
        """Returns what `recommend` does, and its rung; None where no content is mixed with behaviour."""
        self._check_options(options)
        batch = self.requests.one(user, history, k, context, exclude, **options)
        lists, weights = self._lists(batch, weighs=self._mixes_content)
        # Nor will it the next time.
        self._mixes_content = bool(weights) and weights[0] >= 0
        rung = rung_of(weights[0], batch.users[0], batch.histories[0]) if self._mixes_content else None
        return tuple(part[0] for part in lists), rung

    def recommend_batch(
        self,
        users: list[Record],
        histories: list[list[Any]],
        k: int,
        contexts: list[Record] | None = None,
        excludes: list[list[Any]] | None = None,
        **options: Unpack[QueryOptions],
    ) -> tuple[list[Any], ...]:
        """The same for B users."""
        self._check_options(options)
        return self._lists(self.requests.batch(users, histories, k, contexts, excludes, **options))[0]

    def recommend_places(
        self,
        user: Record,
        history: list[Any],
        places: Mapping[str, Mapping[str, Any]],
        context: Record | None = None,
        exclude: list[Any] | None = None,
    ) -> dict[str, tuple[list[Any], ...]]:
        """Lists for several places of one page, none of which shows an item that a place before it shows.

        Args:
            user: as of `recommend`, as are `history`, `context` and `exclude`.
            history: see `user`.
            places: `k` and options of `recommend` for each place, by name, the first to choose first.
            context: see `user`.
            exclude: see `user`.

        Example:
            `bundle.recommend_places(user, history, {"for you": {"k": 10}, "more like it": {"k": 5,
            "similar_to": "b7"}})`
        """
        shown_ids = list(exclude or [])
        lists = {}
        for name, options in places.items():
            lists[name] = self.recommend(
                user, history, context=context, exclude=shown_ids, **{"k": None, **options}
            )
            shown_ids = [*shown_ids, *lists[name][0]]
        return lists

    def similar(
        self,
        item_id: Any,
        k: int,
        *,
        exclude: list[Any] | None = None,
        where: dict[str, list[Any]] | None = None,
    ) -> tuple[list[Any], list[float]]:
        """Raw ids of the k items nearest to an item in the retrieval model's space, and their cosines to it.

        Args:
            item_id: raw id of an item of the catalogue.
            k: how many.
            exclude: raw ids of items to leave out beside the item itself.
            where: as of `recommend`.

        Raises:
            RequestError: the catalogue has no such item, or an argument is not what it must be.
        """
        batch = self.requests.one({}, [], k, None, exclude, where=where)
        with self._lock.reading(), _errors_by_field():
            first = self.retrieval
            excluded = first.known.rows_of_items((batch.excludes or [[]])[0])
            rows, cosines = self._search.nearest(
                self._row_of(item_id, "item_id"), batch.k, excluded, first.allowed(batch.where)
            )
            return first.item_ids.ids_of(rows), cosines.tolist()

    def predict(self, rows: list[Record], *, strict: bool | None = None) -> torch.Tensor:
        """Probabilities [B] by the ranking model; see the manifest for what rows may hold.

        Raises:
            RequestError: naming the row and the field.
            ValueError: there is no ranking model in the bundle.
        """
        ranking = self._ranking_to("predict")
        read = self.requests.rows_of(rows, strict=strict)
        with self._lock.reading(), _errors_by_field():
            probabilities: torch.Tensor = ranking.predict(read)
        return probabilities

    def rank(
        self,
        user: Record,
        item_ids: list[Any],
        history: list[Any],
        context: Record | None = None,
        *,
        strict: bool | None = None,
    ) -> tuple[list[Any], list[float]]:
        """Given items in the order of their probabilities for a user, and the probabilities, best first.

        Args:
            user: as of `recommend`; of a ranking model alone, fields as in its rows.
            item_ids: raw ids, at most as many as rows may be predicted.
            history: as of `recommend`.
            context: as `user`.
            strict: as of `recommend`.

        Raises:
            RequestError: naming the argument or the field.
            ValueError: there is no ranking model in the bundle.
        """
        ranking = self._ranking_to("rank")
        batch = self.requests.one(user, history, 1, context, None, strict=strict)
        ids = self.requests.ids(item_ids, "item_ids", self.requests.limits.rows)
        names = [self.program.user_fields, self.program.context_fields] if self.has_two_stages else [{}, {}]
        renamed = [
            {its.get(name, name): value for name, value in record.items()}
            for its, record in zip(names, (batch.users[0], batch.contexts[0]), strict=True)
        ]
        with self._lock.reading(), _errors_by_field():
            answers = ranking.predict_items(renamed[0], ids, batch.histories[0], renamed[1])
        order = torch.sort(answers, descending=True, stable=True).indices.tolist()
        return [item_ids[at] for at in order], answers[order].tolist()

    def observe(self, rows: list[Record], *, strict: bool | None = None) -> None:
        """Counts events in the statistics of the ranking model, so that later requests see them.

        Args:
            rows: as of `predict`, each with the ids of its user and item, its `timestamp` and `label` where
                the data have them, in the order of time. All are counted, or none.
            strict: as of `recommend`.

        Raises:
            RequestError: naming the row and the field; an event that lies further ahead than the manifest's
                `limits.seconds_ahead` of the clock and of the data among them.
            ValueError: there is no ranking model in the bundle.
        """
        statistics = self._ranking_to("observe").statistics
        read = self.requests.events_of(rows, strict=strict)
        with self._lock.writing(), _errors_by_field():
            if statistics.timestamp_fields:
                check_not_ahead(
                    statistics.times(read, True),
                    latest=max(int(self.clock() * 1e6), self._latest_at_first),
                    seconds_ahead=self.requests.limits.seconds_ahead,
                )
            self.program.observe(read)

    def set_available(self, item_ids: list[Any], available: bool) -> int:
        """Says whether items may be recommended from now on; how many of them the catalogue knows."""
        ids = self.requests.ids(item_ids, "item_ids", self.requests.limits.exclude)
        if not isinstance(available, bool):
            raise RequestError(
                f"`available` must be a truth value; got {shown(available)}", field="available"
            )
        first = self.retrieval
        with self._lock.writing(), _errors_by_field():
            return int(first.set_available(ids, available))

    def count_impressions(self, item_ids: list[Any]) -> int:
        """Counts that items were shown, for `explore`; how many of them the catalogue knows.

        The counts last as long as this bundle is open: whoever keeps them counts them again after opening.
        """
        ids = self.requests.ids(item_ids, "item_ids", self.requests.limits.exclude)
        _ = self.retrieval
        with self._lock.writing(), _errors_by_field():
            return self._search.impressions.add(ids)

    def add_items(self, items: list[Record], *, strict: bool | None = None) -> int:
        """Adds items by their raw features, to be recommended at once; how many were added.

        Raises:
            RequestError: naming the item and the field; nothing is added then.
        """
        read = self.requests.items_of(items, strict=strict)
        with self._lock.writing(), _errors_by_field():
            added = int(self.program.add_items(read))
            if self.can_retrieve:
                self._search.read_new_items()
        return added

    def unread_fields(self, user: Record | None = None, context: Record | None = None) -> list[str]:
        """Fields of a request's records that no feature reads, to be told to who sent them."""
        return [
            *self.requests.users.unread(user or {}),
            *self.requests.contexts.unread(context or {}),
        ]

    def reading(self) -> AbstractContextManager[None]:
        """Holds off what changes the bundle, for whoever asks `program` itself."""
        return self._lock.reading()

    def _ranking_to(self, purpose: str) -> Any:
        if self.ranking is None:
            raise InputError(
                f"`{self.folder}` must hold a ranking model to {purpose}, it holds a retrieval model alone; "
                f"export both: `{MADE_BY['bundle']} ranker=DIR`"
            )
        return self.ranking

    def _warm_up(self, recorded: list[Record]) -> None:
        for request in recorded * _TIMES_ANSWERED:
            if request["method"] in ("recommend", "predict"):
                try:
                    getattr(self, request["method"])(**request["arguments"])
                except TypeError as error:
                    raise InputError(
                        f"`{self.folder}` holds a recorded request that it does not take: {error}"
                    ) from error
                except RequestError:
                    # Raw tables hold values that a request may not: the gate asks the file with them.
                    continue

    def _lists(
        self, batch: RequestBatch, *, weighs: bool = False
    ) -> tuple[tuple[list[Any], ...], list[float]]:
        """Lists by user, of ids, of scores, and of what else there is; and weights of behaviour by user."""
        first, similar_to = self.retrieval, batch.similar_to
        with self._lock.reading(), _errors_by_field():
            wanted = batch.k
            if self.has_two_stages:
                wanted = self.program.wanted(batch.k, batch.num_candidates, batch.diversity)
            near_row = None if similar_to is None else self._row_of(similar_to, "similar_to")
            rows, scores, weights = self._search.best_of_each(batch, wanted, near_row=near_row, weighs=weighs)
            if not self.has_two_stages:
                lists: tuple[list[Any], ...] = first.listed(rows, scores)
                return lists, weights
            chosen, *rest = self.program.ranked(
                *(batch.users, batch.histories, batch.contexts, batch.history_liked),
                *(rows, scores, batch.k, batch.diversity),
            )
            return (first.item_ids.lists_of(chosen), *rest), weights

    def _row_of(self, item_id: Any, argument: str) -> int:
        row = int(self.retrieval.known.rows_of_items(self.requests.ids([item_id], argument, 1))[0])
        if not row:
            raise RequestError(
                f"`{argument}` must be an item of the catalogue; got {shown(item_id)}", field=argument
            )
        return row

    def _check_options(self, options: QueryOptions) -> None:
        known = [
            name
            for name in QueryOptions.__annotations__
            if name not in (_OF_RETRIEVAL if self.has_two_stages else _OF_RANKING)
        ]
        unknown = ", ".join(f"`{name}`" for name in options if name not in known)
        if unknown:
            raise InputTypeError(
                f"a bundle of task {self.manifest['task']} takes {', '.join(known)} beside user, history, k, "
                f"context and exclude; got {unknown}"
            )


@contextmanager
def _errors_by_field() -> Iterator[None]:
    """Raises what the file refuses as a `RequestError` that names the field."""
    try:
        yield
    except torch.jit.Error as error:
        _, is_refusal, message = str(error).rpartition("ValueError: ")
        if not is_refusal:
            raise
        named = re.search(r"`([^`]*)`", message)
        raise RequestError(message.strip(), field=named[1] if named else "") from None
