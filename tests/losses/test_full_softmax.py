import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional

from recsys.losses import full_softmax as module
from recsys.losses.candidates import WeightedConstants
from recsys.losses.full_softmax import full_softmax

LOG = math.log


def logs(*values: float) -> torch.Tensor:
    return torch.tensor(values).log()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def few_at_once(monkeypatch):
    """Parts of three queries of nine candidates."""
    monkeypatch.setattr(module, "_AT_ONCE", {"cpu": 27})
    monkeypatch.setattr(module, "_FEWEST_QUERIES", 1)


def test_is_minus_log_of_the_targets_share() -> None:
    scores_BI = torch.stack([logs(1, 2, 5), logs(4, 1, 3)])
    loss = full_softmax(scores_BI, torch.eye(3), torch.tensor([2, 1]))
    assert loss.item() == pytest.approx((-LOG(5 / 8) - LOG(1 / 8)) / 2)


def test_gradient_by_a_score_is_share_minus_target() -> None:
    scores_BI = logs(1, 2, 5)[None].requires_grad_()
    full_softmax(scores_BI, torch.eye(3), torch.tensor([2])).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(scores_BI.grad, torch.tensor([[1 / 8, 2 / 8, 5 / 8 - 1]]))


def test_weights_and_extreme_scores() -> None:
    scores_BI = torch.tensor([[1e4, -1e4], [1e4, -1e4], [0, 0]], requires_grad=True)
    weights_B = torch.tensor([2.0, 1.0, 0.0])
    loss = full_softmax(scores_BI, torch.eye(2), torch.tensor([0, 1, 0]), weights_B=weights_B)
    assert loss.item() == pytest.approx((2 * 0 + 1 * 2e4 + 0 * LOG(2)) / 3)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(scores_BI.grad, torch.tensor([[0, 0], [1 / 3, -1 / 3], [0, 0]]))


def test_smoothing_spreads_a_share_of_the_target_evenly() -> None:
    scores_BI = torch.tensor([[1.0, 2.0, 4.0]])
    shares = scores_BI[0] - math.log(math.e + math.e**2 + math.e**4)
    expected = -(0.7 * shares[2] + 0.3 * shares.mean())
    loss = full_softmax(scores_BI, torch.eye(3), torch.tensor([2]), label_smoothing=0.3)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_parts_of_the_queries_make_the_same_loss_and_gradients(few_at_once, smoothing) -> None:
    queries_BD, candidates_ID = drawn(7, 4).requires_grad_(), drawn(9, 4, seed=1).requires_grad_()
    targets_B, weights_B = torch.tensor([0, 8, 3, 3, 1, 7, 2]), torch.arange(7).double()
    expected_B = functional.cross_entropy(
        queries_BD @ candidates_ID.T, targets_B, reduction="none", label_smoothing=smoothing
    )
    expected = (expected_B * weights_B).sum() / weights_B.sum()
    loss = full_softmax(queries_BD, candidates_ID, targets_B, weights_B=weights_B, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)
    inputs = (queries_BD, candidates_ID)
    torch.testing.assert_close(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs))


def test_constants_are_weighed_by_their_queries_alone(few_at_once) -> None:
    queries_BD, candidates_ID = drawn(7, 2).requires_grad_(), drawn(9, 2, seed=1).requires_grad_()
    weights_BP = drawn(7, 2, seed=5).requires_grad_()
    targets_B = torch.tensor([0, 8, 3, 3, 1, 7, 2])
    constants = [
        (torch.tensor([5, 1]), drawn(9, 2, seed=2)),
        (torch.tensor([0, 2, 3, 6]), drawn(9, 2, seed=3)),
        (torch.tensor([4]), drawn(9, 2, seed=4)),
    ]
    scores = []
    for query in range(7):
        (own,) = (constants_IP for positions, constants_IP in constants if query in positions)
        scores.append(candidates_ID @ queries_BD[query] + own @ weights_BP[query])
    expected = functional.cross_entropy(torch.stack(scores), targets_B)
    added = WeightedConstants(weights_BP, constants)
    loss = full_softmax(queries_BD, candidates_ID, targets_B, added=added)
    torch.testing.assert_close(loss, expected)
    inputs = (queries_BD, candidates_ID, weights_BP)
    torch.testing.assert_close(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs))


def test_gradients_are_those_of_small_steps() -> None:
    targets_B = torch.tensor([0, 4, 4])
    inputs = drawn(3, 2).requires_grad_(), drawn(5, 2, seed=1).requires_grad_()
    assert gradcheck(lambda queries, candidates: 3 * full_softmax(queries, candidates, targets_B), inputs)


def test_mixed_precision_multiplies_in_it_and_keeps_the_parameters_type() -> None:
    queries_BD = drawn(7, 4).float().requires_grad_()
    candidates_ID, targets_B = drawn(9, 4, seed=1).float(), torch.tensor([0, 8, 3, 3, 1, 7, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = full_softmax(queries_BD, candidates_ID, targets_B)
    rounded = queries_BD.detach().bfloat16() @ candidates_ID.bfloat16().T
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, functional.cross_entropy(rounded.float(), targets_B))
    loss.backward()  # type: ignore[no-untyped-call]
    assert queries_BD.grad is not None
    assert queries_BD.grad.dtype == torch.float32
