"""RetrievalProgram: what becomes `retrieval.pt`; raw values in, vectors or raw item ids out.

NOTE: `recommend` and `recommend_batch` have no return type here: TorchScript infers it, lists of integers or
of strings, as the item ids are. (A type comment with anything behind it TorchScript would take for its own.)

Legend: B queries, N items, D dimension of the vectors, I catalogue rows, K cut-off.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)
# mypy: no-warn-return-any

import math
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, cast

import torch
from torch import nn

from recsys.exporting.program.filters import Filters
from recsys.exporting.program.inputs import Inputs, Network
from recsys.exporting.program.interests import Interests, before_histories, liked_before
from recsys.exporting.program.interfaces import Head
from recsys.exporting.program.known import Known, empty_records, first_of, unread
from recsys.exporting.program.queries import NothingAdded, NoWeights
from recsys.exporting.program.search import best_items, best_left
from recsys.exporting.program.tensors import PackageTensors, padded_events
from recsys.exporting.program.types import Bag, Features, Past, Record
from recsys.retrieval.parts import joined, popularity, taste

# Of more of the catalogue than this share, scoring all and masking is quicker than picking rows to score.
_FEW = 0.1


class RetrievalProgram(nn.Module):
    """Encodes users and items and recommends from the catalogue inside.

    Args:
        known: users and items by raw id.
        item_ids: raw ids of catalogue rows, `IntegerIds` or `StringIds`.
        query_inputs: of users and contexts.
        query: `PooledQuery` or `SequenceQuery`.
        candidate: the tower behind its inputs.
        candidates: [I, D] vectors of the catalogue; row 0 is that of an unknown item.
        filters: what of it may be recommended.
        read_fields: fields that any record may hold to some effect.
        popularity_windows: of how many windows vectors have popularity (`recsys.retrieval.parts`).
        excludes_history: whether items of a history are left out of the list.
        weigher: the weight of behaviour in each query, of models that mix it with content.
        interests: what users say to like.
        num_events: [I] train events of each item; of those that are added none are kept.
        neighbours: what is added to the products of vectors, of models that have them.
    """

    weigher: Head

    candidates: torch.Tensor
    num_events: torch.Tensor
    read_fields: List[str]
    if TYPE_CHECKING:
        item_ids: Any  # no interface: what it returns depends on the type of the ids
        query: Any  # no interface: there is one, so that nothing is unrolled
        neighbours: Any

    def __init__(
        self,
        known: Known,
        *,
        item_ids: nn.Module,
        query_inputs: Inputs,
        query: nn.Module,
        candidate: Network,
        candidates: torch.Tensor,
        filters: Filters,
        read_fields: List[str],
        popularity_windows: int = 0,
        excludes_history: bool = True,
        weigher: Optional[nn.Module] = None,
        interests: Optional[Interests] = None,
        num_events: Optional[torch.Tensor] = None,
        neighbours: Optional[nn.Module] = None,
    ) -> None:
        super().__init__()
        self.known = known
        self.item_ids = item_ids
        self.query_inputs = query_inputs
        self.query = query
        self.candidate = candidate
        self.register_buffer("candidates", candidates)
        self.register_buffer("num_events", torch.zeros(0) if num_events is None else num_events.int())
        self.filters = filters
        self.few = _FEW
        self.read_fields = read_fields
        self.popularity_windows = popularity_windows
        self.excludes_history = excludes_history
        self.weigher = cast(Head, weigher if weigher is not None else NoWeights())
        self.interests = Interests([], prefix="") if interests is None else interests
        self.adds = neighbours is not None
        self.neighbours = NothingAdded() if neighbours is None else neighbours
        self.package = PackageTensors(None, has_requests=False)

    @torch.jit.export
    def encode_user(
        self,
        user: Record,
        history: List[Any],
        context: Optional[Record] = None,
        history_times: Optional[List[Any]] = None,
        history_liked: Optional[List[bool]] = None,
    ) -> torch.Tensor:
        """Vector [D] of a user, without what neighbours add; arguments as of `recommend`."""
        return self.encode_users(
            [user],
            [history],
            None if context is None else [context],
            None if history_times is None else [history_times],
            None if history_liked is None else [history_liked],
        )[0]

    @torch.jit.export
    def encode_users(
        self,
        users: List[Record],
        histories: List[List[Any]],
        contexts: Optional[List[Record]] = None,
        history_times: Optional[List[List[Any]]] = None,
        history_liked: Optional[List[List[bool]]] = None,
    ) -> torch.Tensor:
        """Vectors [B, D] of several users."""
        past = self.known.history_rows(histories)
        given = empty_records(len(users)) if contexts is None else contexts
        return self.encode_queries(users, past, given, history_times, history_liked)

    @torch.jit.export
    def inputs_of_users(
        self,
        users: List[Record],
        histories: List[List[Any]],
        contexts: Optional[List[Record]] = None,
        history_times: Optional[List[List[Any]]] = None,
        history_liked: Optional[List[List[bool]]] = None,
    ) -> List[torch.Tensor]:
        """Makes the tensors that a compiled package takes for `encode_users`."""
        past = self.known.history_rows(histories)
        given = empty_records(len(users)) if contexts is None else contexts
        bags, dense = self.query_features(users, past[0], past[1], given)
        events = self.events(users, (past, history_times, history_liked, given))
        return self.package(bags, dense) + padded_events(events)

    @torch.jit.export
    def behaviour_weights(
        self, users: List[Record], histories: List[List[Any]], contexts: Optional[List[Record]] = None
    ) -> List[float]:
        """Weight of behaviour in the answer to each user, 0 for content alone; -1 where there is no gate.

        It moves with every event of a history.
        """
        past = self.known.history_rows(histories)
        given = empty_records(len(users)) if contexts is None else contexts
        bags, dense = self.query_features(users, past[0], past[1], given)
        embedded = self.query_inputs.embed(bags, dense.size(0))
        return self._weights(users, past[1], embedded, dense)

    @torch.jit.export
    def encode_item(self, item: Record) -> torch.Tensor:
        """Vector [D] of an item.

        Args:
            item: fields of the items' table; of a known item the id is enough.
        """
        return self.encode_items([item])[0]

    @torch.jit.export
    def encode_items(self, items: List[Record]) -> torch.Tensor:
        """Vectors [N, D] of several items.

        Args:
            items: fields of the items' table; of a known item the id is enough.
        """
        bags, dense = self.item_features(items)
        return self.candidate(bags, dense)

    @torch.jit.export
    def recommend(  # type: ignore[no-untyped-def]
        self,
        user: Record,
        history: List[Any],
        k: int,
        context: Optional[Record] = None,
        exclude: Optional[List[Any]] = None,
        history_times: Optional[List[Any]] = None,
        history_liked: Optional[List[bool]] = None,
        where: Optional[Dict[str, List[Any]]] = None,
    ):
        """Raw ids of the k best items and their scores, best first; fewer where fewer are left.

        Args:
            user: fields of the users' table; of a known user the id is enough.
            history: raw ids of the items the user liked, oldest first; not recommended where
                `excludes_history` is true, which the manifest has as `seen` `exclude`.
            k: how many items, at least 1.
            context: fields of the interactions' table, as the timestamp of the request.
            exclude: raw ids of further items that must not be recommended.
            history_times: when each item of the history was liked, as timestamps of the interactions' table;
                models that read the history as a bag do without.
            history_liked: whether each item of the history was liked, for models that read what was not, too;
                all of them were where it is left out.
            where: raw values by attribute of the items; of each attribute, an item must hold one of them.
        """
        ids, scores = self.recommend_batch(
            [user],
            [history],
            k,
            None if context is None else [context],
            None if exclude is None else [exclude],
            None if history_times is None else [history_times],
            None if history_liked is None else [history_liked],
            where,
        )
        return ids[0], scores[0]

    @torch.jit.export
    def recommend_batch(  # type: ignore[no-untyped-def]
        self,
        users: List[Record],
        histories: List[List[Any]],
        k: int,
        contexts: Optional[List[Record]] = None,
        excludes: Optional[List[List[Any]]] = None,
        history_times: Optional[List[List[Any]]] = None,
        history_liked: Optional[List[List[bool]]] = None,
        where: Optional[Dict[str, List[Any]]] = None,
    ):
        """Lists of raw item ids and of scores, one for each user; `where` holds for all of them."""
        given = empty_records(len(users)) if contexts is None else contexts
        vectors, excluded = self.questions(users, histories, given, excludes, history_times, history_liked)
        rows, scores = self.nearest(vectors, excluded, k, where)
        return self.listed(rows, scores)

    @torch.jit.export
    def set_available(self, item_ids: List[Any], available: bool) -> int:
        """Says whether items may be recommended from now on; all may at first. Not safe among threads.

        Args:
            item_ids: raw ids; those that the catalogue does not know do nothing.
            available: whether they may be recommended.

        Returns:
            How many of them the catalogue knows.
        """
        return self.filters.set_available(self.known.rows_of_items(item_ids), available)

    @torch.jit.export
    def add_items(self, items: List[Record]) -> int:
        """Puts new items into the catalogue, to be recommended from now on.

        They are encoded from their content, their id as an unknown one, and nobody has liked them of late; in
        histories and `exclude` they are known by their id. Costs a copy of the catalogue: many at once are as
        quick as one. `torch.jit.save` keeps them. Not safe among threads.

        Args:
            items: fields of the items' table, each with an id that is not known yet; what is missing is
                answered as in `encode_item`. Where one can't be read, none is added.

        Returns:
            How many were added.
        """
        ids, features = self.read_new_items(items)
        self.keep_new_items(items, ids, features)
        return len(ids)

    @torch.jit.export
    def unread_fields(self, record: Record) -> List[str]:
        """Fields of a record that no feature reads, to find mistyped names; elsewhere they do nothing.

        Args:
            record: any.
        """
        return unread(record, self.read_fields)

    def listed(self, rows: List[torch.Tensor], scores: List[torch.Tensor]):  # type: ignore[no-untyped-def]
        """Lists of raw ids and of scores."""
        numbers: List[List[float]] = []
        for some in scores:
            some_numbers: List[float] = some.tolist()
            numbers.append(some_numbers)
        return self.item_ids.lists_of(rows), numbers

    def nearest(
        self,
        vectors: torch.Tensor,
        excluded: List[torch.Tensor],
        k: int,
        where: Optional[Dict[str, List[Any]]],
    ) -> Tuple[List[torch.Tensor], List[torch.Tensor]]:
        """Catalogue rows and scores of the k best items for each of `questions`, best first."""
        allowed = self.allowed(where)
        rows: List[torch.Tensor] = []
        scores: List[torch.Tensor] = []
        for position, gone in enumerate(excluded):
            best, best_scores = self.best(vectors[position], gone, k, allowed)
            rows.append(best)
            scores.append(best_scores)
        return rows, scores

    def questions(
        self,
        users: List[Record],
        histories: List[List[Any]],
        contexts: List[Record],
        excludes: Optional[List[List[Any]]],
        times: Optional[List[List[Any]]],
        liked: Optional[List[List[bool]]],
    ) -> Tuple[torch.Tensor, List[torch.Tensor]]:
        """Returns vectors to search with, and the catalogue rows that each list must not hold.

        The vectors are [B, D], or [B, D + I] where something is added to the score of each item.
        """
        vectors, excluded, _ = self.weighed_questions(
            users, histories, contexts, excludes, times, liked, False
        )
        return vectors, excluded

    def weighed_questions(
        self,
        users: List[Record],
        histories: List[List[Any]],
        contexts: List[Record],
        excludes: Optional[List[List[Any]]],
        times: Optional[List[List[Any]]],
        liked: Optional[List[List[bool]]],
        weighs: bool,
    ) -> Tuple[torch.Tensor, List[torch.Tensor], List[float]]:
        """Returns what `questions` does, and where `weighs`, `behaviour_weights` of the same encoding."""
        past = self.known.history_rows(histories)
        bags, dense = self.query_features(users, past[0], past[1], contexts)
        embedded = self.query_inputs.embed(bags, dense.size(0))
        weights: List[float] = []
        if weighs:
            weights = self._weights(users, past[1], embedded.copy(), dense)
        vectors = self.query(embedded, dense, self.events(users, (past, times, liked, contexts)))
        if self.adds:
            vectors = torch.cat([vectors, self.added(past)], dim=1)
        if self.excludes_history:
            excluded = list(torch.split_with_sizes(past[0], [len(history) for history in histories]))
        else:
            excluded = [past[0][:0] for _ in histories]
        if excludes is not None:
            if len(excludes) != len(users):
                raise ValueError(
                    f"`excludes` must have a list for each of the {len(users)} users, got {len(excludes)}"
                )
            for position, ids in enumerate(excludes):
                excluded[position] = torch.cat([excluded[position], self.known.rows_of_items(ids)])
        return vectors, excluded, weights

    def added(self, past: Bag) -> torch.Tensor:
        """[B, I] what is added to the scores of histories of catalogue rows; [B, 0] where nothing is."""
        rows, lengths = self.known.histories(past[0], past[1])
        added: torch.Tensor = self.neighbours(rows, lengths)
        return added

    def _weights(
        self,
        users: List[Record],
        lengths: torch.Tensor,
        embedded: Dict[str, torch.Tensor],
        dense: torch.Tensor,
    ) -> List[float]:
        """Weights of behaviour by the lengths of histories and the embedded features of queries."""
        counts = lengths + torch.tensor(self.interests(users)[1], dtype=torch.int64)
        embedded["history_count"] = counts.clamp(max=self.known.histories.length).float().unsqueeze(1)
        weights: List[float] = self.weigher.forward(embedded, dense).tolist()
        return weights

    def allowed(self, where: Optional[Dict[str, List[Any]]]) -> Optional[torch.Tensor]:
        """[I] whether each item may be recommended; None when all of them may."""
        return self.filters.allowed(where)

    def best(
        self, vector: torch.Tensor, excluded: torch.Tensor, k: int, allowed: Optional[torch.Tensor]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Catalogue rows and scores of the k best items.

        Args:
            vector: of a user, see `questions`.
            excluded: catalogue rows that must not be among them, repeats allowed.
            k: at least 1.
            allowed: see `allowed`.
        """
        check_k(k)
        if allowed is not None and int(allowed.sum()) <= self.few * allowed.numel():
            return self.best_among(vector, torch.nonzero(allowed).flatten(), excluded, k)
        width = self.candidates.size(1)
        scores = torch.mv(self.candidates, vector[:width])
        if vector.numel() > width:
            scores += vector[width:]
        if allowed is not None:
            scores.masked_fill_(torch.logical_not(allowed), -math.inf)
        return best_items(scores, excluded, k)

    def best_among(
        self, vector: torch.Tensor, rows: torch.Tensor, excluded: torch.Tensor, k: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """The same among some catalogue rows alone [N], ascending and without row 0."""
        check_k(k)
        # Many times as fast as `candidates[rows]`, and a look-up in order as `isin`, which sorts.
        width = self.candidates.size(1)
        scores = torch.mv(self.candidates.index_select(0, rows), vector[:width])
        if vector.numel() > width:
            scores += vector[width:].index_select(0, rows)
        if rows.numel() > 0:
            places = torch.searchsorted(rows, excluded).clamp(max=rows.numel() - 1)
            scores[places[rows[places] == excluded]] = -math.inf
        positions, best_scores = best_left(scores, k)
        return rows[positions], best_scores

    def encode_queries(
        self,
        users: List[Record],
        past: Bag,
        contexts: List[Record],
        times: Optional[List[List[Any]]],
        liked: Optional[List[List[bool]]],
    ) -> torch.Tensor:
        """Vectors [B, D]; histories as catalogue rows and lengths."""
        bags, dense = self.query_features(users, past[0], past[1], contexts)
        events = self.events(users, (past, times, liked, contexts))
        return self.query(self.query_inputs.embed(bags, dense.size(0)), dense, events)

    def events(self, users: List[Record], past: Past) -> List[torch.Tensor]:
        """Reads the histories, before which stands what the users say to like, for the query network."""
        items, counts = self.interests(users)
        if len(items) == 0:
            return self.query.events(past, self.candidates)
        bags, dense = self.item_features(items)
        history, table = before_histories(past[0], self.candidates, self.candidate(bags, dense), counts)
        liked = past[2]
        if liked is not None:
            liked = liked_before(liked, counts)
        # When they came to like it nobody knows, and times are known of a whole history or not at all.
        return self.query.events((history, None, liked, past[3]), table)

    def query_features(
        self, users: List[Record], history: torch.Tensor, lengths: torch.Tensor, contexts: List[Record]
    ) -> Features:
        """Reads queries, whose histories are catalogue rows and lengths."""
        if len(users) != lengths.numel() or len(users) != len(contexts):
            raise ValueError(
                f"there must be as many histories and contexts as users ({len(users)}), "
                f"got {lengths.numel()} and {len(contexts)}"
            )
        rows = {"user": self.known.user_rows(users)}
        rows["context"] = torch.zeros_like(rows["user"])
        bags, dense = self.query_inputs.read({"user": users, "context": contexts}, rows, len(users))
        bags["history"] = self.known.histories(history, lengths)
        return bags, dense

    def item_features(self, items: List[Record]) -> Features:
        """Reads items."""
        rows = {"item": self.known.item_rows(items)}
        return self.candidate.inputs.read({"item": items}, rows, len(items))

    def read_new_items(self, items: List[Record]) -> Tuple[List[Any], Features]:
        """Ids and features of new items; raises where they can't be read."""
        ids = first_of(items, self.known.item_fields)
        self.known.items.check_new(ids)
        self.filters.check(items)
        return ids, self.item_features(items)

    def keep_new_items(self, items: List[Record], ids: List[Any], features: Features) -> None:
        """Stores new items and what was read of them."""
        if len(items) == 0:
            return
        bags, dense = features
        vectors = self.candidate(bags, dense)
        of_unseen = popularity(self.candidates[:1], self.popularity_windows).expand(len(ids), -1)
        vectors = joined(taste(vectors, self.popularity_windows), of_unseen)
        self.filters.add(items, self.candidates.size(0))
        self.neighbours.append(vectors, self.candidates)
        self.candidates = torch.cat([self.candidates, vectors])
        self.candidate.inputs.append("item", bags, dense)
        self.known.add_items(ids)
        self.item_ids.add(ids)


def check_k(k: int) -> None:
    """Raises when a list of so many items makes no sense."""
    if k < 1:
        raise ValueError(f"`k` must be at least 1, got {k}")
