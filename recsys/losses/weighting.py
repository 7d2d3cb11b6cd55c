"""Averages losses over examples by their weights, in float32 at least.

Every loss is a weighted mean over examples: the sum of `weights_B * loss_B` over the sum of `weights_B`, and
0 when all weights are 0. Scores are plain dot products or logits; a temperature is the model's affair.

Legend: B examples.
"""

import torch
from torch import Tensor


def weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of `losses` by `weights`, of all alike when None; 0 when all weights are 0."""
    if weights is None:
        return losses.mean()
    assert weights.shape == losses.shape, f"weights {tuple(weights.shape)} for losses {tuple(losses.shape)}"
    weights = weights.to(losses.dtype)
    total = weights.sum()
    return (losses * weights).sum() / torch.where(total > 0, total, 1)


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores with minus infinity where `mask` is True."""
    return scores if mask is None else scores.masked_fill(mask, -torch.inf)


def at_least_float32(scores: Tensor) -> Tensor:
    """Scores from mixed precision as float32: summed in bfloat16, small terms are lost."""
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
