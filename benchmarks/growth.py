"""The whole way as it grows: generate, prepare, train, evaluate, export, serve, recommend, at several sizes.

    make bench ARGS="growth --rows 100000 1000000"

`--rows` are interactions, of a tenth as many users and items. Each command runs once, as users run it; what
was stopped goes on with the command it had come to. Beside each stands its bound, the least that does the
same work:

    prepare    DuckDB sorts the raw rows by user and time, and writes them
    train      a bare loop over the same number of examples in memory (`benchmarks.two_tower`)
    evaluate   the blocked product of all queries with all items, and `topk`
    export     the index that was kept, built again by Faiss alone; where there is none, its vectors written
    serve      one query's product with all items, and `topk`, a thousand times; against as many requests
    recommend  the blocked product of all users with all items, and `topk`

Run as `python -m benchmarks.growth serve BUNDLE`, it asks an opened bundle.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Figure, Settings, run_command
from benchmarks.watched import Cost, watched

SIZES = (100_000, 1_000_000)
_REQUESTS, _BATCH, _K, _PREPARED_ALONE = 1000, 1024, 10, 10_000_000
_MODEL = (
    "model=two_tower",
    "model.embedding_dim=64",
    "optimizer.tables=rowwise_adagrad",
    "task.loss=sampled_softmax",
    f"data.batch_size={_BATCH}",
    "trainer.max_epochs=1",
)


def run(settings: Settings) -> list[Figure]:
    """Ratio of each command's seconds to its bound, with memory and silence, by size."""
    figures: list[Figure] = []
    for number in [20_000] if settings.toy else settings.rows or SIZES:
        figures += _whole_way(settings.cache / "growth", number)
    _print(figures)
    return figures


def _whole_way(cache: Path, number: int) -> list[Figure]:
    """Every command at one size; of 10 million and more, generating and preparing."""
    data = [
        "data=synthetic",
        f"data.cache_dir={cache}",
        f"data.source.num_interactions={number}",
        f"data.source.num_users={max(number // 10, 1000)}",
        f"data.source.num_items={max(number // 10, 1000)}",
        "data.source.repeats=true",
    ]
    raw = _raw(data)
    kept = cache / f"costs-{number}"
    if not kept.is_dir():  # begun anew, not gone on with
        shutil.rmtree(cache / "prepared", ignore_errors=True)
        shutil.rmtree(cache / f"run-{number}", ignore_errors=True)
    figures = [_figure("generate", number, _once(kept, "generate", ["-c", raw]), None)]
    prepared = _once(kept, "prepare", ["-m", "recsys", "prepare", *data])
    files = cache / "raw"
    interactions = max(files.glob("synthetic_*/interactions"), key=lambda path: path.stat().st_mtime)
    figures.append(_figure("prepare", number, prepared, _seconds(lambda: _sorted(interactions, cache))))
    if number < _PREPARED_ALONE:
        figures += _behind_preparing(cache, number, data, Path(prepared.last_line))
    shutil.rmtree(kept)
    return figures


def _once(kept: Path, name: str, command: list[str]) -> Cost:
    """Runs a command, unless an earlier call that was stopped behind it has; returns its cost."""
    file = kept / f"{name}.json"
    if not file.is_file():
        cost = watched(command)
        kept.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(dataclasses.asdict(cost)))
    return Cost(**json.loads(file.read_text()))


def _behind_preparing(cache: Path, number: int, data: list[str], prepared: Path) -> list[Figure]:
    run_dir, lists = cache / f"run-{number}", cache / f"lists-{number}.parquet"
    if not (run_dir / "manifest.json").is_file():
        shutil.rmtree(run_dir, ignore_errors=True)  # stopped while it was trained
    lists.unlink(missing_ok=True)
    given = ["data=synthetic", f"data.prepared={prepared}", f"data.cache_dir={cache}"]
    commands = {
        "train": ["train.py", *_MODEL, *given, f"run_dir={run_dir}"],
        "evaluate": ["evaluate.py", f"run={run_dir}"],
        "export": ["export.py", f"run={run_dir}"],
        "serve": ["-m", "benchmarks.growth", "serve", str(run_dir / "bundle")],
        "recommend": [
            *("-m", "recsys", "recommend", f"bundle={run_dir / 'bundle'}", f"out={lists}", f"k={_K}"),
            *given,
        ],
    }
    costs = {name: _once(cache / f"costs-{number}", name, command) for name, command in commands.items()}
    bounds = _bounds(cache, prepared, run_dir / "bundle", run_dir)
    return [_figure(name, number, cost, bounds[name]) for name, cost in costs.items()]


def _bounds(cache: Path, prepared: Path, bundle: Path, run_dir: Path) -> dict[str, float]:
    """Seconds of the least that does the work of each command."""
    lists = pq.read_table(run_dir / "evaluation" / "recommendations.parquet", columns=["rank"])
    num_queries = int((lists["rank"].to_numpy() == 1).sum())
    vectors = cache / "vectors"
    shutil.rmtree(vectors, ignore_errors=True)
    run_command(["-m", "recsys", "embed", f"bundle={bundle}", f"out={vectors}"])
    column = pq.read_table(vectors / "items.parquet")["vector"].combine_chunks()
    items_ID = torch.from_numpy(column.flatten().to_numpy().copy()).view(len(column), -1)
    sizes = _sizes(prepared)
    queries_BD = torch.randn(max(num_queries, sizes["users"]), items_ID.shape[1])
    asked = [f"--users={sizes['users']}", f"--items={sizes['items']}", f"--batch-size={_BATCH}", "--steps=64"]
    rate = float(json.loads(run_command(["-m", "benchmarks.two_tower", *asked]))["rate"])
    return {
        "train": sizes["positives"] / rate,
        "evaluate": _seconds(lambda: product(queries_BD[:num_queries], items_ID, _K)),
        "export": _seconds(lambda: _index(bundle, items_ID, cache)),
        "serve": _seconds(lambda: product(queries_BD[:_REQUESTS], items_ID, _K, block=1)),
        "recommend": _seconds(lambda: product(queries_BD[: sizes["users"]], items_ID, _K)),
    }


@torch.no_grad()
def product(queries_BD: torch.Tensor, items_ID: torch.Tensor, k: int, *, block: int = 64) -> None:
    """The best k items of each query by the bare blocked product; masks nothing and keeps nothing."""
    for part_BD in queries_BD.split(block):
        torch.topk(part_BD @ items_ID.T, k, dim=1)


def _sizes(prepared: Path) -> dict[str, int]:
    from recsys.data.dataset import PreparedDataset

    dataset = PreparedDataset.open(prepared)
    return {
        "users": dataset.num_users - 1,
        "items": dataset.num_items - 1,
        "positives": int(dataset.item_counts.sum()),
    }


def _index(bundle: Path, items_ID: torch.Tensor, cache: Path) -> None:
    import faiss

    if (bundle / "index.faiss").is_file():
        kept = faiss.read_index(str(bundle / "index.faiss"))
        if isinstance(kept, faiss.IndexHNSW):
            index: Any = faiss.IndexHNSWFlat(items_ID.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        else:
            index = faiss.index_factory(items_ID.shape[1], f"IVF{kept.nlist},SQ8", faiss.METRIC_INNER_PRODUCT)
            index.train(items_ID.numpy())
        index.add(items_ID.numpy())
    else:
        torch.save(items_ID, cache / "vectors.pt")


def _sorted(interactions: Path, cache: Path) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * FROM '{interactions}/*.parquet' ORDER BY user_id, timestamp)"
            f" TO '{cache}/sorted.parquet'"
        )


def _raw(data: list[str]) -> str:
    """Code that generates the raw tables alone, with the log on stderr."""
    keys = {key.rpartition(".")[2]: value for key, _, value in (text.partition("=") for text in data)}
    sizes = ", ".join(f"{name}={keys[name]}" for name in ("num_interactions", "num_users", "num_items"))
    return (
        "import logging; from pathlib import Path; from recsys.data.sources.synthetic import Synthetic;"
        " logging.basicConfig(level=logging.INFO);"
        f" Synthetic({sizes}, repeats=True).tables(Path({keys['cache_dir']!r}))"
    )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _figure(name: str, number: int, cost: Cost, bound: float | None) -> Figure:
    notes = {"command": name, "interactions": number, **cost.to_dict(), "bound_seconds": bound}
    return Figure(f"{name}, {number:,} interactions", [cost.seconds / (bound or cost.seconds)], notes=notes)


def _print(figures: list[Figure]) -> None:
    table = Table(title="the whole way: wall / CPU seconds, peak memory, bound, longest silence")
    for column in ("interactions", "command", "seconds", "CPU", "GB", "bound", "silent", "behind"):
        table.add_column(column, justify="left" if column in ("command", "behind") else "right")
    for figure in figures:
        notes = figure.notes
        bound = "" if notes["bound_seconds"] is None else f"{notes['bound_seconds']:.3g}"
        table.add_row(
            f"{notes['interactions']:,}",
            notes["command"],
            f"{notes['seconds']:.1f}",
            f"{notes['cpu_seconds']:.1f}",
            f"{notes['peak_bytes'] / 1e9:.2f}",
            bound,
            f"{notes['silent_seconds']:.0f}",
            str(notes["silent_behind"])[:60],
        )
    Console().print(table)


def serve(folder: Path) -> None:
    """Opens a bundle and asks it as often as the bound does, one user after the other."""
    from recsys.serving.bundle import Bundle

    bundle = Bundle.open(folder, threads=1)
    ids = bundle.retrieval.item_ids.ids
    known = ids[1:].tolist() if isinstance(ids, torch.Tensor) else list(ids[1:])
    started = time.perf_counter()
    for number in range(_REQUESTS):
        bundle.recommend({"user_id": number}, history=[known[number % len(known)]], k=_K)
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    serve(Path(sys.argv[2]))
