"""The heads of a model of several tasks: what they lose together, and how good each is.

Legend: B examples, N rows, H heads, L = H - 1 auxiliary labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.losses.pointwise import binary_cross_entropy, squared_error
from recsys.metrics.classification import auc, log_loss, root_mean_squared_error
from recsys.schema.errors import InputError
from recsys.schema.labels import MAIN, AuxiliaryLabel


def check_weights(weights: Mapping[str, float], labels: Sequence[AuxiliaryLabel]) -> None:
    """Raises ValueError when `task.head_weights` names a head that there is not, or a weight is negative."""
    names = [MAIN, *(label.name for label in labels)]
    unknown = [name for name in weights if name not in names]
    if unknown:
        raise InputError(
            f"`task.head_weights` names heads that the model does not have: {unknown}; it has: "
            f"{', '.join(names)} (main is that of `data.label`, the others come from `data.auxiliary_labels`)"
        )
    negative = {name: weight for name, weight in weights.items() if weight < 0}
    if negative:
        raise InputError(f"`task.head_weights` must not be negative, got {negative}")


def auxiliary_loss(
    outputs_BL: torch.Tensor,
    labels_BL: torch.Tensor,
    *,
    labels: Sequence[AuxiliaryLabel],
    head_weights: Mapping[str, float],
    weights_B: torch.Tensor | None,
) -> torch.Tensor:
    """Sum over auxiliary labels of weight x mean loss over the examples whose label is known (scalar).

    Args:
        outputs_BL: [B, L] logits of binary labels, standardised values of numeric ones.
        labels_BL: [B, L]; NaN is unknown.
        labels: what the columns are.
        head_weights: by name; 1 where not named.
        weights_B: [B] of the examples; 1 when None.
    """
    total = outputs_BL.new_zeros((), dtype=torch.float32)
    for column, label in enumerate(labels):
        known_B = ~labels_BL[:, column].isnan()
        weights = known_B.float() if weights_B is None else known_B * weights_B
        loss_of = binary_cross_entropy if label.kind == "binary" else squared_error
        loss = loss_of(outputs_BL[:, column], labels_BL[:, column].nan_to_num(), weights_B=weights)
        total = total + head_weights.get(label.name, 1.0) * loss
    return total


def auxiliary_metrics(
    outputs_NL: NDArray[Any], labels_NL: NDArray[Any], labels: Sequence[AuxiliaryLabel]
) -> dict[str, float]:
    """Log loss and AUC of each binary label, root mean squared error of each numeric one, by `name/metric`.

    The error is in deviations of the train split, of the logarithm where that is what is learnt. A label that
    no row has is left out, and so is an AUC without both kinds of label.
    """
    metrics: dict[str, float] = {}
    for column, label in enumerate(labels):
        known_N = ~np.isnan(labels_NL[:, column])
        truth, output = labels_NL[known_N, column], outputs_NL[known_N, column].astype(np.float64)
        if not len(truth):
            continue
        if label.kind == "numeric":
            metrics[f"{label.name}/rmse"] = root_mean_squared_error(truth, output)
            continue
        probabilities = 0.5 * (1.0 + np.tanh(0.5 * output))
        metrics[f"{label.name}/log_loss"] = log_loss(truth, probabilities)
        if truth.min() < truth.max():
            metrics[f"{label.name}/auc"] = auc(truth, probabilities)
    return metrics
