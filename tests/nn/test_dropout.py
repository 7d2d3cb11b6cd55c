import pytest
import torch

from recsys.nn.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_as_many_values_as_the_rate_says_are_dropped_and_the_others_grow(rate):
    torch.manual_seed(0)
    x = torch.ones(200, 500, requires_grad=True)
    found = Dropout(rate)(x)
    assert (found == 0).float().mean() == pytest.approx(rate, abs=0.005)
    torch.testing.assert_close(found[found > 0], torch.full_like(found[found > 0], 1 / (1 - rate)))
    found.sum().backward()
    assert torch.equal(x.grad, found.detach())


def test_few_bits_drop_as_many():
    torch.manual_seed(0)
    found = Dropout(0.001)(torch.ones(1000, 1000, dtype=torch.bfloat16))
    assert found.dtype == torch.bfloat16
    assert (found == 0).float().mean() == pytest.approx(0.001, abs=0.0002)


@pytest.mark.parametrize(("rate", "is_training"), [(0.0, True), (0.5, False)])
def test_nothing_is_dropped_at_rate_zero_or_outside_training(rate, is_training):
    x = torch.randn(3, 4)
    assert torch.equal(Dropout(rate).train(is_training)(x), x)
