import pytest
import torch

from recsys.models.ease import EASE
from recsys.models.ease_factorization import EaseFactorization
from recsys.models.matrix_factorization import MatrixFactorization
from tests.models.contract import RetrievalContract, world_positives
from tests.worlds import SCHEMA, SIZE, checkerboard


class TestEaseFactorization(RetrievalContract):
    def build(self, schema):
        model = EaseFactorization(
            schema, embedding_dim=8, ease_dim=16, ease_weight=0.5, l2=2.0, dropout=0.0, id_dropout=0.05
        )
        model.show_positives(world_positives())
        return model

    def test_score_is_the_sum_of_a_factorization_and_ease_in_deviations(self, model):
        world, positives = checkerboard(), world_positives()
        ease = EASE(SCHEMA, embedding_dim=16, l2=[2.0])
        ease.fit(positives, 0)
        factorization = MatrixFactorization(SCHEMA, embedding_dim=8)
        weights = {
            name: value for name, value in model.state_dict().items() if "tables" in name or "biases" in name
        }
        factorization.load_state_dict(weights)
        of_ease, of_factorization, found = (
            (one.encode_queries(world.queries) @ one.encode_candidates(world.catalogue).T).detach()
            for one in (ease.eval(), factorization.eval(), model)
        )
        # The world's histories are the train positives; every user has some but the unknown one.
        deviation = of_ease[1:, 1:].std(dim=1, correction=0).mean()
        expected = of_factorization + 0.5 * of_ease / deviation
        torch.testing.assert_close(found[1:, 1:], expected[1:, 1:], rtol=1e-3, atol=1e-3)

    def test_training_sees_the_factorization_alone(self, model):
        world = checkerboard()
        model.train()
        assert model.encode_queries(world.queries).shape == (SIZE + 1, 9)
        assert model.encode_candidates(world.catalogue).shape == (SIZE + 1, 9)
        model.eval()
        assert model.encode_queries(world.queries).shape == (SIZE + 1, 9 + 16)


def test_regularisation_must_be_positive():
    with pytest.raises(ValueError, match=r"`model.l2` must be positive, got 0"):
        EaseFactorization(SCHEMA, l2=0)
