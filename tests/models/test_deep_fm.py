import torch

from recsys.models.deep_fm import DeepFM
from tests.models.contract import RankingContract
from tests.worlds import SCHEMA, checkerboard, pairs


class TestDeepFM(RankingContract):
    def build(self, schema):
        return DeepFM(schema, embedding_dim=8, hidden=(32,), id_dropout=0.05)


class TestFactorizationMachine(RankingContract):
    """Ids meet in the factorization machine alone; the layers read numbers."""

    def build(self, schema):
        return DeepFM(schema, embedding_dim=8, hidden=(32,), deep_reads="numbers", id_dropout=0.05)


def test_layers_over_numbers_are_as_wide_as_the_numbers():
    numbers = len(SCHEMA.dense())
    assert DeepFM(SCHEMA, hidden=(32,), deep_reads="numbers").head.deep.layers[0].in_features == numbers
    without = [f.name for f in SCHEMA.dense()]
    assert DeepFM(SCHEMA, deep_reads="numbers", leave_out=without).head.deep is None


def test_embeddings_of_a_pair_add_their_dot_product():
    torch.manual_seed(0)
    model = DeepFM(SCHEMA, embedding_dim=4, init_std=0.0).eval()
    for parameter in model.head.deep.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.zeros_(model.head.dense_vectors)
    rows = torch.arange(1, 5)
    batch = pairs(checkerboard(), rows, rows)
    bags = model.tables.collection.embedding_bags
    bags["user_id"].weight.data[2] = torch.tensor([1.0, 2.0, 0.0, 0.0])
    bags["hour"].weight.data[3] = torch.tensor([3.0, 4.0, 0.0, 0.0])  # that of user 2
    linear = model.linear.collection.embedding_bags
    linear["linear_user_id"].weight.data[2] = 0.5
    torch.testing.assert_close(model(batch), torch.tensor([0.0, 1 * 3 + 2 * 4 + 0.5, 0.0, 0.0]))
