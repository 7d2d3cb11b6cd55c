"""Candidates, and the choice that a policy makes among them, with the probability of all it shows.

Filters come before the choice: what may not be shown is no candidate. Nothing is moved after it, for then the
probabilities would be wrong.

Legend: N candidates, K positions.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.bandits.estimates import Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """Holds the scores of the items that may be shown, and what is believed of their utilities.

    Args:
        scores_N: [N] of the model, best highest.
        means_N: [N] mean of what is believed of each candidate's utility; None: the scores.
        deviations_N: [N] its standard deviation; None: nothing is uncertain.
        bonuses_N: [N] what optimism adds; None: nothing.
    """

    scores_N: Floats
    means_N: Floats | None = None
    deviations_N: Floats | None = None
    bonuses_N: Floats | None = None

    @property
    def utilities(self) -> Floats:
        """[N] the means, or the scores where nothing is believed beside."""
        return self.scores_N if self.means_N is None else self.means_N


@dataclasses.dataclass(frozen=True, eq=False)
class Choice:
    """A list, best first.

    Args:
        positions_K: [K] which candidate is in each position.
        propensities_K: [K] marginal probability of this candidate in this position, over all lists.
        given_above_K: [K] its probability given the candidates above it.
    """

    positions_K: NDArray[np.int64]
    propensities_K: Floats
    given_above_K: Floats


class Policy(Protocol):
    """A way to choose."""

    @property
    def name(self) -> str:
        """As in `policy=NAME`."""
        ...

    @property
    def parameters(self) -> dict[str, Any]:
        """Returns the settings that the log records beside the policy's name."""
        ...

    @property
    def judges_others(self) -> bool:
        """Whether its log can judge other policies; not where nothing is left to chance."""
        ...

    @property
    def learns(self) -> bool:
        """Whether it goes by what is believed of candidates, beyond their scores."""
        ...

    def choose(self, candidates: Candidates, k: int, generator: np.random.Generator) -> Choice:
        """A list of k candidates, or of all where there are fewer.

        Args:
            candidates: N of them, in any order; equal ones are told apart by it.
            k: at least 1.
            generator: of what is left to chance.
        """
        ...


def certain(positions_K: NDArray[np.int64]) -> Choice:
    """A choice that leaves nothing to chance."""
    ones_K = np.ones(len(positions_K))
    return Choice(positions_K, ones_K, ones_K)


def best_first(values_N: Floats, k: int) -> NDArray[np.int64]:
    """[K] positions of the largest values, earlier ones first where they are equal.

    Example:
        >>> best_first(np.array([1.0, 3.0, 3.0]), 2).tolist()
        [1, 2]
    """
    order_N: NDArray[np.int64] = np.argsort(-values_N, kind="stable")[:k]
    return order_N


def standardised(values_N: Floats) -> Floats:
    """[N] values less their mean, over their standard deviation; zeros where all are equal.

    Example:
        >>> standardised(np.array([1.0, 3.0])).tolist(), standardised(np.array([2.0, 2.0])).tolist()
        ([-1.0, 1.0], [0.0, 0.0])
    """
    centred_N: Floats = values_N - values_N.sum() / len(values_N)
    deviation = math.sqrt(float(centred_N @ centred_N) / len(values_N))
    return centred_N / deviation if deviation > 0 else np.zeros_like(centred_N)
