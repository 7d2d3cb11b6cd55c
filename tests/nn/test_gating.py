import torch

from recsys.nn.gating import FeatureGate, LearnedGate


def test_gates_of_logit_zero_leave_the_input_alone():
    gate = FeatureGate(2, 3, hidden=4)
    for parameter in gate.mlp.layers[-1].parameters():
        torch.nn.init.zeros_(parameter)
    inputs = torch.randn(5, 3)
    torch.testing.assert_close(gate(inputs, torch.randn(5, 2)), inputs)
    torch.testing.assert_close(LearnedGate(3)(inputs, inputs[:, :0]), inputs)


def test_gates_depend_on_the_context_and_reach_from_nothing_to_twice():
    torch.manual_seed(0)
    gate = FeatureGate(2, 3, hidden=4)
    inputs = torch.ones(2, 3)
    found = gate(inputs, torch.tensor([[1.0, 0.0], [0.0, 50.0]]))
    assert not torch.allclose(found[0], found[1])
    assert ((found > 0) & (found < 2)).all()


def test_learned_gate_shuts_what_its_logit_is_low_for():
    gate = LearnedGate(2)
    gate.gates.data = torch.tensor([-50.0, 50.0])
    torch.testing.assert_close(gate(torch.ones(1, 2), torch.empty(1, 0)), torch.tensor([[0.0, 2.0]]))
