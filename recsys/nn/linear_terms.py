"""The linear part of a ranking model: a weight for every id and every dense value.

Legend: B examples, N dense features.
"""

from typing import Dict, List  # noqa: UP035 (scripted)

import torch

# A weight is the mean of a row of 4 numbers, the narrowest row FBGEMM's fused tables hold.
LINEAR_DIM = 4


def linear_terms(
    embedded: Dict[str, torch.Tensor],  # noqa: UP006
    names: List[str],  # noqa: UP006
    dense_BN: torch.Tensor,
    dense_weights_N: torch.Tensor,
) -> torch.Tensor:
    """Sum of the weights of an example's ids and of its dense values times theirs [B, 1].

    Args:
        embedded: holds [B, LINEAR_DIM] for every name.
        names: of the tables of weights.
        dense_BN: [B, N].
        dense_weights_N: [N].
    """
    weights = torch.cat([embedded[name] for name in names], dim=1)
    terms_B1 = weights.sum(dim=1, keepdim=True) / (weights.size(1) // len(names))
    return terms_B1 + (dense_BN * dense_weights_N).sum(dim=1, keepdim=True)
