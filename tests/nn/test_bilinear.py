import pytest
import torch

from recsys.nn.bilinear import BilinearFusion


def test_heads_each_fuse_their_own_parts():
    fusion = BilinearFusion(4, 6, num_heads=2)
    first, second = torch.randn(3, 4), torch.randn(3, 6)
    for row in range(3):
        x, y = first[row], second[row]
        expected = fusion.first.bias + fusion.first.weight @ x + fusion.second.weight @ y
        expected = expected + x[:2] @ fusion.matrices[0] @ y[:3] + x[2:] @ fusion.matrices[1] @ y[3:]
        torch.testing.assert_close(fusion(first, second)[row], expected)


def test_no_examples_give_no_logits():
    assert BilinearFusion(4, 4, num_heads=2)(torch.empty(0, 4), torch.empty(0, 4)).shape == (0, 1)


def test_heads_that_do_not_divide_a_width_are_refused():
    with pytest.raises(ValueError, match=r"`model.num_heads` must divide .* got 3 heads for 6 and 4"):
        BilinearFusion(6, 4, num_heads=3)
