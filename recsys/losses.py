"""Losses: pure functions of scores, labels and weights.

Every loss is a weighted mean over examples: the sum of `weights_B * loss_B` over the sum of `weights_B`, and
0 when all weights are 0. It is computed in float32 at least. Scores are plain dot products or logits; a
temperature is the model's affair. The softmax over the whole catalogue is in `recsys.full_softmax`.

Legend: B examples, N candidates, I catalogue.
"""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "accidental_hits",
    "bayesian_personalized_ranking",
    "binary_cross_entropy",
    "generalised_binary_cross_entropy",
    "sampled_softmax",
    "squared_error",
]


def binary_cross_entropy(logits_B: Tensor, labels_B: Tensor, *, weights_B: Tensor | None = None) -> Tensor:
    """Weighted mean of -y log p - (1 - y) log(1 - p), where p = sigmoid(logit) (scalar).

    Args:
        logits_B: [B] scores before the sigmoid.
        labels_B: [B] in 0..1; fractions are soft labels.
        weights_B: [B], not negative; 1 when None.

    Example:
        >>> loss = binary_cross_entropy(torch.zeros(4), torch.tensor([0.0, 1.0, 1.0, 0.0]))
        >>> round(loss.exp().item(), 6)  # log 2
        2.0
    """
    logits_B = _at_least_float32(logits_B)
    losses_B = functional.binary_cross_entropy_with_logits(
        logits_B, labels_B.to(logits_B.dtype), reduction="none"
    )
    return _weighted_mean(losses_B, weights_B)


def squared_error(values_B: Tensor, labels_B: Tensor, *, weights_B: Tensor | None = None) -> Tensor:
    """Weighted mean of (value - label)^2 / 2 (scalar): a Gaussian's log-likelihood, at a deviation of 1.

    Args:
        values_B: [B] predictions.
        labels_B: [B], standardised.
        weights_B: [B], not negative; 1 when None.

    Example:
        >>> squared_error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])).item()  # (0 + 2) / 2
        1.0
    """
    values_B = _at_least_float32(values_B)
    return _weighted_mean(0.5 * (values_B - labels_B.to(values_B.dtype)).square(), weights_B)


def sampled_softmax(
    positive_scores_B: Tensor,
    negative_scores_BN: Tensor,
    *,
    positive_log_q_B: Tensor,
    negative_log_q_N: Tensor,
    mask_BN: Tensor | None = None,
    weights_B: Tensor | None = None,
) -> Tensor:
    """Weighted mean of the softmax loss over the positive and N drawn candidates, corrected for the drawing.

    With c = s - log q for the positive p and for every candidate j that is not masked, the loss of an example
    is log(exp(c_p) + sum_j exp(c_j)) - c_p. Without the correction popular items, which are drawn more often,
    are pushed down for being popular.

    What q is: the expected number of times that an item is among the candidates. A common factor of all q
    cancels, so that the share of an item among the training positives serves for in-batch candidates; for
    candidates from two places it is the sum of both expectations. A positive that is there by construction,
    whatever is drawn, may be given log q = 0: then, with q = N x probability for the candidates, the sum over
    candidates estimates that of `recsys.full_softmax` without bias.

    Args:
        positive_scores_B: [B] score of each example's positive.
        negative_scores_BN: [B, N] scores of the candidates.
        positive_log_q_B: [B] log q of each positive; finite.
        negative_log_q_N: [N] log q of the candidates, or [B, N] where each example has its own; finite.
        mask_BN: [B, N] bool; True leaves a candidate out: see `accidental_hits`.
        weights_B: [B], not negative; 1 when None.

    Reference:
        Bengio and Senecal 2008, Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic
        Language Model; Yi et al. 2019, Sampling-Bias-Corrected Neural Modeling for Large Corpus
        Item Recommendations, section 3.
    """
    positive_B = _at_least_float32(positive_scores_B) - positive_log_q_B
    negative_BN = _masked(_at_least_float32(negative_scores_BN) - negative_log_q_N, mask_BN)
    # The positive's column keeps the sum finite where every candidate is masked.
    log_sums_B = torch.cat([positive_B[:, None], negative_BN], dim=1).logsumexp(dim=1)
    return _weighted_mean(log_sums_B - positive_B, weights_B)


def accidental_hits(positive_rows_B: Tensor, candidate_rows_N: Tensor) -> Tensor:
    """[B, N] bool, True where a candidate is the example's own positive and so no negative.

    Example:
        >>> accidental_hits(torch.tensor([7, 3]), torch.tensor([3, 4, 7])).tolist()
        [[False, False, True], [True, False, False]]
    """
    return positive_rows_B[:, None] == candidate_rows_N


def bayesian_personalized_ranking(
    positive_scores_B: Tensor,
    negative_scores_BN: Tensor,
    *,
    mask_BN: Tensor | None = None,
    weights_B: Tensor | None = None,
) -> Tensor:
    """Weighted mean over examples of -log sigmoid(s_positive - s_negative) (scalar).

    An example's loss is the mean over its pairs that are not masked, 0 where it has none.

    Args:
        positive_scores_B: [B] score of each example's positive.
        negative_scores_BN: [B, N] scores of its negatives.
        mask_BN: [B, N] bool; True leaves a pair out.
        weights_B: [B], not negative; 1 when None.

    Reference:
        Rendle et al. 2009, BPR: Bayesian Personalized Ranking from Implicit Feedback, arXiv 1205.2618,
        section 4.1; the regularisation there is left to the optimizer.
    """
    margins_BN = _at_least_float32(positive_scores_B)[:, None] - _at_least_float32(negative_scores_BN)
    kept_BN = torch.ones_like(margins_BN) if mask_BN is None else (~mask_BN).to(margins_BN.dtype)
    losses_B = (functional.softplus(-margins_BN) * kept_BN).sum(dim=1) / kept_BN.sum(dim=1).clamp(min=1)
    return _weighted_mean(losses_B, weights_B)


def generalised_binary_cross_entropy(
    positive_scores_B: Tensor,
    negative_scores_BN: Tensor,
    *,
    sampling_rate: float,
    calibration: float = 0.75,
    mask_BN: Tensor | None = None,
    weights_B: Tensor | None = None,
) -> Tensor:
    """Weighted mean of -(b log sigmoid(s_positive) + sum_j log(1 - sigmoid(s_j))) / (N + 1) (scalar).

    With few negatives a plain BCE is overconfident: it learns from positives far more often than they are
    among what it will be asked. b = a (t (1 - 1 / a) + 1 / a), from the sampling rate a and the calibration
    t, makes up for it: t = 0 is BCE, t = 1 as calibrated as if all items were negatives.

    Args:
        positive_scores_B: [B] score of each example's positive.
        negative_scores_BN: [B, N] scores of uniform negatives.
        sampling_rate: a = N / (items of the catalogue - 1), above 0 and at most 1.
        calibration: t, from 0 to 1; 0.75 works.
        mask_BN: [B, N] bool; True leaves a negative out.
        weights_B: [B], not negative; 1 when None.

    Reference:
        Petrov and Macdonald 2023, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with
        Negative Sampling, arXiv 2308.07192, equations 10 and 21.
    """
    power = sampling_rate * (calibration * (1 - 1 / sampling_rate) + 1 / sampling_rate)
    positive_B = power * functional.softplus(-_at_least_float32(positive_scores_B))
    negative_BN = functional.softplus(_masked(_at_least_float32(negative_scores_BN), mask_BN))
    losses_B = (positive_B + negative_BN.sum(dim=1)) / (negative_BN.shape[1] + 1)
    return _weighted_mean(losses_B, weights_B)


def _weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return losses.mean()
    assert weights.shape == losses.shape, f"weights {tuple(weights.shape)} for losses {tuple(losses.shape)}"
    weights = weights.to(losses.dtype)
    total = weights.sum()
    return (losses * weights).sum() / torch.where(total > 0, total, 1)


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    return scores if mask is None else scores.masked_fill(mask, -torch.inf)


def _at_least_float32(scores: Tensor) -> Tensor:
    """Scores from mixed precision as float32: summed in bfloat16, small terms are lost."""
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
