import torch

from recsys.models.wide_deep import WideDeep
from tests.models.contract import RankingContract
from tests.worlds import SCHEMA, checkerboard, pairs


class TestWideDeep(RankingContract):
    def build(self, schema):
        return WideDeep(
            schema, embedding_dim=8, hidden=(32,), crosses=[["user_id", "genres"]], id_dropout=0.05
        )

    def test_normalisation_reaches_the_hidden_layers(self):
        layers = WideDeep(SCHEMA, normalisation="batch").head.deep.layers
        assert [type(layer).__name__ for layer in layers].count("BatchNorm") == 2

    def test_cross_weight_moves_only_the_rows_that_hold_it(self):
        torch.manual_seed(0)
        model = WideDeep(SCHEMA, crosses=[["user_id", "item_id"]], cross_buckets=1_000_000).eval()
        rows = torch.arange(1, 5)
        batch = pairs(checkerboard(), rows, rows)
        before = model(batch)
        weight = model.wide.collection.embedding_bags["wide_user_id_x_item_id"].weight
        row = _row_of_cross(2, 2, num_rows=1_000_001)
        weight.data[row] = 1.0
        torch.testing.assert_close(model(batch) - before, torch.tensor([0.0, 1.0, 0.0, 0.0]))


def _row_of_cross(first: int, second: int, *, num_rows: int) -> int:
    """The hash, again, in plain integers."""
    hashed = 0
    for value in (first, second):
        hashed = ((hashed ^ value) * 0x9E3779B1) % 2**32
        hashed ^= hashed >> 15
    return 1 + hashed % (num_rows - 1)
