"""Words pooled by idf and vectors made elsewhere, in fused tables as in plain ones."""

import torch
from torch import nn

from recsys.nn.embeddings import FeatureTables, deferred_tables
from recsys.schema.batch import VectorColumns
from recsys.schema.feature_kinds import IdFeature, MultiIdFeature, VectorFeature
from recsys.training.tables import fuse
from tests.worlds import keyed

FEATURES = [
    IdFeature("item_id", "item", num_rows=4),
    MultiIdFeature("tags", "item", num_rows=5, pooling="idf", idf=(0.0, 1.0, 2.0, 3.0, 0.0)),
    VectorFeature("cover", "item", size=3, difference=0.5, num_rows=4),
]
IDS = {"item_id": [[1], [3], [0]], "tags": [[1, 3], [], [2, 2]]}
COVERS = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]]).half()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.tables = FeatureTables(FEATURES, embedding_dim=4, init_std=0.5)

    def forward(self):
        return self.tables(keyed(IDS), VectorColumns({"cover": COVERS}))


def test_fused_tables_embed_as_plain_ones_and_learn():
    torch.manual_seed(0)
    model = Model()
    before = {name: tensor.detach().clone() for name, tensor in model().items()}
    assert list(before) == ["item_id", "tags", "cover"]
    fuse(model, optimizer="rowwise_adagrad", learning_rate=0.1)
    fused = model()
    for name, expected in before.items():
        torch.testing.assert_close(fused[name], expected)
    sum(tensor.square().sum() for tensor in fused.values()).backward()
    after = model()
    assert (after["tags"][0].norm() < before["tags"][0].norm()).item()
    assert not after["tags"][1].any()
    # The projection has a gradient of its own, the difference was updated by the fused optimizer.
    assert model.tables.projections["cover"].weight.grad.any()
    assert not torch.equal(after["cover"][0], before["cover"][0])
    assert torch.equal(after["cover"][2], before["cover"][2])  # of an unknown item


def test_differences_begin_at_zero_wherever_tables_are_drawn():
    with deferred_tables():
        model = Model()
    fuse(model, optimizer="rowwise_adagrad", learning_rate=0.1)
    weights = model.tables.collection.state_dict()
    assert not weights["embedding_bags.cover_difference.weight"].any()
    assert weights["embedding_bags.tags.weight"].any()


def test_a_difference_is_no_longer_than_its_share():
    torch.manual_seed(0)
    model = Model().eval()
    with torch.no_grad():
        model.tables.collection.embedding_bags["cover_difference"].weight.fill_(100.0)
    projected = model.tables.projections["cover"](COVERS)
    moved = model()["cover"] - projected
    share = moved.norm(dim=1) / projected.norm(dim=1).clamp(min=1e-9)
    torch.testing.assert_close(share[0].item(), 0.5, atol=1e-5, rtol=0)
    assert not moved[2].any()
