"""encode_catalogue: the vectors of all items, wherever a retrieval model is validated, judged or exported.

Legend: I catalogue rows, D dimension of the vectors.
"""

import torch
from torch import nn

from recsys.models.protocols import RetrievalModel
from recsys.schema.batch import Batch
from recsys.schema.progress import progress

# Items at a time, so that their features need not fit into the memory of a GPU together.
_CHUNK = 65_536


@torch.no_grad()
def encode_catalogue(model: RetrievalModel, items: Batch) -> torch.Tensor:
    """Vectors [I, D] of items, on the device of the model."""
    assert isinstance(model, nn.Module)
    device = next(model.parameters()).device
    rows = torch.split(torch.arange(len(items), device=items.dense.device), _CHUNK)
    parts = progress(rows, f"encoding {len(items) - 1:,} items") if len(rows) > 1 else rows
    return torch.cat([model.encode_candidates(items.select(part).to(device)) for part in parts])
