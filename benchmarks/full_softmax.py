"""A step of `recsys.full_softmax.full_softmax`, forward and backward, against torch's own operations.

These are the product of queries and candidates and `torch.nn.functional.cross_entropy`, which hold all
scores; the bound beside them is the three matrix products alone, scores and both gradients.

Legend: B queries, D embedding dimension, I catalogue.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from benchmarks.harness import Figure, Settings, alternate, ratios
from recsys.losses.full_softmax import full_softmax

_STEPS = 10
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def run(settings: Settings) -> list[Figure]:
    """Ratios of our seconds to those of torch's operations and to the bare products."""
    num_queries, dim = (64, 16) if settings.toy else (1024, 64)
    sizes = [500] if settings.toy else [1600, 12_000]
    return [
        figure
        for num_items in sizes
        for precision in _DTYPES
        for figure in _figures(settings, (num_queries, num_items, dim), precision)
    ]


def _figures(settings: Settings, size: tuple[int, int, int], precision: str) -> list[Figure]:
    num_queries, num_items, dim = size
    torch.manual_seed(0)
    queries_BD = torch.randn(num_queries, dim, requires_grad=True)
    candidates_ID = (0.05 * torch.randn(num_items, dim)).requires_grad_()
    targets_B = torch.randint(0, num_items, (num_queries,))
    mixed = {"dtype": torch.bfloat16, "enabled": precision == "bfloat16"}

    def ours() -> None:
        with torch.autocast("cpu", **mixed):
            loss = full_softmax(queries_BD, candidates_ID, targets_B)
        loss.backward()  # type: ignore[no-untyped-call]

    def whole() -> None:
        with torch.autocast("cpu", **mixed):
            scores_BI = queries_BD @ candidates_ID.T
        cross_entropy(scores_BI.float(), targets_B).backward()  # type: ignore[no-untyped-call]

    left, right = (tensor.detach().to(_DTYPES[precision]) for tensor in (queries_BD, candidates_ID))

    def bare() -> None:
        scores_BI = left @ right.T
        scores_BI @ right, scores_BI.T @ left

    sides = {"ours": _timed(ours), "torch": _timed(whole), "products": _timed(bare)}
    found = alternate(sides, repeats=settings.repeats)
    shape = f"{num_queries:,} x {num_items:,} x {dim}, {precision}"
    notes = {"seconds": found, "steps": _STEPS}
    return [
        Figure(
            f"seconds to cross_entropy of all scores, {shape}",
            ratios(found["ours"], found["torch"]),
            "",
            notes,
        ),
        Figure(f"seconds to the three products, {shape}", ratios(found["ours"], found["products"])),
    ]


def _timed(step: Callable[[], None]) -> Callable[[], float]:
    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(_STEPS):
            step()
        return time.perf_counter() - started

    return seconds
