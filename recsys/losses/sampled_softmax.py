"""Softmax over a positive and drawn candidates, corrected for how they were drawn.

Legend: B examples, N candidates.
"""

import torch
from torch import Tensor

from recsys.losses.candidates import CandidateScores
from recsys.losses.weighting import at_least_float32, masked, weighted_mean


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
    candidates estimates that of `recsys.losses.full_softmax` without bias.

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
    positive_B = at_least_float32(positive_scores_B) - positive_log_q_B
    negative_BN = masked(at_least_float32(negative_scores_BN) - negative_log_q_N, mask_BN)
    # The positive's column keeps the sum finite where every candidate is masked.
    log_sums_B = torch.cat([positive_B[:, None], negative_BN], dim=1).logsumexp(dim=1)
    return weighted_mean(log_sums_B - positive_B, weights_B)


def accidental_hits(positive_rows_B: Tensor, candidate_rows_N: Tensor) -> Tensor:
    """[B, N] bool, True where a candidate is the example's own positive and so no negative.

    Example:
        >>> accidental_hits(torch.tensor([7, 3]), torch.tensor([3, 4, 7])).tolist()
        [[False, False, True], [True, False, False]]
    """
    return positive_rows_B[:, None] == candidate_rows_N


class SampledSoftmax:
    """`sampled_softmax` over the batch's items and drawn ones; each positive is there by construction."""

    draws = True

    def of_candidates(self, scores: CandidateScores) -> Tensor:
        """Weighted mean over the examples (scalar)."""
        return sampled_softmax(
            scores.positive_B,
            scores.candidates_BN,
            positive_log_q_B=torch.zeros_like(scores.positive_B),
            negative_log_q_N=scores.candidates_log_q_N,
            mask_BN=scores.accidental_BN,
            weights_B=scores.weights_B,
        )


class InBatchSoftmax:
    """`sampled_softmax` over the batch's items alone."""

    draws = False

    def of_candidates(self, scores: CandidateScores) -> Tensor:
        """Weighted mean over the examples (scalar)."""
        return sampled_softmax(
            scores.positive_B,
            scores.candidates_BN,
            positive_log_q_B=scores.positive_log_q_B,
            negative_log_q_N=scores.candidates_log_q_N,
            mask_BN=scores.accidental_BN,
            weights_B=scores.weights_B,
        )
