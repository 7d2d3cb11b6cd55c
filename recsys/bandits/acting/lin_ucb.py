"""LinUCB: the best by an optimistic estimate. Its log judges no other policy.

Reference:
    Li, Chu, Langford and Schapire, "A contextual-bandit approach to personalized news article
    recommendation", 2010, arXiv:1003.0146, algorithm 1.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from recsys.bandits.acting.choice import Candidates, Choice, best_first, certain
from recsys.bandits.estimates import Floats
from recsys.schema.errors import InputError


@dataclasses.dataclass(frozen=True)
class LinUcb:
    """Shows the candidates of the highest mean plus `alpha` standard deviations.

    Args:
        alpha: weight of what is uncertain, from 0 (greedy on the mean) on; about 1 in practice.
    """

    alpha: float = 1.0

    name = "lin_ucb"
    judges_others = False
    learns = True

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise InputError(f"`policy_parameters.alpha` must be 0 or above, got {self.alpha}")

    @property
    def parameters(self) -> dict[str, Any]:
        """`alpha`."""
        return {"alpha": self.alpha}

    def choose(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Choice:
        """The k best by mean and bonus."""
        bonuses_N = 0.0 if candidates.bonuses_N is None else candidates.bonuses_N
        return certain(best_first(candidates.utilities + self.alpha * bonuses_N, k))


def linear_posterior(
    features_ND: Floats, gram_DD: Floats, reward_D: Floats, *, ridge: float = 1.0
) -> tuple[Floats, Floats]:
    """Means [N] and standard deviations [N] of a linear reward, by ridge regression.

    Formula: theta = (G + ridge I)^-1 b; mean x' theta, deviation sqrt(x' (G + ridge I)^-1 x).

    Args:
        features_ND: [N, D] of the candidates.
        gram_DD: [D, D] G, the sum of x x' over what was shown.
        reward_D: [D] b, the sum of x times what came of it.
        ridge: above 0.

    Example:
        >>> means, deviations = linear_posterior(np.eye(2), np.diag([3.0, 0.0]), np.array([2.0, 0.0]))
        >>> means.tolist(), deviations.tolist()
        ([0.5, 0.0], [0.5, 1.0])
    """
    precision_DD = gram_DD + ridge * np.eye(len(reward_D))
    solved_ND = features_ND @ np.linalg.inv(precision_DD)
    variances_N = (solved_ND * features_ND).sum(axis=1)
    return solved_ND @ reward_D, np.sqrt(np.maximum(variances_N, 0.0))
