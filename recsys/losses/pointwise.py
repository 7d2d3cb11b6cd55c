"""Losses of one prediction against its label.

Legend: B examples.
"""

from torch import Tensor
from torch.nn import functional

from recsys.losses.weighting import at_least_float32, weighted_mean


def binary_cross_entropy(logits_B: Tensor, labels_B: Tensor, *, weights_B: Tensor | None = None) -> Tensor:
    """Weighted mean of -y log p - (1 - y) log(1 - p), where p = sigmoid(logit) (scalar).

    Args:
        logits_B: [B] scores before the sigmoid.
        labels_B: [B] in 0..1; fractions are soft labels.
        weights_B: [B], not negative; 1 when None.

    Example:
        >>> import torch
        >>> loss = binary_cross_entropy(torch.zeros(4), torch.tensor([0.0, 1.0, 1.0, 0.0]))
        >>> round(loss.exp().item(), 6)  # log 2
        2.0
    """
    logits_B = at_least_float32(logits_B)
    losses_B = functional.binary_cross_entropy_with_logits(
        logits_B, labels_B.to(logits_B.dtype), reduction="none"
    )
    return weighted_mean(losses_B, weights_B)


def squared_error(values_B: Tensor, labels_B: Tensor, *, weights_B: Tensor | None = None) -> Tensor:
    """Weighted mean of (value - label)^2 / 2 (scalar): a Gaussian's log-likelihood, at a deviation of 1.

    Args:
        values_B: [B] predictions.
        labels_B: [B], standardised.
        weights_B: [B], not negative; 1 when None.

    Example:
        >>> import torch
        >>> squared_error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])).item()  # (0 + 2) / 2
        1.0
    """
    values_B = at_least_float32(values_B)
    return weighted_mean(0.5 * (values_B - labels_B.to(values_B.dtype)).square(), weights_B)
