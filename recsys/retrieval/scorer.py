"""CatalogueScorer: the best items of a whole catalogue for queries, each as of its own instant.

Legend: B queries, I catalogue rows, D dimension of the vectors, K length of the lists, P windows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from recsys.retrieval.exact import top_k
from recsys.retrieval.parts import joined, popularity, taste
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.sums import Added, best_of_sums
from recsys.schema.batch import Batch
from recsys.schema.features import HISTORY
from recsys.schema.jagged import JaggedColumn


class CatalogueScorer:
    """The vectors of a catalogue, whose popularity is that of the instant of each query.

    Args:
        candidates_ID: the catalogue as the model encodes it.
        popularity: of the model's windows; None of a model without any, and where nothing is known of time.
        added: what a model adds to the products of vectors, by the history of each query.
    """

    def __init__(
        self, candidates_ID: torch.Tensor, popularity: Popularity | None = None, *, added: Added | None = None
    ) -> None:
        self._candidates_ID = candidates_ID
        self._popularity = popularity
        self._added = added

    @property
    def device(self) -> torch.device:
        """Where the vectors are."""
        return self._candidates_ID.device

    def latest(self) -> torch.Tensor:
        """[I, D] vectors at the end of the data; row 0 is as popular as an item that nobody has liked."""
        if self._popularity is None:
            return self._candidates_ID
        latest_IP = self._popularity.latest.clone()
        latest_IP[0] = self._popularity.latest_of_unseen
        return joined(taste(self._candidates_ID, self._popularity.num_windows), latest_IP)

    def at(self, instants_B: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Positions of instants and vectors [I, D] then, every instant once.

        NOTE: the vectors are overwritten by the next ones.
        """
        assert self._popularity is not None
        candidates_ID = self._candidates_ID.clone()
        for positions, popularity_IP in self._popularity.by_period(instants_B):
            popularity(candidates_ID, self._popularity.num_windows).copy_(popularity_IP)
            yield positions, candidates_ID

    @torch.no_grad()
    def best(
        self,
        queries_BD: torch.Tensor,
        k: int,
        *,
        batch: Batch,
        excluded_I: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and rows of the k best items for each query (`recsys.retrieval.exact.top_k`).

        Args:
            queries_BD: of the batch.
            k: length of the lists.
            batch: queries with what they must not be answered with.
            excluded_I: [I] bool, items that no query is answered with.
        """
        assert batch.seen is not None
        if self._added is not None:
            bags = batch.ids[HISTORY]
            return best_of_sums(
                queries_BD,
                self._candidates_ID,
                k,
                histories=JaggedColumn.of_lengths(bags.values(), bags.lengths().long()),
                added=self._added,
                seen=batch.seen,
                excluded_I=excluded_I,
            )
        if self._popularity is None:
            return top_k(queries_BD, self._candidates_ID, k, seen=batch.seen, excluded_I=excluded_I)
        assert batch.sequences is not None
        scores_BK = queries_BD.new_empty(len(queries_BD), k, dtype=torch.float32)
        rows_BK = torch.empty(len(queries_BD), k, dtype=torch.int64, device=queries_BD.device)
        for chosen, candidates_ID in self.at(batch.sequences.query_instants):
            seen = batch.seen.at(chosen)
            best = top_k(queries_BD[chosen], candidates_ID, k, seen=seen, excluded_I=excluded_I)
            scores_BK[chosen], rows_BK[chosen] = best[0].float(), best[1]
        return scores_BK, rows_BK
