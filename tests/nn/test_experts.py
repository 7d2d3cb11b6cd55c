import torch
from torch import nn

from recsys.nn.experts import GatedExperts


def test_every_head_mixes_the_experts_by_a_gate_of_its_own():
    torch.manual_seed(0)
    experts = [nn.Linear(3, 5) for _ in range(4)]
    mixture = GatedExperts(experts, width=3, num_heads=2)
    inputs = torch.randn(6, 3)
    found = mixture(inputs)
    assert found.shape == (6, 2, 5)
    weights = mixture.gates.weight.view(2, 4, 3)
    for row in range(6):
        for head in range(2):
            gates = torch.softmax(weights[head] @ inputs[row], dim=0)
            expected = sum(gate * expert(inputs[row]) for gate, expert in zip(gates, experts, strict=True))
            torch.testing.assert_close(found[row, head], expected)


def test_one_expert_is_a_shared_bottom():
    expert = nn.Linear(3, 5)
    inputs = torch.randn(6, 3)
    found = GatedExperts([expert], width=3, num_heads=2)(inputs)
    torch.testing.assert_close(found[:, 0], expert(inputs))
    torch.testing.assert_close(found[:, 1], expert(inputs))
