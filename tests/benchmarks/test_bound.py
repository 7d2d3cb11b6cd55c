"""The bare loops do the arithmetic that they are said to do."""

import pytest
import torch
from torch.nn import functional

from benchmarks.bound import Bound
from benchmarks.two_tower import BareTwoTower
from benchmarks.workload import BYTES_A_ROW, EMBEDDING_DIM, Workload, largest_rows
from recsys.losses.sampled_softmax import accidental_hits, sampled_softmax

WORKLOAD = Workload(rows=50, batch_size=64, num_batches=4)


def by_hand(bound, batch):
    """The loss out of plain look-ups, feature by feature."""
    rows_FB, dense, labels_B = batch
    deep = [t[rows] for t, rows in zip(bound.deep_tables.split_embedding_weights(), rows_FB, strict=True)]
    wide = [t[rows] for t, rows in zip(bound.wide_tables.split_embedding_weights(), rows_FB, strict=True)]
    logits_B1 = bound.mlp(torch.cat([*deep, dense], dim=1)) + bound.wide_dense(dense)
    logits_B1 = logits_B1 + sum(weights.mean(dim=1, keepdim=True) for weights in wide)
    return functional.binary_cross_entropy_with_logits(logits_B1[:, 0], labels_B).detach()


def test_bound_computes_wide_and_deep():
    bound, batches = Bound(WORKLOAD, bf16=False), WORKLOAD.batches()
    for batch in batches:
        expected = by_hand(bound, batch)
        torch.testing.assert_close(bound.step(*batch), expected)


@pytest.mark.parametrize("bf16", [False, True])
def test_bound_learns(bf16):
    bound, batches = Bound(WORKLOAD, bf16=bf16), WORKLOAD.batches()
    losses_of = [bound.step(*batches[number % 4]).item() for number in range(80)]
    assert sum(losses_of[-4:]) < 0.7 * sum(losses_of[:4])


def test_bound_moves_the_rows_of_a_batch_and_no_others():
    bound, batch = Bound(WORKLOAD, bf16=False), WORKLOAD.batches()[0]
    before = [table.clone() for table in bound.deep_tables.split_embedding_weights()]
    bound.step(*batch)
    for old, new, rows in zip(before, bound.deep_tables.split_embedding_weights(), batch[0], strict=True):
        moved = (old != new).any(dim=1).nonzero()[:, 0]
        assert torch.equal(moved, rows.unique())


def test_largest_tables_fit_what_is_allowed():
    # 26 features x (16 + 4 weights, a momentum for each of both tables) x 4 bytes.
    assert BYTES_A_ROW == 26 * 22 * 4
    assert 13.7e9 < largest_rows() * BYTES_A_ROW <= 14e9
    assert EMBEDDING_DIM == 16


def test_bare_two_tower_has_the_loss_of_the_project():
    torch.manual_seed(1)
    bare = BareTwoTower(users=40, items=30)
    users_B, items_B = torch.randint(1, 41, (16,)), torch.randint(1, 31, (16,))
    torch.manual_seed(7)
    candidates_N = torch.cat([items_B, torch.randint(1, 31, (1024,))])
    user, item, category = (table.detach() for table in bare.tables.split_embedding_weights())
    queries_BD = user[users_B] + bare.query(user[users_B])
    contents = [item[candidates_N], category[candidates_N % 100 + 1]]
    vectors_ND = sum(contents) + bare.candidate(torch.cat(contents, dim=1))
    scores_BN = 10 * functional.normalize(queries_BD, dim=1) @ functional.normalize(vectors_ND, dim=1).T
    positive_B = scores_BN[:, :16].diagonal()
    expected = sampled_softmax(
        positive_B,
        scores_BN,
        positive_log_q_B=torch.zeros(16),
        negative_log_q_N=(16 * bare.share_I + 1024 / 30).log()[candidates_N],
        mask_BN=accidental_hits(items_B, candidates_N),
    ).detach()
    torch.manual_seed(7)
    torch.testing.assert_close(bare.step(users_B, items_B), expected, rtol=1e-4, atol=1e-4)
