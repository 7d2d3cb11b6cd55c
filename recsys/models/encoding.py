"""The catalogue as a retrieval model scores it, wherever it is validated, judged or exported.

Legend: I catalogue rows, D dimension of the vectors.
"""

import torch
from torch import nn

from recsys.models.protocols import RetrievalModel, neighbours_of
from recsys.nn.neighbours import CatalogueNeighbours
from recsys.retrieval.popularity import Popularity
from recsys.retrieval.scorer import CatalogueScorer
from recsys.schema.batch import Batch
from recsys.schema.features import ITEM_ID
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


def catalogue_scorer(model: RetrievalModel, items: Batch, popularity: Popularity | None) -> CatalogueScorer:
    """Finds the best of items by a model.

    Args:
        model: in evaluation mode.
        items: the catalogue.
        popularity: of the model's windows.
    """
    candidates_ID = encode_catalogue(model, items)
    return CatalogueScorer(candidates_ID, popularity, added=added_to(model, items, candidates_ID))


def added_to(model: RetrievalModel, items: Batch, candidates_ID: torch.Tensor) -> CatalogueNeighbours | None:
    """Gives what a model adds to the products of its vectors, for each item of the catalogue.

    Args:
        model: in evaluation mode.
        items: the catalogue.
        candidates_ID: its vectors.
    """
    neighbours = neighbours_of(model)
    if neighbours is None:
        return None
    rows_I = items.ids[ITEM_ID].values().to(candidates_ID.device)
    return CatalogueNeighbours(neighbours, rows_I, candidates_ID)
