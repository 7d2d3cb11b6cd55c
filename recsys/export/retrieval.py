"""RetrievalProgram: what becomes `retrieval.pt`; raw values in, vectors or raw item ids out.

NOTE: `recommend` and `recommend_batch` have no return type here: TorchScript infers it, lists of integers or
of strings, as the item ids are. (A type comment with anything behind it TorchScript would take for its own.)

Legend: B queries, N items, D dimension of the vectors, I catalogue rows, K cut-off.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)
# mypy: no-warn-return-any

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, cast

import torch
from torch import nn

from recsys.export.columns import pick
from recsys.export.inputs import Histories, Inputs
from recsys.export.interfaces import Head, RowIndex
from recsys.export.search import best_items


class RetrievalProgram(nn.Module):
    """Encodes users and items and recommends from the catalogue inside.

    Args:
        users, items: rows of raw ids.
        item_ids: raw ids of catalogue rows, `IntegerIds` or `StringIds`.
        user_fields, item_fields: names under which a record may hold its id.
        histories: turns catalogue rows into what models read.
        query, candidate: inputs of the towers.
        query_tower, candidate_tower: of the trained model.
        candidates: [I, D] vectors of the catalogue.
    """

    user_fields: List[str]
    item_fields: List[str]
    candidates: torch.Tensor
    users: RowIndex
    items: RowIndex
    query_tower: Head
    candidate_tower: Head
    if TYPE_CHECKING:
        item_ids: Any  # no interface: what it returns depends on the type of the ids

    def __init__(
        self,
        *,
        users: nn.Module,
        items: nn.Module,
        item_ids: nn.Module,
        user_fields: List[str],
        item_fields: List[str],
        histories: Histories,
        query: Inputs,
        candidate: Inputs,
        query_tower: nn.Module,
        candidate_tower: nn.Module,
        candidates: torch.Tensor,
    ) -> None:
        super().__init__()
        self.users = cast(RowIndex, users)
        self.items = cast(RowIndex, items)
        self.item_ids = item_ids
        self.user_fields = user_fields
        self.item_fields = item_fields
        self.histories = histories
        self.query = query
        self.candidate = candidate
        self.query_tower = cast(Head, query_tower)
        self.candidate_tower = cast(Head, candidate_tower)
        self.register_buffer("candidates", candidates)

    @torch.jit.export
    def encode_user(
        self, user: Dict[str, Any], history: List[Any], context: Optional[Dict[str, Any]] = None
    ) -> torch.Tensor:
        """Vector [D] of a user.

        Args:
            user: fields of the users' table; of a known user the id is enough.
            history: raw ids of the items the user liked, oldest first.
            context: fields of the interactions' table, as the timestamp of the request.
        """
        rows, lengths = self.history_rows([history])
        return self.encode_queries([user], rows, lengths, [self.or_nothing(context)])[0]

    @torch.jit.export
    def encode_users(
        self,
        users: List[Dict[str, Any]],
        histories: List[List[Any]],
        contexts: Optional[List[Dict[str, Any]]] = None,
    ) -> torch.Tensor:
        """Vectors [B, D] of several users."""
        rows, lengths = self.history_rows(histories)
        return self.encode_queries(users, rows, lengths, self.each_or_nothing(contexts, len(users)))

    @torch.jit.export
    def encode_item(self, item: Dict[str, Any]) -> torch.Tensor:
        """Vector [D] of an item from fields of the items' table; of a known item the id is enough."""
        return self.encode_items([item])[0]

    @torch.jit.export
    def encode_items(self, items: List[Dict[str, Any]]) -> torch.Tensor:
        """Vectors [N, D] of several items."""
        bags, dense = self.item_features(items)
        return self.candidate_tower.forward(self.candidate.embed(bags, len(items)), dense)

    @torch.jit.export
    def recommend(  # type: ignore[no-untyped-def]
        self,
        user: Dict[str, Any],
        history: List[Any],
        k: int,
        context: Optional[Dict[str, Any]] = None,
        exclude: Optional[List[Any]] = None,
    ):
        """Raw ids of the k best items and their scores, best first; fewer where fewer are left.

        Args:
            user: see `encode_user`.
            history: see `encode_user`; its items are not recommended.
            k: at least 1.
            context: see `encode_user`.
            exclude: raw ids of further items that must not be recommended.
        """
        rows, lengths = self.history_rows([history])
        vectors = self.encode_queries([user], rows, lengths, [self.or_nothing(context)])
        excluded = rows if exclude is None else torch.cat([rows, self.items.rows_of(exclude)])
        found, scores = self.best(vectors[0], excluded, k)
        listed: List[float] = scores.tolist()
        return self.item_ids.ids_of(found), listed

    @torch.jit.export
    def recommend_batch(  # type: ignore[no-untyped-def]
        self,
        users: List[Dict[str, Any]],
        histories: List[List[Any]],
        k: int,
        contexts: Optional[List[Dict[str, Any]]] = None,
        excludes: Optional[List[List[Any]]] = None,
    ):
        """Lists of raw item ids and of scores, one for each user; arguments as of `recommend`."""
        rows, lengths = self.history_rows(histories)
        vectors = self.encode_queries(users, rows, lengths, self.each_or_nothing(contexts, len(users)))
        seen = torch.split_with_sizes(rows, self.sizes(histories))
        found: List[torch.Tensor] = []
        scores: List[List[float]] = []
        for position in range(len(users)):
            excluded = seen[position]
            if excludes is not None:
                excluded = torch.cat([excluded, self.items.rows_of(excludes[position])])
            best, best_scores = self.best(vectors[position], excluded, k)
            listed: List[float] = best_scores.tolist()
            found.append(best)
            scores.append(listed)
        return self.item_ids.lists_of(found), scores

    def best(self, vector: torch.Tensor, excluded: torch.Tensor, k: int) -> Tuple[torch.Tensor, torch.Tensor]:
        """Catalogue rows and scores of the k best items."""
        if k < 1:
            raise ValueError(f"`k` must be at least 1, got {k}")
        return best_items(torch.mv(self.candidates, vector), excluded, k)

    def encode_queries(
        self,
        users: List[Dict[str, Any]],
        history: torch.Tensor,
        lengths: torch.Tensor,
        contexts: List[Dict[str, Any]],
    ) -> torch.Tensor:
        """Vectors [B, D]; histories as catalogue rows."""
        bags, dense = self.query_features(users, history, lengths, contexts)
        return self.query_tower.forward(self.query.embed(bags, len(users)), dense)

    def query_features(
        self,
        users: List[Dict[str, Any]],
        history: torch.Tensor,
        lengths: torch.Tensor,
        contexts: List[Dict[str, Any]],
    ) -> Tuple[Dict[str, Tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
        """Bags of the sparse features and dense values [B, ...] of queries."""
        if len(users) != lengths.numel() or len(users) != len(contexts):
            raise ValueError(
                f"there must be as many histories and contexts as users ({len(users)}), "
                f"got {lengths.numel()} and {len(contexts)}"
            )
        rows = {"user": self.users.rows_of(first_of(users, self.user_fields))}
        rows["context"] = torch.zeros_like(rows["user"])
        records = {"user": users, "context": contexts}
        bags = self.query.bags(records, rows)
        bags["history"] = self.histories(history, lengths)
        return bags, self.query.numbers(records, rows, len(users))

    def item_features(
        self, items: List[Dict[str, Any]]
    ) -> Tuple[Dict[str, Tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
        """Bags of the sparse features and dense values [N, ...] of items."""
        rows = {"item": self.items.rows_of(first_of(items, self.item_fields))}
        records = {"item": items}
        return self.candidate.bags(records, rows), self.candidate.numbers(records, rows, len(items))

    def history_rows(self, histories: List[List[Any]]) -> Tuple[torch.Tensor, torch.Tensor]:
        """Catalogue rows [V] and lengths [B] of histories of raw ids."""
        flat: List[Any] = []
        for history in histories:
            flat.extend(history)
        return self.items.rows_of(flat), torch.tensor(self.sizes(histories), dtype=torch.int64)

    def sizes(self, histories: List[List[Any]]) -> List[int]:
        """Length of each history."""
        return [len(history) for history in histories]

    def or_nothing(self, record: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """The record, or one without fields."""
        nothing: Dict[str, Any] = {}
        return nothing if record is None else record

    def each_or_nothing(self, records: Optional[List[Dict[str, Any]]], count: int) -> List[Dict[str, Any]]:
        """The records, or `count` without fields."""
        if records is not None:
            return records
        nothing: Dict[str, Any] = {}
        return [nothing for _ in range(count)]


def first_of(records: List[Dict[str, Any]], fields: List[str]) -> List[Any]:
    """The value of each record under the first of the names that it has; None without."""
    found: List[Any] = []
    for record in records:
        given, _ = pick([record], fields)
        if len(given) > 0:
            found.append(given[0])
        else:
            found.append(None)
    return found
