"""Vectors of queries and items by their parts: taste and popularity.

    score = taste of the query . taste of the item + weights of the query . popularity of the item

The taste, biases included, is the model's own. How popular an item was of late is counted
(`recsys.retrieval.popularity`), and only the query's weights of it are learned; models without
`popularity_windows` have the taste alone. A search by dot product wants one vector a side, in which the parts
stand side by side: this file alone knows in which order.

Legend: N queries or items, D dimension of the vectors, P windows of popularity.
"""

import torch


def taste(vectors_ND: torch.Tensor, num_windows: int) -> torch.Tensor:
    """[N, D - P] part of queries or items that says what they are like."""
    return vectors_ND[:, : vectors_ND.size(1) - num_windows]


def popularity(vectors_ND: torch.Tensor, num_windows: int) -> torch.Tensor:
    """[N, P] popularity of items, or weights of it of queries."""
    return vectors_ND[:, vectors_ND.size(1) - num_windows :]


def joined(taste_ND: torch.Tensor, popularity_NP: torch.Tensor) -> torch.Tensor:
    """[N, D] vectors of both parts."""
    return torch.cat([taste_ND, popularity_NP], dim=1)


def without_popularity(taste_ND: torch.Tensor, num_windows: int) -> torch.Tensor:
    """[N, D] vectors of items, of whose popularity nothing is known yet: zeros."""
    return joined(taste_ND, taste_ND.new_zeros(taste_ND.size(0), num_windows))
