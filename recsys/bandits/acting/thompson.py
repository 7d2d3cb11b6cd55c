"""Thompson sampling: the best by a draw of what each candidate's utility may be.

Candidates' posteriors are independent normal distributions. Where they rest on weights that candidates share,
what is uncertain of those is left out of the draw, so that the propensities are exact for what is done.

Reference:
    Thompson, "On the likelihood that one unknown probability exceeds another", 1933; Chapelle and Li, "An
    empirical evaluation of Thompson sampling", 2011.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from recsys.bandits.acting.choice import Candidates, Choice, best_first
from recsys.bandits.acting.orderings import gaussian_probabilities
from recsys.schema.errors import InputError

# Of the largest deviation: well-known candidates are drawn as if a little less known, which keeps
# propensities away from 0 and 1 and the quadrature quick.
_SMALLEST = 1 / 8


@dataclasses.dataclass(frozen=True)
class Thompson:
    """Draws each utility from its posterior and shows the largest.

    Args:
        scale: of the posteriors' standard deviations, above 0; 1 is Thompson's own.
    """

    scale: float = 1.0

    name = "thompson"
    judges_others = True
    learns = True

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InputError(
                f"`policy_parameters.scale` must be above 0, got {self.scale}; without exploration use "
                "policy=greedy"
            )

    @property
    def parameters(self) -> dict[str, Any]:
        """`scale`."""
        return {"scale": self.scale}

    def choose(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Choice:
        """A list of k, by one draw of every candidate."""
        means_N = candidates.utilities
        assert candidates.deviations_N is not None
        deviations_N = self.scale * np.maximum(
            candidates.deviations_N, _SMALLEST * candidates.deviations_N.max()
        )
        chosen_K = best_first(means_N + deviations_N * generator.standard_normal(len(means_N)), k)
        return Choice(chosen_K, *gaussian_probabilities(means_N, deviations_N, chosen_K))
