import numpy as np
import pytest
import torch

from recsys.models.item_knn import ItemKNN
from tests.models.contract import FittedContract
from tests.models.test_ease import drawn_positives
from tests.worlds import SCHEMA


class TestItemKNN(FittedContract):
    def build(self, schema):
        return ItemKNN(schema, embedding_dim=20, num_neighbours=[7, 8], shrinkage=0.5)


def test_factors_are_the_matrix_of_similarities_to_the_nearest_neighbours():
    positives = drawn_positives(items=16)
    model = ItemKNN(SCHEMA, embedding_dim=20, num_neighbours=[3], shrinkage=2.0)
    model.fit(positives, 0)
    read, scored = (
        tables.collection.embedding_bags[f"{prefix}_item_id"].weight.numpy()
        for tables, prefix in ((model.read, "read"), (model.scored, "scored"))
    )
    liked = np.zeros((60, 17))
    liked[positives.user_rows, positives.item_rows] = 1
    expected = np.zeros((17, 17))
    for item in range(1, 17):
        similar = [
            0.0
            if other in (0, item)
            else liked[:, item]
            @ liked[:, other]
            / (np.linalg.norm(liked[:, item]) * np.linalg.norm(liked[:, other]) + 2.0)
            for other in range(17)
        ]
        for other in np.argsort([-value for value in similar], kind="stable")[:3]:
            expected[other, item] = similar[other]
    np.testing.assert_allclose(read @ scored.T, expected, atol=1e-5)


def test_number_of_neighbours_must_be_positive():
    with pytest.raises(ValueError, match=r"`model.num_neighbours` must be .* of at least 1, got \[0\]"):
        ItemKNN(SCHEMA, num_neighbours=[0])
    assert torch.is_grad_enabled()
