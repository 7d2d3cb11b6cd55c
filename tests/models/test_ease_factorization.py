import numpy as np
import pytest
import torch

from recsys.models.ease import EASE
from recsys.models.ease_factorization import EaseFactorization
from recsys.models.ials import IALS
from recsys.nn.spectral import interaction_matrix, weigh_users
from recsys.schema.positives import TrainPositives
from tests.models.contract import FittedContract, world_positives
from tests.models.test_ease import drawn_positives
from tests.worlds import SCHEMA, checkerboard


def build(schema, **keys):
    chosen = {"unobserved_weight": [0.2], "penalty": [0.2], "ease_weight": [0.5], "ease_l2": [2.0], **keys}
    return EaseFactorization(schema, embedding_dim=4, ease_dim=16, num_rounds=3, **chosen)


class TestEaseFactorization(FittedContract):
    def build(self, schema):
        return build(schema)


def scores(model):
    world = checkerboard()
    return model.encode_queries(world.queries) @ model.encode_candidates(world.catalogue).T


def test_score_is_the_sum_of_ials_and_ease_in_deviations():
    positives = world_positives()
    model = build(SCHEMA)
    model.fit(positives, 0)
    ease = EASE(SCHEMA, embedding_dim=16, l2=[2.0])
    ease.fit(positives, 0)
    num_items = len(set(positives.item_rows.tolist()))
    ials = IALS(SCHEMA, embedding_dim=4, unobserved_weight=0.2, l2=0.2 / (0.2 * num_items))
    for number in range(3):
        ials.fit(positives, number)
    of_ease, of_ials = scores(ease), scores(ials)
    # The world's histories are the train positives; every user has some but the unknown one.
    ratio = of_ials[1:, 1:].std(dim=1, correction=0).mean() / of_ease[1:, 1:].std(dim=1, correction=0).mean()
    expected = of_ials + 0.5 * ratio * of_ease
    torch.testing.assert_close(scores(model)[1:, 1:], expected[1:, 1:], rtol=2e-2, atol=2e-3)


def test_a_user_of_many_positives_counts_less_in_ease():
    """Two and eight positives, five in the mean: weights (2 / 5)^-1/2 and (8 / 5)^-1/2 in X'X."""
    user_rows = torch.tensor([1] * 2 + [2] * 8)
    positives = TrainPositives(user_rows, torch.tensor([1, 2, 1, 3, 4, 5, 6, 7, 8, 9]))
    matrix = weigh_users(interaction_matrix(positives, num_rows=10), exponent=0.5)
    gram = (matrix.T @ matrix).toarray()
    few, many = (2 / 5) ** -0.5, (8 / 5) ** -0.5
    np.testing.assert_allclose([gram[1, 1], gram[1, 2], gram[1, 3]], [few + many, few, many], rtol=1e-6)


def test_settings_follow_what_validation_said():
    """The second penalty was better, no EASE was worse: as fitted with what is left."""
    positives = drawn_positives(items=16)
    model = build(SCHEMA, penalty=[0.2, 0.4], ease_weight=[0.5, 0.0, 1.0])
    assert model.num_fits == 4
    for number in range(4):
        model.fit(positives, number, [0.1, 0.2, 0.15][:number])
    alone = build(SCHEMA, penalty=[0.4], ease_weight=[1.0])
    alone.fit(positives, 0)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


def test_without_validation_the_first_settings_stay():
    positives = drawn_positives(items=16)
    model, alone = build(SCHEMA, ease_weight=[0.5, 0.0]), build(SCHEMA)
    for number in range(2):
        model.fit(positives, number)
    alone.fit(positives, 0)
    assert np.array_equal(scores(model).detach(), scores(alone).detach())


@pytest.mark.parametrize(("key", "values"), [("penalty", [0.0]), ("ease_l2", []), ("ease_weight", [-1.0])])
def test_settings_must_be_positive(key, values):
    with pytest.raises(ValueError, match=rf"`model.{key}` must be one or more positive numbers"):
        build(SCHEMA, **{key: values})
