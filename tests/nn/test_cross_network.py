import pytest
import torch

from recsys.nn.cross_network import CrossLayer, CrossNetwork, LowRankCrossLayer


def test_full_layer_multiplies_the_first_input_by_a_linear_map_of_the_last():
    layer = CrossLayer(2)
    layer.linear.weight.data = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    layer.linear.bias.data = torch.tensor([10.0, 20.0])
    found = layer(torch.tensor([[2.0, 5.0]]), torch.tensor([[1.0, 4.0]]))
    # W x + b = [1 + 8 + 10, 12 + 20]
    assert found.tolist() == [[2.0 * 19 + 1, 5.0 * 32 + 4]]


def test_mixture_of_low_rank_layers_equals_the_experts_weighed_one_by_one():
    torch.manual_seed(0)
    layer = LowRankCrossLayer(5, rank=2, num_experts=3)
    layer.bias.data = torch.randn(5)
    first, inputs = torch.randn(4, 5), torch.randn(4, 5)
    for row in range(4):
        gates = torch.softmax(layer.gate.weight @ inputs[row], dim=0)
        expected = inputs[row].clone()
        for expert in range(3):
            low = torch.tanh(layer.down[expert].T @ inputs[row])
            low = torch.tanh(layer.middle[expert].T @ low)
            expected += gates[expert] * first[row] * (layer.up[expert].T @ low + layer.bias)
        torch.testing.assert_close(layer(first, inputs)[row], expected)


def test_degree_of_the_polynomial_is_one_more_than_the_number_of_layers():
    torch.manual_seed(0)
    network = CrossNetwork(3, num_layers=2).double()
    for layer in network.layers:
        torch.nn.init.zeros_(layer.linear.bias)
    scales = torch.arange(1.0, 6.0).double()
    values = torch.cat([network(scale * torch.ones(1, 3).double()) for scale in scales])[:, 0]
    # The fourth difference of a cubic is 0, the third is not.
    differences = values
    for _ in range(3):
        differences = differences.diff()
    assert differences.abs().min() > 1e-3
    assert differences.diff().abs().max() < 1e-9


def test_no_layers_leave_the_input_alone():
    inputs = torch.randn(2, 3)
    assert torch.equal(CrossNetwork(3, num_layers=0)(inputs), inputs)


def test_several_experts_of_full_rank_are_refused():
    with pytest.raises(ValueError, match=r"`model.num_experts=4` needs low-rank layers: set `model.rank`"):
        CrossNetwork(8, num_layers=1, num_experts=4)


def test_negative_numbers_are_refused():
    with pytest.raises(ValueError, match=r"at least 1, got -1, 0 and 1"):
        CrossNetwork(8, num_layers=-1)
