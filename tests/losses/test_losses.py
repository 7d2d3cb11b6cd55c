import math

import pytest
import torch
from torch.autograd import gradcheck

from recsys.losses.bpr import bayesian_personalized_ranking
from recsys.losses.full_softmax import full_softmax
from recsys.losses.gbce import generalised_binary_cross_entropy
from recsys.losses.pointwise import binary_cross_entropy, squared_error
from recsys.losses.sampled_softmax import accidental_hits, sampled_softmax

LOG = math.log


def logs(*values: float) -> torch.Tensor:
    return torch.tensor(values).log()


# Binary cross-entropy


def test_binary_cross_entropy_is_minus_log_of_the_probability_given_to_the_label() -> None:
    # logit log 3 is probability 3/4, log 4 is 4/5, 0 is 1/2
    loss = binary_cross_entropy(torch.tensor([LOG(3), LOG(4), 0.0]), torch.tensor([1.0, 0.0, 1.0]))
    assert loss.item() == pytest.approx((-LOG(3 / 4) - LOG(1 / 5) - LOG(1 / 2)) / 3)


def test_binary_cross_entropy_weights_divide_by_their_sum() -> None:
    logits_B, labels_B = torch.tensor([LOG(3), 0.0]), torch.tensor([1.0, 1.0])
    loss = binary_cross_entropy(logits_B, labels_B, weights_B=torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx((1 * -LOG(3 / 4) + 3 * -LOG(1 / 2)) / 4)


def test_binary_cross_entropy_gradient_is_probability_minus_label() -> None:
    logits_B = torch.tensor([LOG(3), -LOG(3)], requires_grad=True)
    binary_cross_entropy(logits_B, torch.tensor([1.0, 0.25])).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(logits_B.grad, torch.tensor([(3 / 4 - 1) / 2, (1 / 4 - 1 / 4) / 2]))


def test_binary_cross_entropy_of_extreme_logits_is_finite() -> None:
    logits_B = torch.tensor([1e4, -1e4, 1e4], requires_grad=True)
    loss = binary_cross_entropy(logits_B, torch.tensor([1.0, 0.0, 0.0]))
    assert loss.item() == pytest.approx((0 + 0 + 1e4) / 3)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(logits_B.grad, torch.tensor([0, 0, 1 / 3]))


# Squared error


def test_squared_error_is_half_the_weighted_mean_of_squares() -> None:
    values_B, labels_B = torch.tensor([1.0, 5.0]), torch.tensor([3.0, 4.0])
    assert squared_error(values_B, labels_B).item() == pytest.approx((2.0**2 / 2 + 1.0**2 / 2) / 2)
    loss = squared_error(values_B, labels_B, weights_B=torch.tensor([0.0, 3.0]))
    assert loss.item() == pytest.approx(1.0**2 / 2)


def test_squared_error_gradient_is_the_difference() -> None:
    values_B = torch.tensor([1.0, 1e6], requires_grad=True)
    squared_error(values_B, torch.tensor([3.0, 0.0])).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(values_B.grad, torch.tensor([-2.0 / 2, 1e6 / 2]))


# Sampled softmax


def test_sampled_softmax_subtracts_log_q_of_positive_and_candidates() -> None:
    # scores log 6, log 2, log 1 drawn with 1/2, 1/4, 1/4 count as 12, 8 and 4
    loss = sampled_softmax(
        logs(6), logs(2, 1)[None], positive_log_q_B=logs(1 / 2), negative_log_q_N=logs(1 / 4, 1 / 4)
    )
    assert loss.item() == pytest.approx(-LOG(12 / (12 + 8 + 4)), rel=1e-5)


def test_sampled_softmax_gradients_are_right() -> None:
    generator = torch.Generator().manual_seed(0)
    positive_B, negative_BN, log_q_B, log_q_N = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3,), (3, 4), (3,), (4,))
    )
    mask_BN = torch.tensor([[True, False, False, True], [False] * 4, [True] * 4])

    def loss(positive_B: torch.Tensor, negative_BN: torch.Tensor) -> torch.Tensor:
        return sampled_softmax(
            positive_B,
            negative_BN,
            positive_log_q_B=log_q_B,
            negative_log_q_N=log_q_N,
            mask_BN=mask_BN,
            weights_B=torch.tensor([1.0, 2.0, 3.0]),
        )

    assert gradcheck(loss, (positive_B.requires_grad_(), negative_BN.requires_grad_()))


def test_sampled_softmax_over_all_items_with_equal_q_is_the_full_softmax() -> None:
    scores_BI = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    rows_B = torch.tensor([0, 3, 3, 8, 1])
    weights_B = torch.tensor([1.0, 0.5, 2.0, 1.0, 0.0])
    sampled = sampled_softmax(
        scores_BI[torch.arange(5), rows_B],
        scores_BI,
        positive_log_q_B=torch.full((5,), LOG(1 / 9)),
        negative_log_q_N=torch.full((9,), LOG(1 / 9)),
        mask_BN=accidental_hits(rows_B, torch.arange(9)),
        weights_B=weights_B,
    )
    torch.testing.assert_close(sampled, full_softmax(scores_BI, torch.eye(9), rows_B, weights_B=weights_B))


def test_sampled_softmax_of_a_skewed_draw_comes_near_the_full_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    scores_I = torch.randn(50, generator=generator)
    probability_I = (
        torch.arange(50, 0, -1).float() / 1275
    )  # 50 times likelier to draw the first than the last
    num_drawn = 100_000
    rows_N = torch.multinomial(probability_I, num_drawn, replacement=True, generator=generator)
    loss = sampled_softmax(
        scores_I[[40]],
        scores_I[rows_N][None],
        positive_log_q_B=torch.zeros(1),
        negative_log_q_N=(num_drawn * probability_I[rows_N]).log(),
        mask_BN=accidental_hits(torch.tensor([40]), rows_N),
    )
    expected = full_softmax(scores_I[None], torch.eye(50), torch.tensor([40]))
    assert loss.item() == pytest.approx(expected.item(), abs=0.02)


def test_sampled_softmax_masked_candidate_gets_zero_probability_and_no_gradient() -> None:
    negative_BN = logs(50, 2)[None].requires_grad_()
    loss = sampled_softmax(
        logs(6),
        negative_BN,
        positive_log_q_B=torch.zeros(1),
        negative_log_q_N=torch.zeros(2),
        mask_BN=torch.tensor([[True, False]]),
    )
    assert loss.item() == pytest.approx(-LOG(6 / 8))
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(negative_BN.grad, torch.tensor([[0, 2 / 8]]))


def test_sampled_softmax_is_zero_with_a_zero_gradient_where_every_candidate_is_masked() -> None:
    positive_B, negative_BN = torch.ones(1, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    loss = sampled_softmax(
        positive_B,
        negative_BN,
        positive_log_q_B=torch.zeros(1),
        negative_log_q_N=torch.zeros(2),
        mask_BN=torch.tensor([[True, True]]),
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert positive_B.grad is not None
    assert positive_B.grad.tolist() == [0]
    assert negative_BN.grad is not None
    assert negative_BN.grad.tolist() == [[0, 0]]


def test_sampled_softmax_of_extreme_scores_is_finite() -> None:
    positive_B = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = sampled_softmax(
        positive_B,
        torch.tensor([[1e4], [-1e4]]),
        positive_log_q_B=torch.zeros(2),
        negative_log_q_N=torch.zeros(1),
    )
    assert loss.item() == pytest.approx((2e4 + 0) / 2)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(positive_B.grad, torch.tensor([-1 / 2, 0]))


# BPR


def test_bpr_is_minus_log_of_the_sigmoid_of_the_difference() -> None:
    # differences log 3, 0 and -log 4 are probabilities 3/4, 1/2 and 1/5 of the right order
    loss = bayesian_personalized_ranking(torch.tensor([LOG(3)]), torch.tensor([[0.0, LOG(3), LOG(12)]]))
    assert loss.item() == pytest.approx((-LOG(3 / 4) - LOG(1 / 2) - LOG(1 / 5)) / 3)


def test_bpr_leaves_out_masked_pairs_and_weighs_the_rest() -> None:
    loss = bayesian_personalized_ranking(
        torch.zeros(2),
        torch.tensor([[0.0, 99.0], [LOG(3), -LOG(3)]]),
        mask_BN=torch.tensor([[False, True], [False, False]]),
        weights_B=torch.tensor([4.0, 1.0]),
    )
    assert loss.item() == pytest.approx((4 * -LOG(1 / 2) + (-LOG(1 / 4) - LOG(3 / 4)) / 2) / (4 + 1))


def test_bpr_gradient_pulls_positive_and_negative_apart() -> None:
    positive_B, negative_BN = (
        torch.tensor([0.0], requires_grad=True),
        torch.tensor([[LOG(3)]], requires_grad=True),
    )
    bayesian_personalized_ranking(positive_B, negative_BN).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(positive_B.grad, torch.tensor([-3 / 4]))
    torch.testing.assert_close(negative_BN.grad, torch.tensor([[3 / 4]]))


def test_bpr_of_extreme_scores_is_finite() -> None:
    positive_B = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = bayesian_personalized_ranking(positive_B, torch.tensor([[-1e4], [1e4]]))
    assert loss.item() == pytest.approx((0 + 2e4) / 2)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(positive_B.grad, torch.tensor([0, -1 / 2]))


# All


def test_all_weights_zero_give_a_loss_of_zero() -> None:
    zero = torch.zeros(2)
    losses = [
        binary_cross_entropy(torch.ones(2), zero, weights_B=zero),
        full_softmax(torch.ones(2, 3), torch.eye(3), torch.tensor([0, 1]), weights_B=zero),
        sampled_softmax(
            torch.ones(2),
            torch.ones(2, 3),
            positive_log_q_B=zero,
            negative_log_q_N=torch.zeros(3),
            weights_B=zero,
        ),
        bayesian_personalized_ranking(torch.ones(2), torch.ones(2, 3), weights_B=zero),
    ]
    assert [loss.item() for loss in losses] == [0, 0, 0, 0]


def test_losses_of_bfloat16_scores_are_summed_in_float32() -> None:
    # 1 / 4096 is below bfloat16's resolution at 1: summed there, the many small scores would vanish.
    scores_BI = torch.tensor([[0.0] + [-LOG(4096)] * 4096], dtype=torch.bfloat16)
    target_B = torch.tensor([0])
    losses = [
        full_softmax(scores_BI, torch.eye(4097, dtype=torch.bfloat16), target_B),
        sampled_softmax(
            scores_BI[:, 0],
            scores_BI[:, 1:],
            positive_log_q_B=torch.zeros(1),
            negative_log_q_N=torch.zeros(4096),
        ),
    ]
    small = math.exp(float(scores_BI[0, 1]))
    for loss in losses:
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(LOG(1 + 4096 * small), rel=1e-4)


# Generalised binary cross-entropy


def test_gbce_is_its_formula_written_out() -> None:
    positive, negatives = torch.tensor([1.5]), torch.tensor([[0.5, -2.0]])
    power = 0.1 * (0.75 * (1 - 1 / 0.1) + 1 / 0.1)
    sigmoid = [1 / (1 + math.exp(-x)) for x in (1.5, 0.5, -2.0)]
    expected = -(power * math.log(sigmoid[0]) + math.log(1 - sigmoid[1]) + math.log(1 - sigmoid[2])) / 3
    loss = generalised_binary_cross_entropy(positive, negatives, sampling_rate=0.1, calibration=0.75)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_gbce_without_calibration_is_the_mean_bce() -> None:
    torch.manual_seed(0)
    positive, negatives = torch.randn(4), torch.randn(4, 3)
    scores = torch.cat([positive[:, None], negatives], dim=1)
    labels = torch.tensor([1.0, 0, 0, 0]).expand(4, 4)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels)
    loss = generalised_binary_cross_entropy(positive, negatives, sampling_rate=0.01, calibration=0.0)
    torch.testing.assert_close(loss, expected)


def test_gbce_calibrated_on_few_negatives_has_the_optimum_of_all_of_them() -> None:
    """One query, 50 items liked with given shares: with t = 1 the sigmoids come out as these shares."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(50, generator=generator).pow(3)
    shares = 0.5 * shares / shares.sum()
    rate = 5 / 49
    # Stationary point: weight of an item as a positive, times the power, against being drawn as a negative.
    scores = torch.zeros(50, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=200)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        power = rate * (1 - 1 / rate) + 1
        assert power == pytest.approx(rate)
        positive = -(shares * power * torch.nn.functional.logsigmoid(scores)).sum()
        negative = -((1 - shares) * rate * torch.nn.functional.logsigmoid(-scores)).sum()
        loss = positive + negative
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(torch.sigmoid(scores), shares, atol=1e-3, rtol=0)


def test_gbce_masked_negative_counts_for_nothing() -> None:
    scores = torch.tensor([[3.0, -1.0]], requires_grad=True)
    loss = generalised_binary_cross_entropy(
        torch.tensor([0.0]), scores, sampling_rate=0.5, mask_BN=torch.tensor([[True, False]])
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad[0, 0] == 0
    assert scores.grad[0, 1] > 0


def test_gbce_of_extreme_scores_is_finite() -> None:
    positive = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = generalised_binary_cross_entropy(positive, torch.tensor([[1e4], [-1e4]]), sampling_rate=0.01)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert positive.grad is not None
    assert torch.isfinite(positive.grad).all()
