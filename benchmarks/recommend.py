"""`recsys recommend` for many users against the bare blocked product of their vectors with the catalogue.

100,000 items of dimension 64, the 100 best, items of a history left out; `--rows` are users, 100,000 unless
said. Both on all cores, a process of one thread on each. The bare side masks nothing, orders no ties, keeps
nothing and takes the block that is best for it; its vectors are there. Ours is the whole command, from its
start to the file. `python -m benchmarks.recommend USERS ITEMS DIM BLOCK` prints the bare side's seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.harness import Figure, Settings, alternate, ratios, run_command
from benchmarks.top_k import bare
from benchmarks.two_tower import catalogue

_DIM, _K, _BLOCKS = 64, 100, (16, 64, 256)


def run(settings: Settings) -> list[Figure]:
    """Ratio of the seconds of the whole command to the bare ones."""
    items, sizes = (500, [400]) if settings.toy else (100_000, settings.rows or [100_000])
    bundle, data = _bundle(settings.cache, items=items, users=max(sizes))
    best = min(_BLOCKS, key=lambda block: _bare(max(sizes) // 20, items, block))
    figures = []
    for users in sizes:
        sides = {
            "ours": lambda users=users: _ours(bundle, data, users, settings.cache),
            "bare": lambda users=users: _bare(users, items, best),
        }
        found = alternate(sides, repeats=settings.repeats)
        size = f"{users:,} users x {items:,} items x {_DIM}, top {_K}"
        notes = {"seconds": found, "block_of_bare": best}
        ratio = ratios(found["ours"], found["bare"])
        figures.append(Figure(f"recsys recommend to bare, {size}", ratio, "at most 1.3", notes))
    return figures


def _bundle(cache: Path, *, items: int, users: int) -> tuple[Path, list[str]]:
    """A bundle of two towers that have learnt a step, and the overrides of its data."""
    data = catalogue(cache, users=users, items=items, examples=max(10 * users, 2000))
    run_dir = cache / f"recommend-{users}-{items}"
    if not (run_dir / "bundle").is_dir():
        words = ["model=two_tower", f"model.embedding_dim={_DIM}", "optimizer.tables=rowwise_adagrad"]
        words += ["task.loss=sampled_softmax", "trainer.max_epochs=1", "trainer.limit_train_batches=1"]
        words += ["trainer.limit_val_batches=1", "trainer.projector_items=0", f"run_dir={run_dir}"]
        run_command(["train.py", *words, *data])
        run_command(["export.py", f"run={run_dir}", "export.index=exact"])
    return run_dir / "bundle", data


def _ours(bundle: Path, data: list[str], users: int, cache: Path) -> float:
    queries, out = cache / f"users-{users}.parquet", cache / "lists.parquet"
    pq.write_table(pa.table({"user_id": pa.array(range(users))}), queries)
    out.unlink(missing_ok=True)
    words = [f"bundle={bundle}", f"queries={queries}", f"out={out}", f"k={_K}"]
    started = time.perf_counter()
    run_command(["-m", "recsys", "recommend", *words, *data])
    return time.perf_counter() - started


def _bare(users: int, items: int, block: int) -> float:
    return float(run_command(["-m", "benchmarks.recommend", str(users), str(items), str(_DIM), str(block)]))


def main() -> None:
    """Prints the seconds of the bare product of USERS with ITEMS, on as many processes as cores."""
    users, items, dim, block = map(int, sys.argv[1:])
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    with context.Pool(cores) as pool:
        pool.map(_started, range(cores))
        started = time.perf_counter()
        pool.map(_part, [(users // cores, items, dim, block)] * cores)
    print(time.perf_counter() - started)


def _started(number: int) -> None:
    torch.set_num_threads(1)


def _part(sizes: tuple[int, int, int, int]) -> None:
    torch.set_num_threads(1)
    users, items, dim, block = sizes
    items_ID = torch.randn(items, dim)
    for begin in range(0, users, 4096):
        bare(torch.randn(min(4096, users - begin), dim), items_ID, block)


if __name__ == "__main__":
    main()
