"""The ranking workload in numbers, and its batches already in memory.

Legend: B examples, F categorical features.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from benchmarks.criteo import CATEGORICAL, DENSE, interactions

EMBEDDING_DIM = 16
WIDE_DIM = 4  # as in recsys/models/wide_deep.py
HIDDEN = (256, 128)
NUM_TABLES = len(CATEGORICAL)
MLP_WIDTHS = (NUM_TABLES * EMBEDDING_DIM + len(DENSE), *HIDDEN, 1)
# float32 weights of both tables and the row-wise momentum of each, a row.
BYTES_A_ROW = NUM_TABLES * 4 * (EMBEDDING_DIM + WIDE_DIM + 2)
MEMORY_OF_TABLES = 14 * 10**9


def largest_rows() -> int:
    """Rows a table that fit, weights and momentum, in 14 GB."""
    return MEMORY_OF_TABLES // BYTES_A_ROW // 100_000 * 100_000


@dataclasses.dataclass(frozen=True)
class Workload:
    """Generates the batches that one measurement trains on.

    Args:
        rows: of every table.
        batch_size: examples a step.
        num_batches: different batches, used in turn.
    """

    rows: int
    batch_size: int = 4096
    num_batches: int = 64

    def batches(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Rows [F, B] int64, dense values [B, 13] and labels [B] of every batch."""
        found = []
        for number in range(self.num_batches):
            table = interactions(self.batch_size, rows=self.rows, first=number * self.batch_size)
            rows_FB = np.stack([table[name].to_numpy() for name in CATEGORICAL])
            dense = np.stack([table[name].to_numpy() for name in DENSE], axis=1)
            labels_B = table["label"].to_numpy().astype(np.float32)
            found.append((torch.from_numpy(rows_FB), torch.from_numpy(dense), torch.from_numpy(labels_B)))
        return found
