"""Exact top-k over a whole catalogue, seen items left out, ties decided by the lower catalogue row.

Row 0 stands for the unknown item and is never returned. Where fewer than k items are left, a list ends in row
0 with a score of minus infinity.

Legend: B queries, D embedding dimension, I catalogue rows, K cut-off, N positions, G size of a group of them,
V values of a jagged field.
"""

import math

import torch

from recsys.schema.errors import InputError
from recsys.schema.jagged import JaggedColumn

# Scores held at a time: 32 MB of float32, near enough to the cache for the passes that follow the product.
_BLOCK_SCORES = 2**23
_BLOCK_ITEMS = 2**17
# With fewer queries the product of a large catalogue takes half as long again, whatever the cache holds.
_MIN_BLOCK_QUERIES = 256
# Below this many scores a query, grouping them first costs more than it saves.
_MIN_GROUPED = 4096


@torch.no_grad()
def top_k(
    queries_BD: torch.Tensor,
    candidates_ID: torch.Tensor,
    k: int,
    *,
    seen: JaggedColumn | None = None,
    excluded_I: torch.Tensor | None = None,
    added_BI: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best candidates of each query by dot product.

    Works through blocks of the score matrix, so that memory does not depend on B or I.

    Args:
        queries_BD: [B, D] vectors.
        candidates_ID: [I, D] vectors, by catalogue row.
        k: length of the lists.
        seen: [B] lists of catalogue rows that must not be returned.
        excluded_I: [I] bool, catalogue rows that no query is answered with.
        added_BI: [B, I] what is added to the products; nothing when None.

    Returns:
        scores_BK: [B, K] descending.
        item_rows_BK: [B, K] int64.

    Raises:
        ValueError: a score is not a number.

    Example:
        >>> scores, rows = top_k(torch.tensor([[1.0]]), torch.tensor([[9.0], [3.0], [5.0], [5.0]]), 2)
        >>> scores.tolist(), rows.tolist()
        ([[5.0, 5.0]], [[2, 3]])
    """
    num_queries, num_items = len(queries_BD), len(candidates_ID)
    scores_BK = queries_BD.new_full((num_queries, k), -math.inf)
    item_rows_BK = torch.zeros((num_queries, k), dtype=torch.int64, device=queries_BD.device)
    block_items = min(_BLOCK_ITEMS, max(num_items, 1))
    block_queries = max(_MIN_BLOCK_QUERIES, _BLOCK_SCORES // block_items)
    buffer = queries_BD.new_empty((min(block_queries, num_queries), block_items))
    for start in range(0, num_queries, block_queries):
        queries = slice(start, min(start + block_queries, num_queries))
        seen_rows = None if seen is None else _flat(seen.at(queries))
        for first_item in range(0, num_items, block_items):
            candidates = candidates_ID[first_item : first_item + block_items]
            scores = buffer[: queries.stop - start, : len(candidates)]
            torch.mm(queries_BD[queries], candidates.T, out=scores)
            if added_BI is not None:
                scores += added_BI[queries, first_item : first_item + block_items]
            if seen_rows is not None:
                _mask_seen(scores, *seen_rows, first_item=first_item)
            if first_item == 0:
                scores[:, 0] = -math.inf
            if excluded_I is not None:
                scores.masked_fill_(excluded_I[first_item : first_item + block_items], -math.inf)
            best = _select(scores, k)
            scores_BK[queries], item_rows_BK[queries] = _merge(
                (scores_BK[queries], item_rows_BK[queries]), (best[0], best[1] + first_item), k
            )
    return scores_BK, item_rows_BK.masked_fill_(scores_BK == -math.inf, 0)


@torch.no_grad()
def top_k_of_scores(
    scores_BI: torch.Tensor,
    k: int,
    *,
    seen: JaggedColumn | None = None,
    overwrite: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best items of each query, given the score of every item.

    Args:
        scores_BI: [B, I] by catalogue row; left as it is, unless it may be overwritten.
        k: length of the lists.
        seen: [B] lists of catalogue rows that must not be returned.
        overwrite: whether the scores are nobody's any more, so that they need not be copied.

    Returns:
        scores_BK: [B, K] descending.
        item_rows_BK: [B, K] int64.

    Raises:
        ValueError: a score is not a number.
    """
    masked_BI = scores_BI if overwrite else scores_BI.clone()
    if seen is not None:
        _mask_seen(masked_BI, *_flat(seen), first_item=0)
    masked_BI[:, :1] = -math.inf
    scores_BK, item_rows_BK = _select(masked_BI, k)
    missing = k - scores_BK.shape[1]
    scores_BK = torch.nn.functional.pad(scores_BK, (0, missing), value=-math.inf)
    item_rows_BK = torch.nn.functional.pad(item_rows_BK, (0, missing))
    return scores_BK, item_rows_BK.masked_fill_(scores_BK == -math.inf, 0)


def _flat(seen: JaggedColumn) -> tuple[torch.Tensor, torch.Tensor]:
    """[V] query and item of each element."""
    return seen.rows, seen.compact().values.long()


def _mask_seen(
    scores_BN: torch.Tensor, queries_V: torch.Tensor, items_V: torch.Tensor, *, first_item: int
) -> None:
    """Sets the scores of seen items to minus infinity; column 0 of `scores_BN` is item `first_item`."""
    columns_V = items_V - first_item
    inside_V = (columns_V >= 0) & (columns_V < scores_BN.shape[1])
    scores_BN[queries_V[inside_V], columns_V[inside_V]] = -math.inf


def _merge(
    earlier: tuple[torch.Tensor, torch.Tensor], later: tuple[torch.Tensor, torch.Tensor], k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of two ranked lists, the first of which holds the lower rows."""
    scores = torch.cat([earlier[0], later[0]], dim=1)
    best, positions = _best(scores, k)
    return best, torch.cat([earlier[1], later[1]], dim=1).gather(1, positions)


def _select(scores_BN: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and positions of the min(k, N) best of each row.

    Where N is large the positions are dealt to groups, and only the k groups with the highest maxima are
    searched: as long as no other group has the same maximum as the last of them, they hold the k best. A pass
    for the maxima and two small searches take less than half the time of `torch.topk` over all.
    """
    num_positions = scores_BN.shape[1]
    group_size = math.isqrt(num_positions // k)
    if num_positions < _MIN_GROUPED or group_size < 4:
        return _best(scores_BN, k)
    num_groups = num_positions // group_size
    # Group g holds g, g + num_groups, ...: the maxima are then taken down columns, which vectorises.
    grouped = scores_BN[:, : num_groups * group_size].view(len(scores_BN), group_size, num_groups)
    maxima, groups = torch.topk(grouped.amax(dim=1), k + 1, dim=1)
    undecided = maxima[:, k - 1] == maxima[:, k]
    starts = torch.arange(group_size, device=scores_BN.device) * num_groups
    searched = (starts[:, None] + groups[:, None, :k].sort(dim=2).values).flatten(1)
    rest = torch.arange(num_groups * group_size, num_positions, device=scores_BN.device)
    searched = torch.cat([searched, rest.expand(len(searched), -1)], dim=1)
    best, positions = _best(scores_BN.gather(1, searched), k)
    positions = searched.gather(1, positions)
    if undecided.any():
        best[undecided], positions[undecided] = _best(scores_BN[undecided], k)
    return best, positions


def _best(scores_BN: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`torch.topk` with min(k, N) and ties by the lower position; torch leaves their order open."""
    k = min(k, scores_BN.shape[1])
    scores, positions = torch.topk(scores_BN, min(k + 1, scores_BN.shape[1]), dim=1)
    if scores[:, :1].isnan().any():  # NaN sorts first
        raise InputError("a score is not a number (NaN); the model that scored has diverged: train it anew")
    tied = ((scores[:, 1:] == scores[:, :-1]) & (scores[:, 1:] > -math.inf)).any(dim=1)
    scores, positions = scores[:, :k], positions[:, :k]
    if tied.any():
        scores[tied], positions[tied] = _best_of_tied(scores_BN[tied], threshold=scores[tied, -1:], k=k)
    return scores, positions


def _best_of_tied(
    scores_BN: torch.Tensor, *, threshold: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of each row, whose k-th best score is `threshold` [B, 1]."""
    above = scores_BN > threshold
    level = scores_BN == threshold
    places_left = k - above.sum(dim=1, keepdim=True)
    chosen = above | (level & (level.cumsum(dim=1) <= places_left))
    positions = chosen.nonzero()[:, 1].view(-1, k)
    scores, order = scores_BN.gather(1, positions).sort(dim=1, descending=True, stable=True)
    return scores, positions.gather(1, order)
