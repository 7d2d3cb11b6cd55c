import pytest
import torch
from torch import nn

from recsys.nn.mlp import MLP
from recsys.nn.normalisation import BatchNorm


def kinds(mlp: MLP) -> list[str]:
    return [type(layer).__name__ for layer in mlp.layers]


def test_last_layer_is_linear_or_one_more_hidden_one():
    assert kinds(MLP(4, [3, 2])) == ["Linear", "ReLU", "Dropout", "Linear"]
    assert kinds(MLP(4, [3, 2], last="hidden")) == ["Linear", "ReLU", "Dropout"] * 2
    assert kinds(MLP(4, [])) == []


@pytest.mark.parametrize(("kind", "layer"), [("layer", "LayerNorm"), ("batch", "BatchNorm")])
def test_hidden_layers_are_normalised_before_their_relu(kind, layer):
    assert kinds(MLP(4, [3, 2], normalisation=kind)) == ["Linear", layer, "ReLU", "Dropout", "Linear"]


def test_batch_norm_equals_torchs():
    ours, torchs = BatchNorm(3), nn.BatchNorm1d(3)
    for _ in range(3):
        inputs = torch.randn(8, 3)
        torch.testing.assert_close(ours(inputs), torchs(inputs))
    torch.testing.assert_close(ours.running_var, torchs.running_var)
    torch.testing.assert_close(ours.eval()(inputs), torchs.eval()(inputs))


def test_batch_norm_of_one_example_is_by_the_running_statistics():
    norm = BatchNorm(2)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 9.0]))
    found = norm(torch.tensor([[5.0, -1.0]]))
    torch.testing.assert_close(found, torch.tensor([[2.0, -1.0]]), atol=1e-4, rtol=0)
    assert norm.running_mean.tolist() == [1.0, 2.0]
