"""Measures the MLP against the machine's matrix rate, and look-ups against its memory's rate.

The bound says what the framework costs; this says what the bound leaves unused.

Legend: B examples, F categorical features.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch

from benchmarks.bound import fused_tables, mlp
from benchmarks.harness import Figure, Settings, alternate, rate_of, ratios
from benchmarks.workload import EMBEDDING_DIM, MLP_WIDTHS, NUM_TABLES, Workload

_FLOAT = 4  # bytes


def run(settings: Settings) -> list[Figure]:
    """Shares of the matrix rate (float32, bf16), of the copy rate and of the rate of bare row gathers."""
    rows, steps = (1000, 3) if settings.toy else (1_000_000, 40)
    workload = Workload(rows, batch_size=256 if settings.toy else 4096, num_batches=4 if settings.toy else 16)
    size = 256 if settings.toy else 3072
    sides: dict[str, Callable[[], float]] = {
        "mlp float32": lambda: _mlp(workload.batch_size, steps, bf16=False),
        "matrix float32": lambda: _matrix(size, torch.float32),
        "mlp bf16": lambda: _mlp(workload.batch_size, steps, bf16=True),
        "matrix bf16": lambda: _matrix(size, torch.bfloat16),
        **_memory_sides(workload, steps),
    }
    found = alternate(sides, repeats=settings.repeats)
    pairs = {
        "MLP to matrix product, float32": ("mlp float32", "matrix float32"),
        "MLP to matrix product, bf16": ("mlp bf16", "matrix bf16"),
        "matrix product, bf16 to float32": ("matrix bf16", "matrix float32"),
        f"look-up forward to copy, {rows:,} rows": ("look-up forward", "copy"),
        f"look-up with update to copy, {rows:,} rows": ("look-up with update", "copy"),
        f"look-up forward to bare gather, {rows:,} rows": ("look-up forward", "gather"),
        f"bare gather to copy, {rows:,} rows": ("gather", "copy"),
    }
    notes = {name: {"unit": _unit(name), "measured": values} for name, values in found.items()}
    return [
        Figure(name, ratios(found[over], found[under]), notes={over: notes[over], under: notes[under]})
        for name, (over, under) in pairs.items()
    ]


def _unit(side: str) -> str:
    return "floating-point operations a second" if side.startswith(("mlp", "matrix")) else "bytes a second"


def _mlp(batch_size: int, steps: int, *, bf16: bool) -> float:
    """Floating-point operations a second of forward and backward, the gradient of the input included."""
    layers, inputs = mlp(), torch.randn(batch_size, MLP_WIDTHS[0], requires_grad=True)

    def step(number: int) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            layers(inputs).float().sum().backward()

    operations = 6 * batch_size * sum(a * b for a, b in pairwise(MLP_WIDTHS))
    return rate_of(step, units=operations, steps=steps)


def _matrix(size: int, dtype: torch.dtype) -> float:
    left, right = torch.randn(size, size, dtype=dtype), torch.randn(size, size, dtype=dtype)
    return rate_of(lambda number: left @ right, units=2 * size**3, steps=5, warmup=1)


def _memory_sides(workload: Workload, steps: int) -> dict[str, Callable[[], float]]:
    """Bytes a second that must at least pass: each row touched is counted once a pass, cached or not."""
    ids = [rows_FB.view(-1) for rows_FB, _, _ in workload.batches()]
    offsets = torch.arange(NUM_TABLES * workload.batch_size + 1)
    tables = fused_tables(workload.rows, EMBEDDING_DIM, std=0.01)
    gradient = torch.randn(workload.batch_size, NUM_TABLES * EMBEDDING_DIM)
    stacked = torch.randn(workload.rows * NUM_TABLES, EMBEDDING_DIM)
    first_rows = (torch.arange(NUM_TABLES) * workload.rows).repeat_interleave(workload.batch_size)
    shifted = [batch + first_rows for batch in ids]
    source = torch.randn(workload.rows * 16)
    target = torch.empty_like(source)
    passed = gradient.numel() * _FLOAT

    def look_up(number: int) -> None:
        with torch.no_grad():
            tables(ids[number % len(ids)], offsets)

    def update(number: int) -> None:
        tables(ids[number % len(ids)], offsets).backward(gradient)

    return {
        "copy": lambda: rate_of(
            lambda _: target.copy_(source), units=2 * source.numel() * _FLOAT, steps=steps
        ),
        # Rows in and out.
        "look-up forward": lambda: rate_of(look_up, units=2 * passed, steps=steps),
        # Rows in and out, gradients in, rows in and out again.
        "look-up with update": lambda: rate_of(update, units=5 * passed, steps=steps),
        "gather": lambda: rate_of(
            lambda number: stacked.index_select(0, shifted[number % len(shifted)]),
            units=2 * passed,
            steps=steps,
        ),
    }
