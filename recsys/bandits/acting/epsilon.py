"""Epsilon: in each position any of the rest with a small probability, the best of the rest otherwise."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.bandits.acting.choice import Candidates, Choice, best_first
from recsys.bandits.estimates import Floats
from recsys.schema.errors import InputError


@dataclasses.dataclass(frozen=True)
class Epsilon:
    """Explores with a probability, position by position.

    Args:
        epsilon: that probability, in (0, 1]; 1 is uniform.
    """

    epsilon: float = 0.1

    name = "epsilon"
    judges_others = True
    learns = False

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1:
            raise InputError(
                f"`policy_parameters.epsilon` must lie in (0, 1], got {self.epsilon}; without "
                "exploration use policy=greedy"
            )

    @property
    def parameters(self) -> dict[str, Any]:
        """`epsilon`."""
        return {"epsilon": self.epsilon}

    def choose(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Choice:
        """A list of k, with its probabilities."""
        return self.judge(candidates, self.draw(candidates, k, generator))

    def draw(self, candidates: Candidates, k: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """A list of k, drawn position by position."""
        rest = best_first(candidates.scores_N, len(candidates.scores_N)).tolist()
        chosen = []
        for _ in range(min(k, len(rest))):
            place = int(generator.integers(len(rest))) if generator.random() < self.epsilon else 0
            chosen.append(rest.pop(place))
        return np.array(chosen, dtype=np.int64)

    def judge(self, candidates: Candidates, chosen_K: NDArray[np.int64]) -> Choice:
        """A list with the probabilities that it has under this policy, whoever chose it."""
        size = len(candidates.scores_N)
        ranks_N = np.argsort(best_first(candidates.scores_N, size), kind="stable")
        rest, given_above = list(range(size)), []
        for rank in ranks_N[chosen_K].tolist():
            given_above.append(self.epsilon / len(rest) + (1 - self.epsilon) * (rank == rest[0]))
            rest.remove(rank)
        marginals_KK = epsilon_marginals(ranks_N[chosen_K], size, epsilon=self.epsilon)
        return Choice(chosen_K, np.diag(marginals_KK), np.array(given_above))


def epsilon_marginals(ranks_N: np.ndarray, size: int, *, epsilon: float) -> Floats:
    """[N, N] probability of each rank in each of the first N positions.

    While an item of rank r waits, all that matters of the positions above is how many of the r better items
    they took: with p filled and `better` taken, one of n = size - p is next,

        a better one with    epsilon (r - better) / n, + 1 - epsilon where any is left
        a worse one with     epsilon (size - 1 - r - (p - better)) / n
        the item with        epsilon / n, + 1 - epsilon where no better one is left

    Args:
        ranks_N: [N] from 0, the best.
        size: number of candidates.
        epsilon: probability of exploring.
    """
    ranks_N1 = np.asarray(ranks_N)[:, None]
    length = len(ranks_N)
    better_B = np.arange(length + 1)[None, :]
    waiting_NB = np.zeros((length, length + 1))  # probability of waiting with so many better ones taken
    waiting_NB[:, 0] = 1.0
    marginals_NK = np.zeros((length, length))
    for position in range(length):
        left = size - position
        none_better_NB = better_B >= ranks_N1
        itself_NB = epsilon / left + (1 - epsilon) * none_better_NB
        better_NB = np.maximum(epsilon * (ranks_N1 - better_B) / left, 0) + (1 - epsilon) * ~none_better_NB
        marginals_NK[:, position] = (waiting_NB * itself_NB).sum(axis=1)
        worse_NB = np.maximum(1.0 - itself_NB - better_NB, 0.0)
        moved_NB = waiting_NB * better_NB
        waiting_NB = waiting_NB * worse_NB
        waiting_NB[:, 1:] += moved_NB[:, :-1]
    return marginals_NK
