"""Softmax: positions drawn in turn, in proportion to e to the score over a temperature (Plackett-Luce)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.bandits.acting.choice import Candidates, Choice, best_first, standardised
from recsys.bandits.acting.orderings import plackett_luce_given_above, plackett_luce_marginals
from recsys.bandits.estimates import Floats
from recsys.schema.errors import InputError


@dataclasses.dataclass(frozen=True)
class Softmax:
    """Draws the better the more often.

    Args:
        temperature: above 0, in standard deviations of the candidates' scores; towards 0 it is greedy, and
            0.5 explores a good deal.
        learning: uses what is believed of each candidate's utility in place of its score.
    """

    temperature: float = 0.3
    learning: bool = False

    name = "softmax"
    judges_others = True

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(
                f"`policy_parameters.temperature` must be above 0, got {self.temperature}; for the "
                "best by score use policy=greedy"
            )

    @property
    def parameters(self) -> dict[str, Any]:
        """`temperature`, `learning`."""
        return {"temperature": self.temperature, "learning": self.learning}

    @property
    def learns(self) -> bool:
        """Returns `learning`."""
        return self.learning

    def choose(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Choice:
        """A list of k, with its probabilities."""
        log_weights_N = self._log_weights(candidates)
        return _judged(log_weights_N, _drawn(log_weights_N, k, generator))

    def draw(self, candidates: Candidates, k: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """A list of k."""
        return _drawn(self._log_weights(candidates), k, generator)

    def judge(self, candidates: Candidates, chosen_K: NDArray[np.int64]) -> Choice:
        """A list with the probabilities that it has under this policy, whoever chose it."""
        return _judged(self._log_weights(candidates), chosen_K)

    def _log_weights(self, candidates: Candidates) -> Floats:
        values_N = candidates.utilities if self.learning else candidates.scores_N
        return standardised(values_N) / self.temperature


def _drawn(log_weights_N: Floats, k: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """A list of k, drawn at once: the largest logarithms with Gumbel noise are a draw in turn."""
    return best_first(log_weights_N + generator.gumbel(size=len(log_weights_N)), k)


def _judged(log_weights_N: Floats, chosen_K: NDArray[np.int64]) -> Choice:
    return Choice(
        chosen_K,
        plackett_luce_marginals(log_weights_N, chosen_K),
        plackett_luce_given_above(log_weights_N, chosen_K),
    )
