import pytest
import torch

from recsys.nn import packing as packing_module
from recsys.nn.packing import pack
from recsys.nn.sequence import AttentionBlock, HSTUBlock, log_gaps, sequence_encoder

KINDS = ["mean", "attention", "transformer", "hstu", "gru"]


@pytest.fixture(params=KINDS)
def encoder(request):
    torch.manual_seed(0)
    made = sequence_encoder(request.param, width=8, blocks=2, heads=2, dropout=0.5).eval()
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def encoded(encoder, x_BSD, instants_BS):
    """States [B, S, D] of sequences that are all of one length."""
    shape = x_BSD.shape
    return encoder(x_BSD.flatten(0, 1), instants_BS.flatten(), [(shape[0], shape[1])]).view(shape)


def states_and_instants(size=6):
    torch.manual_seed(1)
    return torch.randn(3, size, 8), torch.rand(3, size).cumsum(1) * 1e5


def test_state_depends_on_nothing_that_comes_later(encoder):
    x, instants = states_and_instants()
    whole = encoded(encoder, x, instants)
    for size in range(1, 6):
        torch.testing.assert_close(encoded(encoder, x[:, :size], instants[:, :size]), whole[:, :size])


def test_state_depends_on_everything_before_it(encoder):
    x, instants = states_and_instants()
    before = encoded(encoder, x, instants)[:, -1]
    for place in range(6):
        moved = x.clone()
        moved[:, place, 0] += 1.0  # all of them alike a norm would not see
        assert not torch.allclose(encoded(encoder, moved, instants)[:, -1], before, atol=1e-4)


def test_only_hstu_reads_the_time_between_events(encoder):
    x, instants = states_and_instants()
    reads = any(isinstance(module, HSTUBlock) for module in encoder.modules())
    assert torch.allclose(encoded(encoder, x, instants), encoded(encoder, x, instants * 40)) != reads


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
    torch.testing.assert_close(block(x, instants, [(1, 5)]), expected)


def test_scripted_encoder_equals_eager(encoder):
    x, instants = states_and_instants()
    torch.testing.assert_close(encoded(torch.jit.script(encoder), x, instants), encoded(encoder, x, instants))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"`model.num_heads` must divide `model.embedding_dim` \(8\), got 3"):
        sequence_encoder("transformer", width=8, blocks=1, heads=3, dropout=0.0)


SIZES = [1, 90, 3, 88, 2, 41, 1, 40, 90]


def test_every_state_has_a_position_of_its_own_and_little_is_padded():
    packing = pack(torch.tensor(SIZES))
    places = {}
    for place, pair in enumerate(zip(packing.sequences_P.tolist(), packing.states_P.tolist(), strict=True)):
        assert pair not in places
        places[pair] = place
    for number, size in enumerate(SIZES):
        for state in range(size):
            assert places[number, state] == packing.starts_B[number] + state
    assert packing.shapes == [(3, 90), (2, 41), (4, 3)]
    assert len(places) == 3 * 90 + 2 * 41 + 4 * 3


@pytest.mark.parametrize("spare", [0, 32, 10**6])
def test_states_are_those_of_each_sequence_alone(encoder, monkeypatch, spare):
    monkeypatch.setitem(packing_module._SPARE_POSITIONS, "cpu", spare)
    torch.manual_seed(2)
    packing = pack(torch.tensor(SIZES))
    x, instants = torch.randn(len(packing.states_P), 8), torch.rand(len(packing.states_P)) * 1e5
    states = encoder(x, instants, packing.shapes)
    for start, size in zip(packing.starts_B.tolist(), SIZES, strict=True):
        own = slice(start, start + size)
        torch.testing.assert_close(states[own], encoder(x[own], instants[own], [(1, size)]))


def test_attention_with_dropout_is_on_average_attention_without():
    torch.manual_seed(0)
    block = AttentionBlock(8, heads=2, dropout=0.3)
    q, k, v = torch.randn(3, 2, 2, 5, 4).unbind(0)
    mean = torch.stack([block.attend(q, k, v) for _ in range(4000)]).mean(dim=0)
    torch.testing.assert_close(mean, block.eval().attend(q, k, v), rtol=0, atol=0.06)
    block.train().weight_dropout.rate = 1e-9
    torch.testing.assert_close(block.attend(q, k, v), block.eval().attend(q, k, v))
