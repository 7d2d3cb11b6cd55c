import pytest
import torch

from recsys.models.din import DIN
from recsys.models.protocols import embed
from tests.models.contract import RankingContract
from tests.worlds import SCHEMA, SIZE, checkerboard, pairs


class TestDIN(RankingContract):
    def build(self, schema):
        return DIN(schema, embedding_dim=8, hidden=(32,), id_dropout=0.05)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DIN(SCHEMA, embedding_dim=8, init_std=0.5).eval()


def test_history_weighs_otherwise_for_another_candidate(model):
    users = torch.tensor([3, 3])
    embedded = embed(model, pairs(checkerboard(), users, torch.tensor([2, 5])))
    interests = model.head.attention(embedded["history"], embedded["item_id"])
    assert torch.equal(embedded["history"][0], embedded["history"][1])
    assert not torch.allclose(interests[0], interests[1])


def test_item_is_the_same_in_the_history_and_as_candidate(model):
    embedded = embed(model, pairs(checkerboard(), torch.tensor([3]), torch.tensor([5])))
    liked = [item for item in range(1, SIZE + 1, 2) if item != 3]  # odd users like odd items
    assert torch.equal(embedded["history"][0, liked.index(5)], embedded["item_id"][0])


def test_longer_history_beside_it_does_not_matter(model):
    world = checkerboard()
    both = model(pairs(world, torch.tensor([0, 3]), torch.tensor([2, 2])))  # user 0 has no history
    alone = model(pairs(world, torch.tensor([0]), torch.tensor([2])))
    torch.testing.assert_close(both[:1], alone)


@pytest.mark.parametrize("name", ["history", "item_id"])
def test_leaving_out_what_attention_needs_is_refused(name):
    with pytest.raises(ValueError, match=rf"DIN weighs the items of the history .* \['{name}'\] is left out"):
        DIN(SCHEMA, leave_out=[name])
