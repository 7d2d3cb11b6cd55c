"""choose: the k best of ranked candidates, or the MMR order that spares near copies, as TorchScript.

Reference: Carbonell, Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and
Producing Summaries", SIGIR 1998.

Legend: N candidates, best retrieval score first, D dimension of their vectors, K cut-off.
"""
# ruff: noqa: UP006, UP035 (scripted)

import math
from typing import List

import torch


def choose(
    probabilities_N: torch.Tensor, order_N: torch.Tensor, vectors_ND: torch.Tensor, k: int, diversity: float
) -> torch.Tensor:
    """Positions [K] of the k candidates to show, best first; fewer where there are fewer.

    Each next one has the highest

        (1 - diversity) x probability - diversity x (largest cosine to one that is chosen already);

    ties go to the higher probability, then to the higher retrieval score.

    Args:
        probabilities_N: [N] by the ranking model.
        order_N: [N] `by_probability` of them.
        vectors_ND: [N, D] of the candidates.
        k: at least 1.
        diversity: from 0, the order of the probabilities, to 1, which looks at the first of them alone.
    """
    if diversity <= 0.0 or order_N.numel() == 0:
        return order_N[:k]
    gains = (1.0 - diversity) * probabilities_N[order_N]
    vectors = torch.nn.functional.normalize(vectors_ND[order_N], dim=1)
    closest = torch.full_like(gains, -1.0)
    chosen: List[int] = []
    while len(chosen) < min(k, order_N.numel()):
        values = gains - diversity * closest
        best = int(torch.nonzero(values == values.max())[0])
        chosen.append(best)
        gains[best] = -math.inf
        closest = torch.maximum(closest, torch.mv(vectors, vectors[best]))
    return order_N[torch.tensor(chosen, dtype=torch.int64)]


def by_probability(probabilities_N: torch.Tensor) -> torch.Tensor:
    """Positions [N], best first, ties by the higher retrieval score."""
    return torch.sort(probabilities_N, stable=True, dim=0, descending=True)[1]


def sources_of(chosen_K: torch.Tensor, order_N: torch.Tensor, k: int) -> List[str]:
    """The first stage that would have put each of the chosen candidates among the k best by itself.

    `retrieval` by the retrieval score; else `ranking` by the probability; else `diversity`.
    """
    places_N = torch.empty_like(order_N)
    places_N[order_N] = torch.arange(order_N.numel())
    positions: List[int] = chosen_K.tolist()
    places: List[int] = places_N[chosen_K].tolist()
    sources: List[str] = []
    for number, position in enumerate(positions):
        if position < k:
            sources.append("retrieval")
        elif places[number] < k:
            sources.append("ranking")
        else:
            sources.append("diversity")
    return sources
