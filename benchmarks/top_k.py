"""Full-catalogue top-k, `recsys.retrieval.exact.top_k`, against the bare blocked product and `torch.topk`.

The bare one masks nothing, orders no ties and takes the block size that is best for it.

Legend: B queries, D embedding dimension, I catalogue rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks.harness import Figure, Settings, alternate, ratios
from recsys.retrieval.exact import top_k
from recsys.schema.jagged import JaggedColumn

_K = 100
_SEEN = 50
_BLOCKS = (16, 64, 256, 1024)


def run(settings: Settings) -> list[Figure]:
    """Ratio of our seconds to the bare ones."""
    num_queries, num_items, dim = (200, 2000, 16) if settings.toy else (10_000, 100_000, 64)
    torch.manual_seed(0)
    queries_BD, items_ID = torch.randn(num_queries, dim), torch.randn(num_items, dim)
    seen = torch.randint(1, num_items, (num_queries * _SEEN,))
    seen_lists = JaggedColumn.of_offsets(seen, torch.arange(num_queries + 1) * _SEEN)

    def ours() -> float:
        return _seconds(lambda: top_k(queries_BD, items_ID, _K, seen=seen_lists))

    part = queries_BD[: max(num_queries // 10, 1)]
    times = {block: _seconds(lambda block=block: bare(part, items_ID, block)) for block in _BLOCKS}
    best = min(times, key=times.__getitem__)
    sides = {"ours": ours, "bare": lambda: _seconds(lambda: bare(queries_BD, items_ID, best))}
    found = alternate(sides, repeats=settings.repeats)
    size = f"{num_queries:,} x {num_items:,} x {dim}, top {_K}, seen masked"
    name = f"seconds to the bare product and topk, {size}"
    notes = {"seconds": found, "block_of_bare": best}
    return [Figure(name, ratios(found["ours"], found["bare"]), "at most 1.3", notes)]


def bare(queries_BD: torch.Tensor, items_ID: torch.Tensor, block: int) -> list[torch.Tensor]:
    """Rows of the best items, [block, K] a piece."""
    return [torch.topk(part_BD @ items_ID.T, _K, dim=1).indices for part_BD in queries_BD.split(block)]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
