"""Estimate: a figure and how each independent unit of a log moves it, from which intervals follow.

Every figure of this room is a ratio of two sums over units that are independent of one another (users, where
the log knows them, else requests): what a policy earns over its requests, say. Leaving the other units as
they are, unit u moves such a figure by its influence

    influence_u = (numerator_u - value * denominator_u) / sum of the denominators

and the variance of the figure is the sum of the squared influences, U / (U - 1) times. Rows of one user may
depend on each other as they like. Figures over the same units subtract by their influences, which makes their
difference paired.

Legend: U independent units.

Reference:
    Deng, Knoblich and Lu, "Applying the delta method in metric analytics", 2018, arXiv:1803.06336, section 2.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from recsys.schema.errors import InputError

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """A figure with what its uncertainty follows from.

    Args:
        value: the figure.
        influence_U: [U] by how much each unit moves it; None where it is not known how much.
    """

    value: float
    influence_U: Floats | None

    @property
    def standard_error(self) -> float | None:
        """Square root of the figure's variance; None without influences or with fewer than two units."""
        if self.influence_U is None or len(self.influence_U) < 2:
            return None
        num_units = len(self.influence_U)
        return math.sqrt(num_units / (num_units - 1) * float((self.influence_U**2).sum()))

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Bounds that hold the true figure with probability `confidence`, by Student's t; None if unknown.

        Example:
            >>> mean = ratio_estimate(np.array([0.0, 1.0, 2.0]), np.ones(3))
            >>> low, high = mean.interval(0.95)  # 1 -+ 4.303 * 1 / sqrt(3)
            >>> print(f"{low:.3f} {high:.3f}")
            -1.484 3.484
        """
        error = self.standard_error
        if error is None or self.influence_U is None:
            return None
        half = float(special.stdtrit(len(self.influence_U) - 1, (1 + confidence) / 2)) * error
        return self.value - half, self.value + half

    def p_value(self) -> float | None:
        """Two-sided p-value of the figure being zero, by Student's t; None without an error."""
        error = self.standard_error
        if not error or self.influence_U is None:
            return None
        return 2 * float(special.stdtr(len(self.influence_U) - 1, -abs(self.value) / error))


def ratio_estimate(numerator_U: NDArray[Any], denominator_U: NDArray[Any], *, scale: float = 1.0) -> Estimate:
    """The sum of the numerators over that of the denominators, times `scale`.

    Args:
        numerator_U: [U] each unit's part of the numerator.
        denominator_U: [U] each unit's part of the denominator.
        scale: a constant.

    Raises:
        ValueError: the denominators do not add up to something above zero.
    """
    total = float(denominator_U.sum())
    if not total > 0:
        raise InputError(
            f"expected units whose denominators add up to more than 0, found {total:g} over "
            f"{len(denominator_U)} units; there is nothing to estimate from"
        )
    ratio = float(numerator_U.sum()) / total
    return Estimate(scale * ratio, scale * (numerator_U - ratio * denominator_U) / total)


def difference(one: Estimate, other: Estimate) -> Estimate:
    """`one` minus `other`, paired; both over the same units."""
    if one.influence_U is None or other.influence_U is None:
        return Estimate(one.value - other.value, None)
    return Estimate(one.value - other.value, one.influence_U - other.influence_U)


def lift(one: Estimate, other: Estimate) -> Estimate | None:
    """`one` over `other`, minus 1, over the same units; None where `other` is not above zero."""
    if not other.value > 0:
        return None
    ratio = one.value / other.value
    if one.influence_U is None or other.influence_U is None:
        return Estimate(ratio - 1, None)
    return Estimate(ratio - 1, (one.influence_U - ratio * other.influence_U) / other.value)
