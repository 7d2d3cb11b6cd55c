import pytest
import torch
from torch import nn

from recsys.nn.mlp import MLP, linear_of_parts
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


def test_scripted_parts_of_the_input_give_what_the_whole_of_it_gives():
    torch.manual_seed(0)
    mlp = MLP(5, [4, 3, 1], dropout=0.5).eval()

    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.mlp = mlp

        def forward(self, user: torch.Tensor, items: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
            return self.mlp.of_parts([user, items, more])

    items, more = torch.randn(6, 2), torch.randn(6, 1)
    for user in (torch.randn(1, 2).expand(6, 2), torch.randn(6, 2)):
        expected = mlp(torch.cat([user, items, more], dim=1))
        torch.testing.assert_close(torch.jit.script(Parts())(user, items, more), expected)
        torch.testing.assert_close(mlp.of_parts([user, items, more]), expected)
    # As in training, where each example has parts of its own: the same to the bit.
    assert torch.equal(mlp.of_parts([user, items, more]), expected)


def test_what_examples_share_is_read_from_the_first_of_them():
    shared, own = torch.tensor([[2.0]]).expand(3, 1), torch.tensor([[0.0], [1.0], [2.0]])
    weight, bias = torch.tensor([[10.0, 1.0]]), torch.tensor([0.5])
    assert linear_of_parts([shared, own], weight, bias).flatten().tolist() == [20.5, 21.5, 22.5]
    # 10 x 2 + 1 x 2 + .5, whoever asks.
    assert linear_of_parts([shared, shared], weight, bias).flatten().tolist() == [22.5] * 3
