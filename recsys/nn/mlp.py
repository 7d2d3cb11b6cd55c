"""MLP: a stack of linear layers.

Legend: B examples, I width of the input, O width of the output.
"""

from collections.abc import Sequence
from typing import List, Literal  # noqa: UP035 (scripted)

import torch
from torch import nn

from recsys.nn.normalisation import Normalisation, normalisation_layer


class MLP(nn.Module):
    """Linear layers with ReLU and dropout between; the last layer is followed by neither.

    Args:
        in_features: width of the input.
        widths: output width of each layer, the last one the width of the result; empty is the identity.
        dropout: probability in [0, 1) of zeroing a hidden unit in training.
        normalisation: of each hidden layer before its ReLU: `layer`, `batch` or `none`.
        last: `linear`, or `hidden` where the last layer is one more hidden one.
    """

    def __init__(
        self,
        in_features: int,
        widths: Sequence[int],
        *,
        dropout: float = 0.0,
        normalisation: Normalisation = "none",
        last: Literal["linear", "hidden"] = "linear",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for position, width in enumerate(widths):
            layers.append(nn.Linear(in_features, width))
            if position < len(widths) - 1 or last == "hidden":
                layers += normalisation_layer(normalisation, width)
                layers += [nn.ReLU(), nn.Dropout(dropout)]
            in_features = width
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Maps [B, in_features] to [B, widths[-1]]."""
        result: torch.Tensor = self.layers(inputs)
        return result

    def of_parts(self, parts: List[torch.Tensor]) -> torch.Tensor:  # noqa: UP006
        """Maps [B, ...] parts of the input, side by side, as `forward` does.

        Parts that were expanded, as features of one user are beside many items, are multiplied once.
        """
        if not any([_is_shared(part) for part in parts]):  # noqa: C419 (scripted)
            return self.forward(torch.cat(parts, dim=1))
        first = self.layers[0]
        result = linear_of_parts(parts, first.weight, first.bias)  # type: ignore[arg-type]
        for position, layer in enumerate(self.layers):
            if position > 0:
                result = layer(result)
        return result


def linear_of_parts(
    parts: List[torch.Tensor],  # noqa: UP006
    weight_OI: torch.Tensor,
    bias_O: torch.Tensor,
) -> torch.Tensor:
    """A linear layer [B, O] of parts [B, ...] that lie side by side; those that were expanded are read once.

    Example:
        >>> parts = [torch.ones(1, 2).expand(3, 2), torch.arange(3.0).view(3, 1)]
        >>> linear_of_parts(parts, torch.ones(1, 3), torch.zeros(1)).flatten().tolist()
        [2.0, 3.0, 4.0]
    """
    own: List[torch.Tensor] = []  # noqa: UP006
    own_weights: List[torch.Tensor] = []  # noqa: UP006
    shared: List[torch.Tensor] = []  # noqa: UP006
    shared_weights: List[torch.Tensor] = []  # noqa: UP006
    begin = 0
    for part in parts:
        weights = weight_OI.narrow(1, begin, part.size(1))
        begin += part.size(1)
        if _is_shared(part):
            shared.append(part[:1])
            shared_weights.append(weights)
        else:
            own.append(part)
            own_weights.append(weights)
    if len(shared) == 0 or len(own) == 0:
        return torch.nn.functional.linear(torch.cat(parts, dim=1), weight_OI, bias_O)
    once = torch.nn.functional.linear(torch.cat(shared, dim=1), torch.cat(shared_weights, dim=1), bias_O)
    return torch.addmm(once, torch.cat(own, dim=1), torch.cat(own_weights, dim=1).t())


def _is_shared(part: torch.Tensor) -> bool:
    """Whether a row was expanded to many."""
    return part.size(0) > 1 and part.stride(0) == 0
