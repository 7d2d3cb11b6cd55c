"""Bayesian personalized ranking: every positive against every drawn negative.

Legend: B examples, N negatives.
"""

import torch
from torch import Tensor
from torch.nn import functional

from recsys.losses.candidates import CandidateScores
from recsys.losses.weighting import at_least_float32, weighted_mean


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
    margins_BN = at_least_float32(positive_scores_B)[:, None] - at_least_float32(negative_scores_BN)
    kept_BN = torch.ones_like(margins_BN) if mask_BN is None else (~mask_BN).to(margins_BN.dtype)
    losses_B = (functional.softplus(-margins_BN) * kept_BN).sum(dim=1) / kept_BN.sum(dim=1).clamp(min=1)
    return weighted_mean(losses_B, weights_B)


class BPR:
    """`bayesian_personalized_ranking` against the drawn items."""

    draws = True

    def of_candidates(self, scores: CandidateScores) -> Tensor:
        """Weighted mean over the examples (scalar)."""
        drawn_BN, accidental_BN = scores.drawn
        return bayesian_personalized_ranking(
            scores.positive_B, drawn_BN, mask_BN=accidental_BN, weights_B=scores.weights_B
        )
