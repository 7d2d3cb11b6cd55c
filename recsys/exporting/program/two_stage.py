"""TwoStageProgram: what becomes `recommender.pt`; a user's raw values in, ranked raw item ids out.

Both stages are whole in it: `model.retrieval` and `model.ranking` answer what a bundle of one model answers.

NOTE: `recommend` and `recommend_batch` have no return type here, as in `recsys.exporting.program.retrieval`.

Legend: B queries, N candidates, I catalogue rows, D dimension of their vectors, K cut-off.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)
# mypy: allow-untyped-calls, no-warn-return-any

from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch
from torch import nn

from recsys.exporting.program.diverse import by_probability, choose, sources_of
from recsys.exporting.program.known import empty_records, renamed
from recsys.exporting.program.ranking import RankingProgram
from recsys.exporting.program.retrieval import RetrievalProgram, check_k
from recsys.exporting.program.types import Features, Record
from recsys.retrieval.parts import taste


class TwoStageProgram(nn.Module):
    """Retrieves candidates, ranks them by probability and, where asked, spreads them.

    Args:
        retrieval: the first stage.
        ranking: the second stage.
        ranker_rows: [I] where the ranking model has each item of the catalogue; 0 where it knows none.
        fields: what the ranking model calls fields of a user's, a context's and an item's record, where it
            calls them otherwise.
        num_candidates: that are ranked, unless a request says otherwise.
        diversity: of lists, see `recsys.exporting.program.diverse`, unless a request says otherwise.
    """

    ranker_rows: torch.Tensor
    user_fields: Dict[str, str]
    context_fields: Dict[str, str]
    item_fields: Dict[str, str]

    def __init__(
        self,
        retrieval: RetrievalProgram,
        ranking: RankingProgram,
        *,
        ranker_rows: torch.Tensor,
        fields: Tuple[Mapping[str, str], Mapping[str, str], Mapping[str, str]],
        num_candidates: int,
        diversity: float,
    ) -> None:
        super().__init__()
        self.retrieval = retrieval
        self.ranking = ranking
        self.register_buffer("ranker_rows", ranker_rows)
        self.user_fields, self.context_fields, self.item_fields = (dict(names) for names in fields)
        self.num_candidates = num_candidates
        self.diversity = diversity

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
        num_candidates: Optional[int] = None,
        diversity: Optional[float] = None,
        where: Optional[Dict[str, List[Any]]] = None,
    ):
        """Raw ids, probabilities, retrieval scores and sources of the k items to show, best first.

        A source is the first stage to choose the item: `retrieval`, `ranking` or `diversity`.

        Args:
            user: fields of the users' table that either model reads; of a known user the id is enough.
            history: raw ids of the items the user liked, oldest first; not recommended where the manifest has
                `seen` `exclude`.
            k: how many items, at least 1; the list is shorter where fewer items are left.
            context: fields of the interactions' table that either model reads.
            exclude: raw ids of further items that must not be recommended.
            history_times: when each item of the history was liked.
            history_liked: whether each of them was; the ranking model is shown those alone.
            num_candidates: how many of what is left are ranked, k at least.
            diversity: weight of variety, 0 to 1; 0 is the order of the probabilities.
            where: raw values by attribute of the items, as the retrieval model's catalogue has them; of each
                attribute, an item must hold one of them.
        """
        ids, probabilities, scores, sources = self.recommend_batch(
            [user],
            [history],
            k,
            None if context is None else [context],
            None if exclude is None else [exclude],
            None if history_times is None else [history_times],
            None if history_liked is None else [history_liked],
            num_candidates,
            diversity,
            where,
        )
        return ids[0], probabilities[0], scores[0], sources[0]

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
        num_candidates: Optional[int] = None,
        diversity: Optional[float] = None,
        where: Optional[Dict[str, List[Any]]] = None,
    ):
        """Lists of ids, probabilities, retrieval scores and sources, one for each user; see `recommend`."""
        given = empty_records(len(users)) if contexts is None else contexts
        wanted = self.wanted(k, num_candidates, diversity)
        # What may not be shown is left out before the search, so that it takes no candidate's place.
        vectors, excluded = self.retrieval.questions(
            users, histories, given, excludes, history_times, history_liked
        )
        candidates, scores = self.retrieval.nearest(vectors, excluded, wanted, where)
        rows, probabilities, listed_scores, sources = self.ranked(
            users, histories, given, history_liked, candidates, scores, k, diversity
        )
        return self.retrieval.item_ids.lists_of(rows), probabilities, listed_scores, sources

    def ranked(
        self,
        users: List[Record],
        histories: List[List[Any]],
        contexts: List[Record],
        liked: Optional[List[List[bool]]],
        found: List[torch.Tensor],
        found_scores: List[torch.Tensor],
        k: int,
        diversity: Optional[float],
    ) -> Tuple[List[torch.Tensor], List[List[float]], List[List[float]], List[List[str]]]:
        """Catalogue rows, probabilities, retrieval scores and sources of the items to show, by user.

        Candidates are given as catalogue rows and retrieval scores, `found` and `found_scores`.
        """
        weight = self.diversity if diversity is None else diversity
        if liked is not None and len(liked) != len(users):
            raise ValueError(
                f"`history_liked` must be about {len(users)} histories, it is about {len(liked)}"
            )
        rows: List[torch.Tensor] = []
        probabilities: List[List[float]] = []
        scores: List[List[float]] = []
        sources: List[List[str]] = []
        for position, candidates in enumerate(found):
            history = histories[position]
            if liked is not None:
                history = _liked_items(history, liked[position])
            ranked = self.probabilities(users[position], contexts[position], history, candidates)
            # Only spreading a list asks how alike candidates are.
            compared = candidates if weight > 0.0 else candidates[:0]
            vectors = taste(
                self.retrieval.candidates.index_select(0, compared), self.retrieval.popularity_windows
            )
            order = by_probability(ranked)
            chosen = choose(ranked, order, vectors, k, weight)
            listed: List[float] = ranked[chosen].tolist()
            listed_scores: List[float] = found_scores[position][chosen].tolist()
            rows.append(candidates[chosen])
            probabilities.append(listed)
            scores.append(listed_scores)
            sources.append(sources_of(chosen, order, k))
        return rows, probabilities, scores, sources

    def wanted(self, k: int, num_candidates: Optional[int], diversity: Optional[float]) -> int:
        """Returns how many candidates a request for `k` items takes; refuses numbers outside the limits."""
        number = self.num_candidates if num_candidates is None else num_candidates
        weight = self.diversity if diversity is None else diversity
        check_k(k)
        if number < 1:
            raise ValueError(f"`num_candidates` must be at least 1, got {number}")
        # NaN fails too.
        if not (weight >= 0.0 and weight <= 1.0):
            raise ValueError(f"`diversity` must lie between 0 and 1, got {weight}")
        return max(k, number)

    def probabilities(
        self, user: Record, context: Record, history: List[Any], rows: torch.Tensor
    ) -> torch.Tensor:
        """Probabilities [N] of candidates, given as catalogue rows, by the ranking model."""
        logits = self.ranking.candidate_logits(
            renamed(user, self.user_fields),
            renamed(context, self.context_fields),
            history,
            self.ranker_rows.index_select(0, rows),
            self._counted_ids(rows),
        )
        return torch.sigmoid(logits)

    def ranker_features(
        self, user: Record, context: Record, history: List[Any], rows: torch.Tensor
    ) -> Features:
        """Bags and dense values [N, ...] for the ranking model; one bag stands for all candidates."""
        return self.ranking.candidate_features(
            renamed(user, self.user_fields),
            renamed(context, self.context_fields),
            history,
            self.ranker_rows.index_select(0, rows),
            self._counted_ids(rows),
        )

    def _counted_ids(self, rows: torch.Tensor) -> List[Any]:
        """Raw ids of candidates, where anything is counted by them."""
        ids: List[Any] = []
        if len(self.ranking.statistics.fields) > 0:
            for item_id in self.retrieval.item_ids.ids_of(rows):
                ids.append(item_id)  # noqa: PERF402 (scripted)
        return ids

    @torch.jit.export
    def inputs_of_candidates(
        self, user: Record, context: Record, history: List[Any], rows: torch.Tensor
    ) -> List[torch.Tensor]:
        """Makes the tensors that the ranking model's compiled package takes for `probabilities`."""
        bags, dense = self.ranker_features(user, context, history, rows)
        return self.ranking.package(bags, dense)

    @torch.jit.export
    def set_available(self, item_ids: List[Any], available: bool) -> int:
        """Says whether items may be recommended from now on; see `recsys.exporting.program.retrieval`.

        Args:
            item_ids: raw ids; those that the catalogue does not know do nothing.
            available: whether they may be recommended.

        Returns:
            How many of them the catalogue knows.
        """
        return self.retrieval.set_available(item_ids, available)

    @torch.jit.export
    def observe(self, rows: List[Record]) -> None:
        """Counts events in the ranking model's statistics; see `recsys.exporting.program.ranking`.

        Args:
            rows: user, item and context fields, and `label`, of events in the order of time.
        """
        self.ranking.observe(rows)

    @torch.jit.export
    def add_items(self, items: List[Record]) -> int:
        """Puts new items into the catalogue, to be recommended and ranked from now on.

        See `add_items` of both stages. What the ranking model knows already, of other data, stays as it is
        there.

        Args:
            items: fields of the items' table that either model reads, each with an id that the retrieval
                model does not know yet. Where one can't be read, none is added.

        Returns:
            How many were added.
        """
        ids, features = self.retrieval.read_new_items(items)
        ranker_rows = self.ranking.known.rows_of_items(ids)
        unknown: List[Record] = []
        for position, item in enumerate(items):
            if int(ranker_rows[position]) == 0:
                unknown.append(renamed(item, self.item_fields))
        # All is read before anything is changed.
        new_ids, ranker_features, keys = self.ranking.read_new_items(unknown)
        self.retrieval.keep_new_items(items, ids, features)
        self.ranking.keep_new_items(new_ids, ranker_features, keys)
        self.ranker_rows = torch.cat([self.ranker_rows, self.ranking.known.rows_of_items(ids)])
        return len(ids)

    @torch.jit.export
    def unread_fields(self, record: Record) -> List[str]:
        """Fields of a user's or a context's record that neither model reads, to find mistyped names.

        Args:
            record: any.
        """
        of_ranker = self.ranking.read_fields
        fields: List[str] = []
        for field in self.retrieval.unread_fields(record):
            of_user = self.user_fields.get(field, field)
            of_context = self.context_fields.get(field, field)
            if of_user not in of_ranker and of_context not in of_ranker:
                fields.append(field)
        return fields


def _liked_items(history: List[Any], liked: List[bool]) -> List[Any]:
    """The items of a history that were liked."""
    if len(liked) != len(history):
        raise ValueError(
            f"`history_liked` must have a truth value for each of the {len(history)} items of the history, "
            f"got {len(liked)}"
        )
    kept: List[Any] = []
    for position, item_id in enumerate(history):
        if liked[position]:
            kept.append(item_id)
    return kept
