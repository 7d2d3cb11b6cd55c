"""`python train.py` as users run it, against the bound: the share of its speed that the framework keeps.

From prepared Parquet on disk to the optimizer's step, TensorBoard and progress bar on, in a process of its
own; the rate is taken between two steps that it logged, after the first eighth.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.criteo import criteo
from benchmarks.harness import Figure, Settings, alternate, best_rate, ratios
from benchmarks.terminal import run_on_terminal
from benchmarks.workload import BYTES_A_ROW, EMBEDDING_DIM, HIDDEN, largest_rows

TARGETS = {"float32": "at least 0.85", "bf16": "at least 0.75"}
PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed"}
_SMALL = 100_000
# The bound drops nothing either: the same arithmetic.
MODEL = (
    "model=wide_deep",
    f"model.embedding_dim={EMBEDDING_DIM}",
    f"model.hidden=[{','.join(map(str, HIDDEN))}]",
    "model.leave_out=[history]",
    "model.dropout=0",
    "model.id_dropout=0",
    "data.history_length=0",
    "optimizer.tables=rowwise_adagrad",
)


def run(settings: Settings) -> list[Figure]:
    """Ratios of train.py to the bound by size and precision, and of a step's time between sizes."""
    sizes = [1000] if settings.toy else settings.rows or [_SMALL, 1_000_000, largest_rows()]
    figures: list[Figure] = []
    for precision in settings.precisions:
        ours: dict[int, list[float]] = {}
        for rows in sizes:
            rates = _rates(settings, rows=rows, precision=precision)
            ours[rows] = rates["train.py"]
            figures.append(_against_bound(rates, rows=rows, precision=precision))
        figures += [
            Figure(
                f"a step's time with {rows:,} rows a table to that with {sizes[0]:,}, {precision}",
                ratios(ours[sizes[0]], ours[rows]),
                "at most 1.5",
            )
            for rows in sizes[1:]
        ]
    return figures


def _rates(settings: Settings, *, rows: int, precision: str) -> dict[str, list[float]]:
    examples, batch_size, steps = (30_000, 512, 40) if settings.toy else (2_000_000, 4096, 150)
    data = criteo(settings.cache, rows=rows, examples=examples)
    shape = [f"--rows={rows}", f"--batch-size={batch_size}", f"--steps={steps}"]
    base = [*MODEL, *data, f"data.batch_size={batch_size}", f"trainer.precision={PRECISIONS[precision]}"]
    train = partial(train_rate, settings, steps=steps, batch_size=batch_size)
    bf16 = ["--bf16"] if precision == "bf16" else []
    sides = {
        "bound": partial(best_rate, ["-m", "benchmarks.bound", *shape, *bf16]),
        "train.py": partial(train, base),
    }
    return alternate(sides, repeats=settings.repeats)


def train_rate(settings: Settings, overrides: Sequence[str], *, steps: int, batch_size: int) -> float:
    """Examples a second of `python train.py`, between the steps that it logged after the first eighth."""
    run_dir = settings.cache / "run"
    shutil.rmtree(run_dir, ignore_errors=True)
    shown = run_on_terminal(
        [
            "train.py",
            *overrides,
            f"trainer.limit_train_batches={steps}",
            "trainer.max_epochs=1",
            f"run_dir={run_dir}",
        ]
    )
    assert "it/s" in shown.terminal, "the progress bar did not show"
    board = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    logged = [event for event in board.Scalars("train/loss_step") if event.step >= steps // 8]
    shutil.rmtree(run_dir)  # checkpoints of large tables
    first, last = logged[0], logged[-1]
    return float(batch_size * (last.step - first.step) / (last.wall_time - first.wall_time))


def _against_bound(rates: dict[str, list[float]], *, rows: int, precision: str) -> Figure:
    notes = {
        "rows": rows,
        "precision": precision,
        "tables_and_state_gb": rows * BYTES_A_ROW / 1e9,
        "examples_per_second": rates,
    }
    return Figure(
        f"train.py to bound, {rows:,} rows, {precision}",
        ratios(rates["train.py"], rates["bound"]),
        TARGETS[precision],
        notes,
    )
