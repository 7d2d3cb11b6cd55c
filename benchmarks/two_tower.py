"""Two-tower on synthetic catalogues: `python train.py` from disk against a bare loop of its arithmetic.

Sampled softmax with logQ over the batch's items and 1,024 uniform ones. The bare loop is `python -m
benchmarks.two_tower`; it prints its rate.

Legend: B examples, D embedding dimension, N candidates, I catalogue.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn
from torch.nn import functional

from benchmarks.bound import fused_bags
from benchmarks.criteo import zipf
from benchmarks.harness import (
    Figure,
    Settings,
    alternate,
    best_rate,
    rate_of,
    ratios,
    run_command,
)
from benchmarks.train import train_rate

DIM, HIDDEN, NEGATIVES, TEMPERATURE = 64, 128, 1024, 0.1
_NUM_CATEGORIES = 100
_MODEL = (
    "model=two_tower",
    f"model.embedding_dim={DIM}",
    f"model.hidden=[{HIDDEN}]",
    f"model.temperature={TEMPERATURE}",
    "model.leave_out=[history]",
    "model.dropout=0",
    "model.id_dropout=0",
    "data.history_length=0",
    "optimizer.tables=rowwise_adagrad",
    "task.loss=sampled_softmax",
    f"task.num_negatives={NEGATIVES}",
    "trainer.projector_items=0",
    "trainer.limit_val_batches=1",
)


def run(settings: Settings) -> list[Figure]:
    """Ratio of train.py to the bare loop by catalogue, and of a step's time between catalogues."""
    catalogues = [2000] if settings.toy else [100_000, 1_000_000]
    users, examples, batch_size, steps = (
        (1000, 40_000, 512, 40) if settings.toy else (100_000, 1_000_000, 4096, 64)
    )
    figures: list[Figure] = []
    ours: list[list[float]] = []
    for items in catalogues:
        data = catalogue(settings.cache, users=users, items=items, examples=examples)
        asked = [f"--users={users}", f"--items={items}", f"--batch-size={batch_size}", f"--steps={steps}"]
        overrides = [*_MODEL, *data, f"data.batch_size={batch_size}"]
        sides = {
            "bound": partial(best_rate, ["-m", "benchmarks.two_tower", *asked]),
            "train.py": partial(train_rate, settings, overrides, steps=steps, batch_size=batch_size),
        }
        found = alternate(sides, repeats=settings.repeats)
        ours.append(found["train.py"])
        name = f"train.py to bound, two-tower, {items:,} items"
        notes = {"items": items, "examples_per_second": found}
        figures.append(Figure(name, ratios(found["train.py"], found["bound"]), notes=notes))
    if len(ours) > 1:
        name = f"a step's time with {catalogues[1]:,} items to that with {catalogues[0]:,}"
        figures.append(Figure(name, ratios(ours[0], ours[1]), "at most 1.5"))
    return figures


def catalogue(folder: Path, *, users: int, items: int, examples: int) -> list[str]:
    """Overrides that make `train.py` read the prepared dataset; generated and prepared when it is missing."""
    raw = folder / f"catalogue-{users}-{items}-{examples}"
    if not (raw / "items.parquet").exists():
        (raw / "interactions").mkdir(parents=True, exist_ok=True)
        pq.write_table(_interactions(users, items, examples), raw / "interactions" / "0.parquet")
        ids = np.arange(items)
        pq.write_table(pa.table({"item_id": ids, "category": ids % _NUM_CATEGORIES}), raw / "items.parquet")
    hashed = "{{encoder:hash,num_buckets:{}}}"  # every table as large as is asked, however few ids occur
    overrides = [
        "data=table",
        f"data.name=catalogue-{items}",
        f"data.cache_dir={folder}",
        f"data.interactions.path={raw / 'interactions'}",
        "data.interactions.features={}",
        f"data.items.path={raw / 'items.parquet'}",
        "data.items.features={category:{kind:id}}",
        f"data.ids={{user_id:{hashed.format(users)},item_id:{hashed.format(items)}}}",
        "data.split=predefined",
        "data.interactions.columns.split=split",
    ]
    prepared = run_command(["-m", "recsys", "prepare", *overrides])
    return ["data=table", f"data.name=catalogue-{items}", f"data.prepared={prepared}"]


def _interactions(users: int, items: int, examples: int) -> pa.Table:
    random = np.random.default_rng(0)
    split = np.where(np.arange(examples) % 100 < 98, "train", "validation")
    split[-10:] = "test"
    return pa.table(
        {
            "user_id": zipf(random, examples, users, 0),
            "item_id": zipf(random, examples, items, 1),
            "timestamp": 1_700_000_000 + np.arange(examples),
            "split": split,
        }
    )


class BareTwoTower:
    """User tower over an id, item tower over an id and a category, one call a step."""

    def __init__(self, users: int, items: int) -> None:
        self.items = items
        self.tables = fused_bags([users + 1, items + 1, _NUM_CATEGORIES + 1], DIM, std=0.1)
        self.query = nn.Sequential(nn.Linear(DIM, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, DIM))
        self.candidate = nn.Sequential(nn.Linear(2 * DIM, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, DIM))
        weights = [*self.query.parameters(), *self.candidate.parameters()]
        self.optimizer = torch.optim.AdamW(weights, fused=True)
        counts_I = torch.arange(1, items + 2).float().reciprocal()
        self.share_I = counts_I / counts_I.sum()

    def step(self, users_B: torch.Tensor, items_B: torch.Tensor) -> torch.Tensor:
        """Trains on one batch of positives and returns its loss."""
        size = len(users_B)
        candidates_N = torch.cat([items_B, torch.randint(1, self.items + 1, (NEGATIVES,))])
        user_BD, item_ND, category_ND = self._embed(users_B, candidates_N)
        queries_BD = functional.normalize(user_BD + self.query(user_BD), dim=1) / TEMPERATURE
        deep_ND = self.candidate(torch.cat([item_ND, category_ND], dim=1))
        vectors_ND = functional.normalize(item_ND + category_ND + deep_ND, dim=1)
        log_q_N = (size * self.share_I + NEGATIVES / self.items).log()[candidates_N]
        scores_BN = queries_BD @ vectors_ND.T
        positive_B = scores_BN[:, :size].diagonal()
        others_BN = (scores_BN - log_q_N).masked_fill(items_B[:, None] == candidates_N, -torch.inf)
        loss = (torch.cat([positive_B[:, None], others_BN], dim=1).logsumexp(dim=1) - positive_B).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def _embed(self, users_B: torch.Tensor, candidates_N: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One look-up for all three tables; bags of a table without a row here are empty and give zeros."""
        size, num = len(users_B), len(candidates_N)
        lengths = torch.zeros(3, num, dtype=torch.int64)
        lengths[0, :size], lengths[1:] = 1, 1
        offsets = functional.pad(lengths.view(-1).cumsum(0), (1, 0))
        ids = torch.cat([users_B, candidates_N, candidates_N % _NUM_CATEGORIES + 1])
        user_ND, item_ND, category_ND = self.tables(ids, offsets).split(DIM, dim=1)
        return user_ND[:size], item_ND, category_ND


def main() -> None:
    """Prints {"rate": examples a second} of the bare loop."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.two_tower")
    for name in ("users", "items", "batch-size", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    asked = parser.parse_args()
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    shape = (32, asked.batch_size)
    users, items = (
        torch.from_numpy(zipf(random, shape[0] * shape[1], rows, number).reshape(shape) + 1)
        for number, rows in enumerate((asked.users, asked.items))
    )
    model = BareTwoTower(asked.users, asked.items)
    rate = rate_of(
        lambda number: model.step(users[number % len(users)], items[number % len(items)]),
        units=asked.batch_size,
        steps=asked.steps,
        warmup=asked.steps // 8,
    )
    print(json.dumps({"rate": rate}))


if __name__ == "__main__":
    main()
