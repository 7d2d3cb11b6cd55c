import numpy as np
import pytest
import torch

from recsys.models.ease import EASE, ease_factors
from recsys.nn.spectral import interaction_matrix, spectrum_of
from recsys.schema.features import FeatureSchema
from recsys.schema.positives import TrainPositives
from tests.models.contract import FittedContract, world_positives
from tests.worlds import SCHEMA


class TestEASE(FittedContract):
    def build(self, schema):
        return EASE(schema, embedding_dim=16, l2=[2.0, 1.0])


def drawn_positives(*, users: int = 60, items: int = 30) -> TrainPositives:
    random = np.random.default_rng(0)
    liked = random.random((users, items)) < 0.2
    user_rows, item_rows = liked.nonzero()
    return TrainPositives(torch.from_numpy(user_rows), torch.from_numpy(item_rows + 1))


def papers_weights(matrix: np.ndarray, l2: float) -> np.ndarray:
    """Steck's listing: the Lagrangian's closed form, by an inverse."""
    inverse = np.linalg.inv(matrix.T @ matrix + l2 * np.eye(matrix.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@pytest.mark.parametrize("l2", [0.5, 20.0])
def test_scores_of_what_is_not_in_the_history_are_those_of_the_paper(l2):
    positives = drawn_positives()
    matrix = interaction_matrix(positives, num_rows=31).toarray().astype(np.float64)
    read_TD, scored_TD = ease_factors(spectrum_of(interaction_matrix(positives, num_rows=31), rank=31), l2=l2)
    found = matrix @ (read_TD @ scored_TD.T).numpy()
    expected = matrix @ papers_weights(matrix, l2)
    unseen = matrix == 0
    np.testing.assert_allclose(found[unseen], expected[unseen], atol=1e-9)


def test_every_singular_value_brings_it_nearer_to_the_paper():
    matrix_UT = interaction_matrix(drawn_positives(users=300, items=80), num_rows=81)
    expected = torch.from_numpy(papers_weights(matrix_UT.toarray().astype(np.float64), 50.0))
    errors = []
    for rank in (20, 40, 60, 80):
        read_TD, scored_TD = ease_factors(spectrum_of(matrix_UT, rank=rank), l2=50.0)
        weights_TT = read_TD @ scored_TD.T
        errors.append(float((weights_TT.fill_diagonal_(0) - expected).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-9 < errors[-2]


@pytest.mark.parametrize("l2", [[], [0.0], [100.0, -1.0]])
def test_regularisation_must_be_positive(l2):
    with pytest.raises(ValueError, match=r"`model.l2` must be one or more positive numbers, got"):
        EASE(SCHEMA, embedding_dim=4, l2=l2)


def test_data_without_a_history_are_refused():
    schema = FeatureSchema(tuple(f for f in SCHEMA.features if f.name != "history"))
    with pytest.raises(ValueError, match="EASE scores items by the user's history, which the data do"):
        EASE(schema)


def test_other_positives_are_fitted_anew():
    first, second = drawn_positives(items=16), world_positives()
    again, fresh = (EASE(SCHEMA, embedding_dim=16, l2=[2.0]) for _ in range(2))
    again.fit(first, 0)
    again.fit(second, 0)
    fresh.fit(second, 0)
    for name, weights in fresh.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weights)
