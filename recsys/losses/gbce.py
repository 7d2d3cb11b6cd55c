"""Binary cross-entropy whose positives make up for how few negatives were drawn.

Legend: B examples, N negatives.
"""

from torch import Tensor
from torch.nn import functional

from recsys.losses.candidates import CandidateScores
from recsys.losses.weighting import at_least_float32, masked, weighted_mean


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
    positive_B = power * functional.softplus(-at_least_float32(positive_scores_B))
    negative_BN = functional.softplus(masked(at_least_float32(negative_scores_BN), mask_BN))
    losses_B = (positive_B + negative_BN.sum(dim=1)) / (negative_BN.shape[1] + 1)
    return weighted_mean(losses_B, weights_B)


class GBCE:
    """`generalised_binary_cross_entropy` against the drawn items.

    Args:
        calibration: from 0, plain binary cross-entropy, to 1.
    """

    draws = True

    def __init__(self, calibration: float = 0.75) -> None:
        self.calibration = calibration

    def of_candidates(self, scores: CandidateScores) -> Tensor:
        """Weighted mean over the examples (scalar)."""
        drawn_BN, accidental_BN = scores.drawn
        return generalised_binary_cross_entropy(
            scores.positive_B,
            drawn_BN,
            sampling_rate=scores.sampling_rate,
            calibration=self.calibration,
            mask_BN=accidental_BN,
            weights_B=scores.weights_B,
        )
