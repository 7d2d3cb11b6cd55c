import torch

from recsys.models.matrix_factorization import MatrixFactorization
from tests.models.contract import RetrievalContract
from tests.worlds import SCHEMA, checkerboard


class TestMatrixFactorization(RetrievalContract):
    def build(self, schema):
        return MatrixFactorization(schema, embedding_dim=4, id_dropout=0.05)

    def test_score_is_the_dot_product_plus_the_item_bias(self, model):
        world = checkerboard()
        biases = model.biases.collection.embedding_bags["bias_item_id"].weight.data
        biases.copy_(torch.arange(biases.numel()).view_as(biases))
        user = model.tables.collection.embedding_bags["user_id"].weight[3]
        item = model.tables.collection.embedding_bags["item_id"].weight[5]
        scores = model.encode_queries(world.queries) @ model.encode_candidates(world.catalogue).T
        torch.testing.assert_close(scores[3, 5], (user * item).sum() + (20 + 21 + 22 + 23) / 4)

    def test_reads_ids_alone(self, model):
        names = {feature.name for feature in model.tables.features}
        assert names == {"user_id", "item_id"} < {feature.name for feature in SCHEMA.features}
