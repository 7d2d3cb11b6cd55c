import pytest
import torch

from recsys.nn.fields import Fields, flat
from tests.worlds import SCHEMA

NAMES = ["user_id", "history", "hour", "item_id", "genres"]  # dense: age, price


def inputs(size: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    return {name: torch.full((size, 4), 1.0 + at) for at, name in enumerate(NAMES)}, torch.ones(size, 2)


def test_features_left_out_are_gone_embedded_and_dense():
    fields = Fields(SCHEMA, embedding_dim=4, leave_out=["history", "age"])
    embedded, dense = inputs(3)
    dense[:, 1] = 7.0  # price
    features, numbers = fields(embedded, dense)
    assert features[0, :, 0].tolist() == [1.0, 3.0, 4.0, 5.0]
    assert numbers.tolist() == [[7.0]] * 3
    assert fields.width == flat(features, numbers).shape[1] == 4 * 4 + 1


def test_leaving_out_an_unknown_feature_is_refused():
    with pytest.raises(ValueError, match=r"`model.leave_out` names features .* \['colour'\]"):
        Fields(SCHEMA, embedding_dim=4, leave_out=["colour"])


def test_dropout_takes_whole_features_and_keeps_the_mean():
    torch.manual_seed(0)
    fields = Fields(SCHEMA, embedding_dim=4, dropout=0.25)
    embedded, dense = inputs(4000)
    features, numbers = fields(embedded, dense)
    assert torch.equal(features, features[:, :, :1].expand_as(features))
    assert (features == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(features[:, 1, 0].mean(), torch.tensor(2.0), atol=0.05, rtol=0)
    assert (numbers == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    fields.eval()
    assert torch.equal(fields(embedded, dense)[0][:, 1], embedded["history"])


def test_no_dropout_draws_nothing():
    state = torch.get_rng_state()
    Fields(SCHEMA, embedding_dim=4)(*inputs(3))
    assert torch.equal(torch.get_rng_state(), state)
