"""LoggedFeedback in memory: what was shown, with which probability, and what came of it.

A row is an item shown in a position of a request; drawn for two requests of two positions:

    requests_N     [  0,   0,   1,   1 ]
    positions_N    [  1,   2,   1,   2 ]
    items_N        [  7,   3,   3,   9 ]
    propensities_N [ .2,  .1,  .5,  .1 ]   the log's probability of this item in this position of this request
    rewards_N      [  0,   1,   0,   0 ]

Legend: N rows, M requests, U independent units, I items.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.bandits.estimates import Floats
from recsys.schema.errors import InputError
from recsys.schema.tables import POSITION, PROPENSITY, REWARD

Codes = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class LoggedFeedback:
    """A log, as numbers.

    Args:
        rewards_N: [N] what came of each row, in any unit.
        propensities_N: [N] in (0, 1], the probability with which the log's policy did what the row says.
        items_N: [N] codes from 0.
        positions_N: [N] from 1.
        requests_N: [N] codes 0 .. M - 1.
        clusters_N: [N] codes 0 .. U - 1 of the units that are independent: users where they are known.
        exposures_N: [N] how much of a look each row got; 1 but in the position-based model.
        source: where it was read, for messages.

    Raises:
        ValueError: there is no row, or a propensity, reward or position is missing or out of its range.
    """

    rewards_N: Floats
    propensities_N: Floats
    items_N: Codes
    positions_N: Codes
    requests_N: Codes
    clusters_N: Codes
    exposures_N: Floats | None = None
    source: str = "the log"

    def __post_init__(self) -> None:
        if not len(self.rewards_N):
            raise InputError(f"expected logged rows in {self.source}, found none; give a log with rows")
        advice = "log what came of every shown item, 0 where nothing did"
        self._check(
            REWARD, self.rewards_N, good_N=np.isfinite(self.rewards_N), expected="a number", advice=advice
        )
        inside_N = (self.propensities_N > 0) & (self.propensities_N <= 1)
        advice = "log the probability of the choice where the choice is made; it cannot be made up later"
        self._check(
            PROPENSITY,
            self.propensities_N,
            good_N=inside_N,
            expected="a probability in (0, 1]",
            advice=advice,
        )
        counted_N = self.positions_N >= 1
        self._check(
            POSITION, self.positions_N, good_N=counted_N, expected="a position", advice="count them from 1"
        )

    def _check(
        self, column: str, values_N: NDArray[Any], *, good_N: NDArray[np.bool_], expected: str, advice: str
    ) -> None:
        bad = np.flatnonzero(~good_N)
        if len(bad):
            value = values_N[bad[0]]
            found = "none" if np.isnan(value) else f"{value:g}"
            raise InputError(
                f"`{column}` of {self.source}: expected {expected}, found {found} in row {bad[0] + 1} "
                f"(and so in {len(bad)} of {len(values_N)} rows); {advice}"
            )

    @property
    def num_requests(self) -> int:
        """M."""
        return int(self.requests_N.max()) + 1

    @property
    def num_clusters(self) -> int:
        """U."""
        return int(self.clusters_N.max()) + 1

    @functools.cached_property
    def requests_by_cluster(self) -> Floats:
        """[U] requests of each unit."""
        _, first_M = np.unique(self.requests_N, return_index=True)
        return np.bincount(self.clusters_N[first_M], minlength=self.num_clusters).astype(np.float64)

    @property
    def looks(self) -> Floats:
        """[N] `exposures_N`, or ones."""
        return np.ones(len(self.rewards_N)) if self.exposures_N is None else self.exposures_N

    def by_cluster(self, values_N: NDArray[Any]) -> Floats:
        """[U] sums of the values of each unit's rows."""
        sums_U = np.bincount(self.clusters_N, weights=values_N, minlength=self.num_clusters)
        return np.asarray(sums_U, dtype=np.float64)
