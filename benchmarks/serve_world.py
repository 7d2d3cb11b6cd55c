"""A market of any size, its two models and their bundle: what `benchmarks.serve` asks for recommendations.

Users draw items in proportion to popularity and to e to their liking, which is for categories, brands and
tags. The retrieval model is trained on that by `train.py`, for an index works the better the better vectors
follow from each other, and only training shows how well they do. The ranking model's weights are drawn: its
latency does not ask what they are.

Run as `python -m benchmarks.serve_world RUN FOLDER`, it exports the run and the ranking model into FOLDER as
any export does, and prints FOLDER.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.criteo import zipf
from benchmarks.harness import run_command

if TYPE_CHECKING:
    from recsys.exporting.stage import Stage

HISTORY, CANDIDATES, LISTED = 50, 500, 10
_EVENTS_OF_USER = HISTORY + 10
_BEGIN = 1_700_000_000
_SMALL, _LARGE_TABLE = 0.3, 10_000
# Dimensions of tastes, the standard deviation of a liking for an item, and how many items a user sees.
_TASTES, _LIKING, _SHOWN = 16, 2.0, 1000
_NUM_REQUESTS = 1000
_Floats = npt.NDArray[np.float32]
_Ends = npt.NDArray[np.int32]


def prepared(folder: Path, *, items: int, users: int) -> Path:
    """The prepared dataset, generated and prepared when it is missing.

    Args:
        folder: where benchmarks keep their data.
        items: of the catalogue.
        users: each with a history that is long enough.
    """
    raw = folder / f"market-{users}-{items}"
    if not (raw / "requests.json").exists():
        _write(raw, items=items, users=users)
    buckets = "{{encoder:hash,num_buckets:{}}}"  # every id has a row of its own, however few occur
    overrides = [
        "data=table",
        f"data.name=market-{items}",
        f"data.cache_dir={folder}",
        f"data.interactions.path={raw / 'interactions.parquet'}",
        "data.interactions.features={device:{kind:id},hour:{kind:time,part:hour},weekday:{kind:time,part:weekday}}",
        f"data.users.path={raw / 'users.parquet'}",
        "data.users.features={age:{kind:numeric},country:{kind:id},interests:{kind:multi_id}}",
        f"data.items.path={raw / 'items.parquet'}",
        "data.items.features={category:{kind:id},brand:{kind:id},tags:{kind:multi_id},price:{kind:numeric,transform:log}}",
        f"data.ids={{user_id:{buckets.format(users)},item_id:{buckets.format(items)}}}",
        "data.split=predefined",
        "data.interactions.columns.split=split",
        f"data.history_length={HISTORY}",
    ]
    return Path(run_command(["-m", "recsys", "prepare", *overrides]))


def requests(folder: Path, *, items: int, users: int) -> list[dict[str, Any]]:
    """Arguments of `recommend` for users of the market, written with its raw tables."""
    found: list[dict[str, Any]] = json.loads(
        (folder / f"market-{users}-{items}" / "requests.json").read_text()
    )
    return found


def _write(raw: Path, *, items: int, users: int) -> None:
    random = np.random.default_rng(0)
    raw.mkdir(parents=True, exist_ok=True)
    catalogue, looks = _items(random, items)
    pq.write_table(catalogue, raw / "items.parquet")
    pq.write_table(_users(random, users), raw / "users.parquet")
    events = _interactions(random, looks, users=users)
    pq.write_table(events, raw / "interactions.parquet")
    asked = _requests(random, events, users=users)
    (raw / "requests.json").write_text(json.dumps(asked))


def _items(random: np.random.Generator, count: int) -> tuple[pa.Table, _Floats]:
    """The catalogue, and what tastes find in each item [count, T], by category, brand and tags."""
    category, brand = random.integers(0, 200, count), zipf(random, count, 5000, 0)
    tags, ends = _some(random, count, 500)
    of_tags = np.add.reduceat(random.standard_normal((500, _TASTES))[tags], ends[:-1])
    looks = sum(
        random.standard_normal((size, _TASTES))[codes] for size, codes in ((200, category), (5000, brand))
    )
    table = pa.table(
        {
            "item_id": _skus(np.arange(count)),
            "category": category,
            "brand": np.char.add("brand ", brand.astype(str)),
            "tags": _lists(tags, ends, np.char.add("tag ", np.arange(500).astype(str))),
            "price": np.round(random.lognormal(3, 1, count), 2),
        }
    )
    return table, (looks + of_tags / np.diff(ends)[:, None]).astype(np.float32)


def _users(random: np.random.Generator, count: int) -> pa.Table:
    words = np.array(["sport", "music", "books", "garden", "games"])
    return pa.table(
        {
            "user_id": np.arange(count),
            "age": random.integers(15, 80, count).astype(np.float64),
            "country": np.array(["CH", "DE", "FR", "IT", "US"])[random.integers(0, 5, count)],
            "interests": _lists(*_some(random, count, len(words)), words),
        }
    )


def _interactions(random: np.random.Generator, looks: _Floats, *, users: int) -> pa.Table:
    """The same number of events for every user, the last two of each held out."""
    number = users * _EVENTS_OF_USER
    place = np.arange(number) % _EVENTS_OF_USER
    split = np.full(number, "train")
    split[place == _EVENTS_OF_USER - 2], split[place == _EVENTS_OF_USER - 1] = "validation", "test"
    chosen = [_chosen(random, looks) for _ in range(users)]
    return pa.table(
        {
            "user_id": np.arange(number) // _EVENTS_OF_USER,
            "item_id": _skus(np.concatenate(chosen)),
            "timestamp": _BEGIN + place * 86_400 + random.integers(0, 86_400, number),
            "device": np.array(["phone", "laptop", "tv"])[random.integers(0, 3, number)],
            "split": split,
        }
    )


def _chosen(random: np.random.Generator, looks: _Floats) -> npt.NDArray[np.int64]:
    """Items of one user: of those that popularity shows, each in proportion to e to the liking for it."""
    shown = zipf(random, _SHOWN, len(looks), 1)
    taste = random.standard_normal(_TASTES) * _LIKING / math.sqrt(3 * _TASTES)
    likings = looks[shown] @ taste
    # The largest of likings with Gumbel noise are a draw in that proportion without replacement.
    best = np.argsort(likings + random.gumbel(size=_SHOWN))[-_EVENTS_OF_USER:]
    return shown[random.permutation(best)]


def _requests(random: np.random.Generator, events: pa.Table, *, users: int) -> list[dict[str, Any]]:
    skus = events["item_id"].to_numpy().reshape(users, _EVENTS_OF_USER)
    return [
        {
            "user": {"user_id": int(user), "country": "CH"},
            "history": skus[user, -HISTORY:].tolist(),
            "context": {"timestamp": _BEGIN + int(random.integers(0, 10**7)), "device": "phone"},
        }
        for user in random.permutation(users)[:_NUM_REQUESTS]
    ]


def _skus(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    return np.char.add("sku-", numbers.astype(str))


def _some(random: np.random.Generator, count: int, of: int) -> tuple[npt.NDArray[np.int64], _Ends]:
    """One to four numbers below `of` for each, and where those of each begin and end."""
    ends = np.concatenate([[0], np.cumsum(random.integers(1, 5, count))]).astype(np.int32)
    return random.integers(0, of, ends[-1]), ends


def _lists(numbers: npt.NDArray[np.int64], ends: _Ends, words: npt.NDArray[np.str_]) -> pa.Array:
    return pa.ListArray.from_arrays(ends, pa.array(words).take(pa.array(numbers)))


def trained(folder: Path, dataset: Path, *, items: int, users: int, epochs: int = 2) -> Path:
    """The run of the retrieval model, trained when it is missing, which takes minutes.

    Args:
        folder: where benchmarks keep their data.
        dataset: the prepared dataset.
        items: of the catalogue.
        users: of the market.
        epochs: rounds of training.
    """
    run = folder / f"market-run-{users}-{items}"
    if not (run / "manifest.json").exists():
        overrides = [
            *("data=table", f"data.name=market-{items}", f"data.prepared={dataset}"),
            *(f"data.history_length={HISTORY}", "data.batch_size=1024", "model=two_tower"),
            *("task.loss=sampled_softmax", "optimizer.tables=rowwise_adagrad"),
            *("optimizer.table_learning_rate=0.2", f"trainer.max_epochs={epochs}"),
            *("trainer.limit_val_batches=1", "trainer.projector_items=0", f"run_dir={run}"),
        ]
        shutil.rmtree(run, ignore_errors=True)
        run_command(["train.py", *overrides])
    return run


def stages(run: Path) -> tuple[Stage, Stage]:
    """The two-tower model of a run, and a Wide & Deep model of the same dataset, the same one every time."""
    import torch

    from recsys.exporting.stage import Stage
    from recsys.models.wide_deep import WideDeep
    from recsys.nn.embeddings import FeatureTables
    from recsys.runs.trained import TrainedRun

    first = TrainedRun.open(run)
    torch.manual_seed(0)
    ranking = WideDeep(first.dataset.schema, embedding_dim=16, hidden=(256, 128), init_std=0.1)
    for tables in filter(lambda child: isinstance(child, FeatureTables), ranking.children()):
        for weight in tables.parameters():
            weight.requires_grad_(False).mul_(_SMALL if len(weight) > _LARGE_TABLE else 1.0)
    retrieval = Stage(first.model, first.dataset, first.history_length, first.provenance())
    return retrieval, Stage(ranking.eval(), first.dataset, HISTORY)


def main() -> None:
    """Exports the models and prints the folder of the bundle."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_world")
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--format", default="torchscript")
    parser.add_argument("--index", default="auto")
    asked = parser.parse_args()
    from recsys.commands.installation import importing

    with importing():
        from recsys.exporting.bundle import export_bundle
        from recsys.exporting.options import ExportOptions
    options = ExportOptions(
        parity_rows=100,
        recorded_requests=6,
        num_candidates=CANDIDATES,
        k=LISTED,
        format=asked.format,
        index=asked.index,
    )
    shutil.rmtree(asked.folder, ignore_errors=True)
    retrieval, ranking = stages(asked.run)
    print(export_bundle(retrieval, asked.folder, ranker=ranking, options=options))


if __name__ == "__main__":
    main()
