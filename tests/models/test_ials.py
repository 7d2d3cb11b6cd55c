import numpy as np
import pytest
import torch

from recsys.models.ials import IALS
from tests.models.contract import FittedContract
from tests.models.test_ease import drawn_positives
from tests.worlds import SCHEMA


class TestIALS(FittedContract):
    def build(self, schema):
        return IALS(schema, embedding_dim=4, num_rounds=6, unobserved_weight=0.1, l2=0.01)


def rows(tables, name):
    return tables.collection.embedding_bags[name].weight.double().numpy()


def test_round_solves_the_paper_equations_for_users_then_items():
    """Rendle et al. 2021, equation 3, an inverse for each user and item."""
    model = IALS(SCHEMA, embedding_dim=4, unobserved_weight=0.2, l2=0.05, l2_exponent=0.5, num_rounds=1)
    items = rows(model.scored, "scored_item_id").copy()
    positives = drawn_positives(items=16)
    model.fit(positives, 0)
    liked = np.zeros((60, 17))
    liked[positives.user_rows, positives.item_rows] = 1

    def solved(liked, held, num_held):
        gram = 0.2 * held.T @ held
        found = np.zeros((len(liked), 4))
        for row, likes in enumerate(liked):
            own = held[likes > 0]
            penalty = 0.05 * (len(own) + 0.2 * num_held) ** 0.5 * np.eye(4)
            found[row] = np.linalg.inv(own.T @ own + gram + penalty) @ own.sum(axis=0)
        return found

    users = solved(liked, items, 16)
    expected = solved(liked.T, users, int((liked.sum(axis=1) > 0).sum()))
    np.testing.assert_allclose(rows(model.scored, "scored_item_id"), expected, atol=1e-6)


def test_user_is_solved_from_the_history_of_the_request():
    model = IALS(SCHEMA, embedding_dim=4, num_rounds=1, unobserved_weight=0.1, l2=0.003)
    model.fit(drawn_positives(items=16), 0)
    history = torch.zeros(1, 3, 4)
    history[0, :2] = torch.from_numpy(rows(model.read, "read_item_id")[[3, 5]])
    items = rows(model.scored, "scored_item_id")
    l2 = 0.003 * (2 + 0.1 * 16)  # two likes, 16 items
    left = history[0].double().numpy()
    expected = np.linalg.solve(left.T @ left + 0.1 * items.T @ items + l2 * np.eye(4), left.sum(axis=0))
    found = model.query_tower({"read_history": history}, torch.zeros(1, 0))
    np.testing.assert_allclose(found[0, :4].numpy(), expected, rtol=1e-4)
    assert found[0, 4] == 1


def test_weights_must_be_positive():
    with pytest.raises(ValueError, match=r"`model.unobserved_weight` and `model.l2` must be positive"):
        IALS(SCHEMA, unobserved_weight=0.0)


def test_a_penalty_that_leaves_nothing_of_the_items_answers_with_zeros():
    model = IALS(SCHEMA, embedding_dim=4, num_rounds=1, unobserved_weight=0.1, l2=0.003)
    model.fit(drawn_positives(items=16), 0)
    tower = model.query_tower
    tower.gram.zero_()
    tower.num_items.zero_()
    vectors = tower({"read_history": torch.zeros(2, 3, 4)}, torch.zeros(2, 0))
    assert vectors.tolist() == 2 * [[0.0, 0.0, 0.0, 0.0, 1.0]]
