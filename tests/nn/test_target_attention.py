import torch

from recsys.nn.target_attention import TargetAttention


def test_interest_is_the_sum_of_the_history_where_weights_are_one():
    attention = TargetAttention(2)
    for parameter in attention.mlp.layers[-1].parameters():
        torch.nn.init.zeros_(parameter)
    history = torch.tensor([[[1.0, 2.0], [3.0, -1.0]], [[5.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(attention(history, torch.ones(2, 2)), torch.tensor([[4.0, 1.0], [5.0, 0.0]]))


def test_weights_are_what_the_network_says_of_history_and_candidate():
    torch.manual_seed(0)
    attention = TargetAttention(3)
    history, target = torch.randn(4, 5, 3), torch.randn(4, 3)
    expected = torch.zeros(4, 3)
    for example in range(4):
        for event in history[example]:
            candidate = target[example]
            pair = torch.cat([event, candidate, event - candidate, event * candidate])
            expected[example] += (1 + attention.mlp(pair)) * event
    torch.testing.assert_close(attention(history, target), expected)


def test_no_history_gives_no_interest():
    assert TargetAttention(2)(torch.zeros(3, 0, 2), torch.randn(3, 2)).tolist() == [[0.0, 0.0]] * 3
