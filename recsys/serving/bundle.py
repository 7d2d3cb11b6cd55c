"""Bundle: what `export.py` wrote, opened to be served; beside it there are torch, numpy and perhaps FAISS.

    from recsys.serving.bundle import Bundle

    bundle = Bundle.open("runs/two_tower/bundle", threads=1)
    item_ids, scores = bundle.recommend({"user_id": 196}, [242, 257], 10, where={"genres": ["Drama"]})

Everything is answered by the file, as `recsys.export.bundle` says; where the bundle has an index, candidates
are found by it, and the lists made of them by the same code as without.

Legend: B users, K cut-off.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any, TypedDict, Unpack, get_args

import torch

from recsys.retrieval.ann import Index, IndexKind, faiss_module, load
from recsys.schema.errors import InputError, InputTypeError
from recsys.schema.manifest import MADE_BY, read_station

Record = dict[str, Any]


class Asked(TypedDict, total=False):
    """What a request for a list may say beside; meanings as in the manifest."""

    history_times: list[Any] | None
    history_liked: list[bool] | None
    num_candidates: int | None
    diversity: float | None
    where: dict[str, list[Any]] | None


class AskedOfMany(TypedDict, total=False):
    """The same for B users; what is no list of B holds for all of them."""

    history_times: list[list[Any]] | None
    history_liked: list[list[bool]] | None
    num_candidates: int | None
    diversity: float | None
    where: dict[str, list[Any]] | None


@dataclasses.dataclass
class Bundle:
    """A bundle, loaded.

    Args:
        folder: where it is.
        manifest: its manifest.
        program: the TorchScript file; whatever else it can do is called on it.
        index: of the retrieval model's catalogue; None where the file searches by itself.
    """

    folder: Path
    manifest: dict[str, Any]
    program: Any
    index: Index | None = None

    @staticmethod
    def open(folder: str | Path, *, threads: int | None = None) -> Bundle:
        """The bundle at `folder`, after every file of it has been read and found whole.

        It has answered the requests that are recorded in it: TorchScript optimises for what it has seen, and
        the first two requests would wait for that, a quarter of a second.

        Args:
            folder: of the bundle.
            threads: that torch and FAISS use from now on, in the whole process; None leaves them. One is best
                where requests come at the same time on every core.

        Raises:
            ValueError: the bundle is missing, incomplete, damaged or of another version, naming the file; or
                it has an index and FAISS is not installed.
        """
        folder = Path(folder)
        manifest = read_station(folder, "bundle", verify_all=True)
        index = open_index(folder, manifest.get("index") or {})
        if threads is not None:
            torch.set_num_threads(threads)
            if index is not None:
                faiss_module().omp_set_num_threads(threads)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            program = torch.jit.load(  # type: ignore[no-untyped-call]
                str(folder / manifest["file"]), map_location="cpu"
            )
        bundle = Bundle(folder, manifest, program, index)
        for request in json.loads((folder / _REQUESTS).read_text()) * _TIMES_ANSWERED:
            if request["method"] in ("recommend", "predict"):
                getattr(bundle, request["method"])(**request["arguments"])
        return bundle

    @property
    def retrieval(self) -> Any:
        """The part of the program that knows the catalogue.

        Raises:
            ValueError: the bundle is that of a ranking model alone.
        """
        if self.manifest["task"] == "ranking":
            raise InputError(
                f"`{self.folder}` must hold a retrieval model to recommend, it holds a ranking model "
                f"alone; export both: `{MADE_BY['bundle']} ranker=DIR`"
            )
        return self.program.retrieval if self.has_two_stages else self.program

    @property
    def has_two_stages(self) -> bool:
        """Whether what is retrieved is ranked."""
        return bool(self.manifest["task"] == "two_stage")

    def recommend(
        self,
        user: Record,
        history: list[Any],
        k: int,
        context: Record | None = None,
        exclude: list[Any] | None = None,
        **more: Unpack[Asked],
    ) -> tuple[list[Any], ...]:
        """What `program.recommend` answers to the same arguments; see the manifest for their meanings.

        Raises:
            TypeError: an argument that the program does not take.
            torch.jit.Error: what it takes, and can't read; the message names it.
        """
        of_many: dict[str, Any] = dict(more)
        for name in ("history_times", "history_liked"):
            if of_many.get(name) is not None:
                of_many[name] = [of_many[name]]
        excludes = None if exclude is None else [exclude]
        answer = self.recommend_batch([user], [history], k, [context or {}], excludes, **of_many)
        return tuple(part[0] for part in answer)

    def recommend_batch(
        self,
        users: list[Record],
        histories: list[list[Any]],
        k: int,
        contexts: list[Record] | None = None,
        excludes: list[list[Any]] | None = None,
        **more: Unpack[AskedOfMany],
    ) -> tuple[list[Any], ...]:
        """The same for B users."""
        first = self.retrieval
        self._check_known(more)
        contexts = [{} for _ in users] if contexts is None else contexts
        if self.index is None:
            answer: tuple[list[Any], ...] = self.program.recommend_batch(
                users, histories, k, contexts, excludes, **more
            )
            return answer
        times, liked = more.get("history_times"), more.get("history_liked")
        limits = more.get("num_candidates"), more.get("diversity")
        wanted = self.program.wanted(k, *limits) if self.has_two_stages else k
        vectors, excluded = first.questions(users, histories, contexts, excludes, times, liked)
        allowed = first.allowed(more.get("where"))
        found = [
            self._nearest(vector, gone, wanted, allowed)
            for vector, gone in zip(vectors, excluded, strict=True)
        ]
        rows, scores = [one[0] for one in found], [one[1] for one in found]
        if not self.has_two_stages:
            listed: tuple[list[Any], ...] = first.listed(rows, scores)
            return listed
        shown, *rest = self.program.ranked(users, histories, contexts, liked, rows, scores, k, limits[1])
        return first.item_ids.lists_of(shown), *rest

    def predict(self, rows: list[Record]) -> torch.Tensor:
        """Probabilities [B] by the ranking model; see the manifest for what rows may hold.

        Raises:
            ValueError: there is no ranking model in the bundle.
        """
        if self.manifest["task"] == "retrieval":
            raise InputError(
                f"`{self.folder}` must hold a ranking model to predict, it holds a retrieval model alone; "
                f"export both: `{MADE_BY['bundle']} ranker=DIR`"
            )
        ranking = self.program.ranking if self.has_two_stages else self.program
        probabilities: torch.Tensor = ranking.predict(rows)
        return probabilities

    def set_available(self, item_ids: list[Any], available: bool) -> int:
        """Says whether items may be recommended from now on; how many of them the catalogue knows."""
        return int(self.retrieval.set_available(item_ids, available))

    def add_items(self, items: list[Record]) -> int:
        """Adds items by their raw features, to be recommended at once; how many were added."""
        first = self.retrieval
        added = int(self.program.add_items(items))
        if self.index is not None:
            self.index.add(first.candidates)
        return added

    def _nearest(
        self, vector: torch.Tensor, excluded: torch.Tensor, k: int, allowed: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Catalogue rows and scores of the k best items, by the index where it is quicker."""
        assert self.index is not None
        rows = self.index.near(vector, k, excluded=excluded, allowed=allowed)
        found: tuple[torch.Tensor, torch.Tensor] = (
            self.retrieval.best(vector, excluded, k, allowed)
            if rows is None
            else self.retrieval.best_among(vector, rows, excluded, k)
        )
        return found

    def _check_known(self, more: AskedOfMany) -> None:
        all_names = AskedOfMany.__annotations__
        known = [name for name in all_names if self.has_two_stages or name not in _OF_RANKING]
        unknown = ", ".join(f"`{name}`" for name in more if name not in known)
        if unknown:
            raise InputTypeError(
                f"a bundle of task {self.manifest['task']} takes {', '.join(known)} beside user, history, k, "
                f"context and exclude; got {unknown}"
            )


_REQUESTS = "requests.json"
# At first the types are recorded, then the code is optimised for them.
_TIMES_ANSWERED = 2
_OF_RANKING = ("num_candidates", "diversity")


def open_index(folder: Path, entry: dict[str, Any]) -> Index | None:
    """The index of a bundle, by what its manifest says of it; None where it has none.

    Raises:
        ValueError: FAISS is not installed, or the index is of a kind of another release.
    """
    if "file" not in entry:
        return None
    if entry["kind"] not in get_args(IndexKind):
        raise InputError(
            f"`{folder}` must hold an index of a kind among {', '.join(get_args(IndexKind))}, its manifest "
            f"says `{entry['kind']}`, as another release made it; make it again: `{MADE_BY['bundle']}`"
        )
    share = entry["ms_a_query"] / entry["exact_ms_a_query"]
    return load(
        folder / entry["file"], entry["kind"], k=entry["k"], settings=entry["settings"], time_share=share
    )
