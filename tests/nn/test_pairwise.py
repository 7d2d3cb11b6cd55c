import itertools

import torch

from recsys.nn.pairwise import PairwiseDots, factorization_machine


def test_dots_are_those_of_every_pair_once():
    fields = torch.randn(3, 4, 8)
    pairs = [(i, j) for i in range(4) for j in range(i)]
    found = PairwiseDots(4)(fields)
    assert found.shape == (3, len(pairs)) == (3, 6)
    for column, (i, j) in enumerate(pairs):
        torch.testing.assert_close(found[:, column], (fields[:, i] * fields[:, j]).sum(dim=1))


def test_factorization_machine_is_the_sum_over_pairs():
    fields = torch.randn(3, 5, 8)
    expected = sum((fields[:, i] * fields[:, j]).sum(dim=1) for i, j in itertools.combinations(range(5), 2))
    torch.testing.assert_close(factorization_machine(fields), expected[:, None])
