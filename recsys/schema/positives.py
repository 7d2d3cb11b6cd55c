"""TrainPositives: what was liked by whom in the train split, for models that are computed from all of it."""

from __future__ import annotations

from typing import NamedTuple

import torch


class TrainPositives(NamedTuple):
    """Every positive of the train split, in rows of the id tables (0 is out of vocabulary).

    Args:
        user_rows: [E] int64.
        item_rows: [E] int64.
    """

    user_rows: torch.Tensor
    item_rows: torch.Tensor
