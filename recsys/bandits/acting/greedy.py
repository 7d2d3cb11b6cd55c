"""Greedy: the best by score. Its log judges no other policy."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from recsys.bandits.acting.choice import Candidates, Choice, best_first, certain


@dataclasses.dataclass(frozen=True)
class Greedy:
    """Shows the best candidates.

    Args:
        learning: by what is believed of their utility from feedback, in place of the model's scores.
    """

    learning: bool = False

    name = "greedy"
    judges_others = False

    @property
    def parameters(self) -> dict[str, Any]:
        """`learning`."""
        return {"learning": self.learning}

    @property
    def learns(self) -> bool:
        """Returns `learning`."""
        return self.learning

    def choose(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Choice:
        """The k best."""
        return certain(best_first(candidates.utilities if self.learning else candidates.scores_N, k))
