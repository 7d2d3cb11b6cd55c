"""normalised_weights: what each row of a bag weighs where a feature is pooled by idf.

Runs the same in Python and as TorchScript.

Legend: B bags, V rows of all of them.
"""

import torch


def normalised_weights(weights: torch.Tensor, rows_V: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
    """[V] weight of each row of bags, so that the squares of a bag's weights sum to 1.

    Args:
        weights: of all rows of the table, 0 or positive.
        rows_V: rows of the bags, end to end.
        lengths_B: rows of each bag.
    """
    weights_V = weights.index_select(0, rows_V)
    bags_V = torch.repeat_interleave(
        torch.arange(lengths_B.numel(), device=rows_V.device), lengths_B, output_size=rows_V.numel()
    )
    squares_B = torch.zeros(lengths_B.numel(), device=rows_V.device)
    squares_B.index_add_(0, bags_V, weights_V * weights_V)
    # Where all of a bag's weights are 0, they stay so.
    return weights_V / squares_B.sqrt().clamp(min=1e-6).index_select(0, bags_V)
