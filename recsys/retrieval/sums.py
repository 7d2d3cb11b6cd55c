"""Exact top-k of the products of vectors and what a model adds to them by the history of each query.

Legend: B queries, D dimension of the vectors, I catalogue rows, V items of histories.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from recsys.retrieval.exact import top_k
from recsys.schema.jagged import JaggedColumn

# Of histories, their rows [V] and lengths [B] -> what is added to the scores [B, I].
Added = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# Scores that are added at a time: 64 MB of float32.
_BLOCK_SCORES = 2**24


@torch.no_grad()
def best_of_sums(
    queries_BD: torch.Tensor,
    candidates_ID: torch.Tensor,
    k: int,
    *,
    histories: JaggedColumn,
    added: Added,
    seen: JaggedColumn | None,
    excluded_I: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`top_k` of products to which something is added, for some queries at a time.

    Args:
        queries_BD: vectors of the queries.
        candidates_ID: of the catalogue.
        k: length of the lists.
        histories: [B] lists as `added` takes them.
        added: what is added.
        seen: as of `top_k`.
        excluded_I: as of `top_k`.
    """
    size = max(1, _BLOCK_SCORES // len(candidates_ID))
    found = []
    for chosen in torch.split(torch.arange(len(queries_BD), device=queries_BD.device), size):
        past = histories.select(chosen)
        found.append(
            top_k(
                queries_BD[chosen],
                candidates_ID,
                k,
                seen=None if seen is None else seen.at(chosen),
                excluded_I=excluded_I,
                added_BI=added(past.values, past.lengths),
            )
        )
    scores, rows = zip(*found, strict=True)
    return torch.cat(scores), torch.cat(rows)
