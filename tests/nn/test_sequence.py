import pytest
import torch

from recsys.nn.sequence import HSTUBlock, log_gaps, sequence_encoder

KINDS = ["mean", "attention", "transformer", "hstu", "gru"]


@pytest.fixture(params=KINDS)
def encoder(request):
    torch.manual_seed(0)
    made = sequence_encoder(request.param, width=8, blocks=2, heads=2, dropout=0.5).eval()
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def states_and_instants(size=6):
    torch.manual_seed(1)
    return torch.randn(3, size, 8), torch.rand(3, size).cumsum(1) * 1e5


def test_state_depends_on_nothing_that_comes_later(encoder):
    x, instants = states_and_instants()
    whole = encoder(x, instants)
    for size in range(1, 6):
        torch.testing.assert_close(encoder(x[:, :size], instants[:, :size]), whole[:, :size])


def test_state_depends_on_everything_before_it(encoder):
    x, instants = states_and_instants()
    before = encoder(x, instants)[:, -1]
    for place in range(6):
        moved = x.clone()
        moved[:, place, 0] += 1.0  # all of them alike a norm would not see
        assert not torch.allclose(encoder(moved, instants)[:, -1], before, atol=1e-4)


def test_only_hstu_reads_the_time_between_events(encoder):
    x, instants = states_and_instants()
    reads = any(isinstance(module, HSTUBlock) for module in encoder.modules())
    assert torch.allclose(encoder(x, instants), encoder(x, instants * 40)) != reads


def test_hstu_attention_is_its_equations_written_out():
    torch.manual_seed(0)
    block = HSTUBlock(4, heads=2, dropout=0.0).eval()
    for parameter in block.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    x, instants = torch.randn(5, 4), torch.tensor([0.0, 3.0, 3.0, 90.0, 5000.0])
    u, q, k, v = torch.nn.functional.silu(block.gates_and_values(block.norm(x))).chunk(4, dim=1)
    found = torch.zeros(5, 4)
    for at in range(5):
        for head, columns in enumerate((slice(0, 2), slice(2, 4))):
            for past in range(at + 1):
                gap = int(log_gaps(instants[at] - instants[past]))
                bias = block.by_distance.weight[at - past, head] + block.by_gap.weight[gap, head]
                score = q[at, columns] @ k[past, columns] / 2**0.5 + bias
                found[at, columns] += torch.nn.functional.silu(score) * v[past, columns] / (at + 1)
    expected = x + block.out(block.norm_found(found) * u)
    torch.testing.assert_close(block(x[None], instants[None])[0], expected)


def test_scripted_encoder_equals_eager(encoder):
    x, instants = states_and_instants()
    torch.testing.assert_close(torch.jit.script(encoder)(x, instants), encoder(x, instants))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"`model.num_heads` must divide `model.embedding_dim` \(8\), got 3"):
        sequence_encoder("transformer", width=8, blocks=1, heads=3, dropout=0.0)
