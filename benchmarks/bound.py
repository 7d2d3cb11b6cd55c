"""The bound: the arithmetic of Wide & Deep in a bare loop, on batches already in memory.

FBGEMM's look-up with the update inside it, an MLP, binary cross-entropy, AdamW: what is left when everything
that makes a framework is taken away. Run as `python -m benchmarks.bound`, it prints its rate; it must be a
process of its own, since torch's threads are set up once.

Legend: B examples, F categorical features, D embedding dimension.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import (
    BoundsCheckMode,
    EmbeddingLocation,
    PoolingMode,
)
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from torch import nn
from torch.nn import functional

from benchmarks.harness import quiet, rate_of
from benchmarks.workload import EMBEDDING_DIM, MLP_WIDTHS, NUM_TABLES, WIDE_DIM, Workload


class Bound:
    """The model and its optimizers, one call a step.

    Args:
        workload: sizes.
        bf16: multiply matrices in bfloat16.
    """

    def __init__(self, workload: Workload, *, bf16: bool) -> None:
        torch.manual_seed(0)
        self.bf16 = bf16
        self.offsets = torch.arange(NUM_TABLES * workload.batch_size + 1)
        self.deep_tables = fused_tables(workload.rows, EMBEDDING_DIM, std=0.01)
        self.wide_tables = fused_tables(workload.rows, WIDE_DIM, std=0.0)
        self.mlp = mlp()
        self.wide_dense = nn.Linear(MLP_WIDTHS[0] - NUM_TABLES * EMBEDDING_DIM, 1)
        parameters = [*self.mlp.parameters(), *self.wide_dense.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def step(self, rows_FB: torch.Tensor, dense: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """Trains on one batch and returns its loss."""
        ids = rows_FB.view(-1)
        deep = torch.cat([self.deep_tables(ids, self.offsets), dense], dim=1)
        weights_BF = self.wide_tables(ids, self.offsets).view(len(dense), NUM_TABLES, WIDE_DIM).mean(dim=2)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits_B1 = self.mlp(deep)
        logits_B = (logits_B1.float() + self.wide_dense(dense)).squeeze(1) + weights_BF.sum(dim=1)
        loss = functional.binary_cross_entropy_with_logits(logits_B, labels_B)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def mlp() -> nn.Sequential:
    """429-256-128-1 with ReLU between."""
    layers: list[nn.Module] = []
    for width, following in pairwise(MLP_WIDTHS):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def fused_tables(rows: int, dim: int, *, std: float) -> nn.Module:
    """26 tables whose row-wise Adagrad is part of the backward pass."""
    return fused_bags([rows] * NUM_TABLES, dim, std=std)


def fused_bags(rows: Sequence[int], dim: int, *, std: float) -> nn.Module:
    """Tables of `rows` rows each, moved by row-wise Adagrad in the backward pass; means of bags."""
    with quiet():
        tables = SplitTableBatchedEmbeddingBagsCodegen(
            [(number, dim, EmbeddingLocation.HOST, ComputeDevice.CPU) for number in rows],
            optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            learning_rate=0.05,
            pooling_mode=PoolingMode.MEAN,
            bounds_check_mode=BoundsCheckMode.NONE,
        )
    for table in tables.split_embedding_weights():
        nn.init.normal_(table, std=std) if std else nn.init.zeros_(table)
    return tables


def main() -> None:
    """Prints {"rate": examples a second, "loss": mean of the last batches} of one measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bound")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--bf16", action="store_true")
    asked = parser.parse_args()
    workload = Workload(asked.rows, batch_size=asked.batch_size)
    batches = workload.batches()
    bound = Bound(workload, bf16=asked.bf16)
    losses: list[torch.Tensor] = []
    rate = rate_of(
        lambda number: losses.append(bound.step(*batches[number % len(batches)])),
        units=asked.batch_size,
        steps=asked.steps,
        warmup=asked.steps // 8,
    )
    print(json.dumps({"rate": rate, "loss": torch.stack(losses[-10:]).mean().item()}))


if __name__ == "__main__":
    main()
