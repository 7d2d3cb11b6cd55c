"""Exact top-k over the catalogue for one query, as TorchScript.

Gives what `recsys.retrieval.exact` gives: row 0 and excluded rows never, ties by the lower row.

Legend: I catalogue rows, N positions, K cut-off.
"""
# ruff: noqa: UP006, UP035 (scripted)

import math
from typing import Tuple

import torch


def best_items(scores_I: torch.Tensor, excluded: torch.Tensor, k: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """The k best items and their scores, best first; fewer where fewer are left.

    Args:
        scores_I: [I] by catalogue row; written to.
        excluded: rows that must not be returned, repeats allowed.
        k: at least 1.

    Returns:
        Rows and scores, [K] each.
    """
    scores_I[0] = -math.inf
    scores_I[excluded] = -math.inf
    return best_left(scores_I, k)


def best_left(scores_N: torch.Tensor, k: int) -> Tuple[torch.Tensor, torch.Tensor]:
    """Positions and scores [K] of the k best, best first, but for what has a score of minus infinity."""
    if scores_N.numel() == 0:
        return torch.zeros(0, dtype=torch.int64), scores_N
    group = int(math.sqrt(scores_N.numel() / k))
    # The k groups of neighbours with the highest maxima hold the k best: a fast pass and two small searches.
    if scores_N.numel() >= 4096 and group >= 4:
        num_groups = scores_N.numel() // group
        maxima = scores_N[: num_groups * group].view(num_groups, group).amax(dim=1)
        chosen = torch.sort(_best_positions(maxima, k))[0]
        searched = (chosen.unsqueeze(1) * group + torch.arange(group)).flatten()
        searched = torch.cat([searched, torch.arange(num_groups * group, scores_N.numel())])
        positions = searched[_best_positions(scores_N[searched], k)]
    else:
        positions = _best_positions(scores_N, k)
    scores = scores_N[positions]
    left = scores > -math.inf
    return positions[left], scores[left]


def _best_positions(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Positions of the k best scores, best first, ties by the lower one; `torch.topk` leaves them open."""
    wanted = min(k, scores.numel())
    # To sort so few is quicker than to search them.
    if scores.numel() <= 1024:
        return torch.sort(scores, stable=True, dim=0, descending=True)[1][:wanted]
    best = torch.topk(scores, min(wanted + 1, scores.numel()))[0]
    threshold = best[wanted - 1]
    if wanted < best.numel() and best[wanted] == threshold:
        above = torch.nonzero(scores > threshold).flatten()
        level = torch.nonzero(scores == threshold).flatten()[: wanted - above.numel()]
        positions = torch.sort(torch.cat([above, level]))[0]
    else:
        positions = torch.nonzero(scores >= threshold).flatten()
    order = torch.sort(scores[positions], stable=True, dim=0, descending=True)[1]
    return positions[order]
