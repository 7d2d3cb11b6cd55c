"""Small worlds with a known right answer, as batches.

Checkerboard: even users like even items, odd users odd ones. The diagonal (user n, item n) is withheld, so
that a model has to have understood the rule to get it right.
"""

import dataclasses

import torch
from torchrec import KeyedJaggedTensor

from recsys.schema.batch import Batch
from recsys.schema.feature_kinds import HistoryFeature, IdFeature, MultiIdFeature, NumericFeature, TimeFeature
from recsys.schema.features import FeatureSchema

SIZE = 16

SCHEMA = FeatureSchema(
    (
        IdFeature("user_id", "user", num_rows=SIZE + 1),
        NumericFeature("age", "user"),
        HistoryFeature("history", "user", num_rows=SIZE + 1),
        TimeFeature("hour", "context", num_rows=25),
        IdFeature("item_id", "item", num_rows=SIZE + 1),
        MultiIdFeature("genres", "item", num_rows=4),
        NumericFeature("price", "item"),
    )
)


@dataclasses.dataclass
class World:
    """Everything about a world: queries and catalogue by row (0 unknown), and who likes what."""

    queries: Batch
    catalogue: Batch
    likes: torch.Tensor


def keyed(columns: dict[str, list[list[int]]]) -> KeyedJaggedTensor:
    """Bags by feature, as TorchRec's type."""
    bags = [bag for column in columns.values() for bag in column]
    return KeyedJaggedTensor(
        keys=list(columns),
        values=torch.tensor([value for bag in bags for value in bag], dtype=torch.int64),
        lengths=torch.tensor([len(bag) for bag in bags], dtype=torch.int32),
    )


def checkerboard() -> World:
    """The world; its histories hold a user's likes but for the diagonal."""
    rows = range(SIZE + 1)
    likes = torch.tensor([[u > 0 and i > 0 and u % 2 == i % 2 for i in rows] for u in rows])
    history = [[i for i in rows if likes[u, i] and i != u] for u in rows]
    queries = keyed(
        {"user_id": [[u] for u in rows], "history": history, "hour": [[1 + u % 24] for u in rows]}
    )
    catalogue = keyed(
        {
            "item_id": [[i] for i in rows],
            "genres": [[] if i == 0 else [1 + i % 3] if i % 5 else [1, 2, 3] for i in rows],
        }
    )
    return World(
        queries=Batch(queries, dense=torch.linspace(-1, 1, SIZE + 1)[:, None]),
        catalogue=Batch(catalogue, dense=torch.linspace(1, -1, SIZE + 1)[:, None]),
        likes=likes,
    )


def pairs(world: World, user_rows: torch.Tensor, item_rows: torch.Tensor) -> Batch:
    """Rows for a ranking model: these users beside these items, labelled."""
    query = world.queries.select(user_rows)
    item = world.catalogue.select(item_rows)
    return Batch(
        ids=KeyedJaggedTensor.concat([query.ids, item.ids]),
        dense=torch.cat([query.dense, item.dense], dim=1),
        labels=world.likes[user_rows, item_rows].float(),
    )
