"""TargetPolicy: with which probability a policy that did not run would have shown what.

The policy tells apart K contexts: a position of a request each, or a position alone where it is the same for
everybody. Its probabilities are a list of T entries:

    contexts_T       [  0,   0,   1 ]    context 0 gets item 7 with .9 and item 3 with .1,
    items_T          [  7,   3,   3 ]    context 1 always gets item 3
    probabilities_T  [ .9,  .1, 1.0 ]

Legend: N logged rows, T entries, K contexts, I items.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.bandits.estimates import Floats
from recsys.bandits.feedback import Codes, LoggedFeedback
from recsys.schema.errors import InputError

# By so much the probabilities of a context may miss 1: they are often written rounded.
_ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class TargetPolicy:
    """The policy whose value is asked for.

    Args:
        contexts_N: [N] in 0 .. K - 1, in which context each logged row was chosen.
        positions_K: [K] the position that a context fills, from 1.
        contexts_T, items_T, probabilities_T: [T] its probabilities; what is not listed has none.
        names_K: what a context is called in messages; its number when None.

    Raises:
        ValueError: a probability is outside [0, 1], or those of a context that occurs do not add up to 1.
    """

    contexts_N: Codes
    positions_K: Codes
    contexts_T: Codes
    items_T: Codes
    probabilities_T: Floats
    names_K: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        bad = np.flatnonzero(~((self.probabilities_T >= 0) & (self.probabilities_T <= 1)))
        if len(bad):
            raise InputError(
                f"the policy's probabilities must lie in [0, 1], found {self.probabilities_T[bad[0]]:g} for "
                f"{self._name(self.contexts_T[bad[0]])} (row {bad[0] + 1} of its table)"
            )
        totals_K = self.expectation(np.ones(len(self.items_T)))
        occurring = np.unique(self.contexts_N)
        off = occurring[np.abs(totals_K[occurring] - 1) > _ROUNDING]
        if len(off):
            raise InputError(
                f"the policy's probabilities must add up to 1 in each context, found {totals_K[off[0]]:.4g} "
                f"for {self._name(off[0])} ({len(off)} of {len(occurring)} contexts); list every item that "
                "the policy may show"
            )

    def expectation(self, values_T: NDArray[Any]) -> Floats:
        """[K] each context's sum over its entries, weighted by their probabilities."""
        weighted = self.probabilities_T * values_T
        sums_K = np.bincount(self.contexts_T, weights=weighted, minlength=len(self.positions_K))
        return np.asarray(sums_K, dtype=np.float64)

    def _name(self, context: int) -> str:
        return f"context {context}" if self.names_K is None else str(self.names_K[context])


def uniform_policy(feedback: LoggedFeedback) -> TargetPolicy:
    """In every position, every item that the log has ever shown, with the same probability."""
    items = np.unique(feedback.items_N)
    positions, contexts_N = np.unique(feedback.positions_N, return_inverse=True)
    return TargetPolicy(
        contexts_N=contexts_N.astype(np.int64),
        positions_K=positions,
        contexts_T=np.repeat(np.arange(len(positions)), len(items)),
        items_T=np.tile(items, len(positions)),
        probabilities_T=np.full(len(positions) * len(items), 1 / len(items)),
        names_K=np.array([f"position {position}" for position in positions]),
    )


def probabilities_of(policy: TargetPolicy, feedback: LoggedFeedback) -> Floats:
    """[N] with which probability the policy would have done what each row of the log says."""
    num_items = int(max(feedback.items_N.max(), policy.items_T.max(initial=0))) + 1
    keys, place = np.unique(policy.contexts_T * num_items + policy.items_T, return_inverse=True)
    totals = np.bincount(place, weights=policy.probabilities_T, minlength=len(keys))
    wanted_N = policy.contexts_N * num_items + feedback.items_N
    found_N = np.minimum(np.searchsorted(keys, wanted_N), len(keys) - 1)
    return np.where(keys[found_N] == wanted_N, totals[found_N], 0.0)


def never_logged_share(policy: TargetPolicy, feedback: LoggedFeedback) -> float:
    """Mean share of the policy's probability that falls on what the log never shows in that position."""
    num_items = int(max(feedback.items_N.max(), policy.items_T.max(initial=0))) + 1
    logged = feedback.positions_N * num_items + feedback.items_N
    asked_T = policy.positions_K[policy.contexts_T] * num_items + policy.items_T
    never_K = policy.expectation(~np.isin(asked_T, logged))
    return float(never_K[policy.contexts_N].mean())


def examined_items(
    policy: TargetPolicy, feedback: LoggedFeedback, examination_P: Floats
) -> tuple[LoggedFeedback, Floats]:
    """The log and the policy as the position-based model sees them: an item is examined or it is not.

    A click is taken to be an examination, which depends on the position alone, and an attraction, which
    depends on request and item alone. What counts is then how likely an item is to be examined anywhere in
    the list, and a log tells about an item wherever it showed it.

    Args:
        policy: whose contexts are positions of requests, or positions.
        feedback: its propensities are those of the item being in the list at all, 1 where the log's policy
            leaves nothing to chance.
        examination_P: [P] the probability that position p + 1 is examined.

    Returns:
        The log with propensities of being shown and examined, and [N] the policy's probabilities that the
        item of each row is examined in its request.

    Raises:
        ValueError: the log has a position of which no examination is known.

    Reference:
        Joachims, Swaminathan and Schnabel, "Unbiased learning-to-rank with biased feedback", 2017,
        arXiv:1608.04468, equation 4; Li et al., "Offline evaluation of ranking policies with click models",
        2018, arXiv:1804.10488, section 4.
    """
    deepest = int(max(feedback.positions_N.max(), policy.positions_K.max()))
    if deepest > len(examination_P):
        raise InputError(
            f"expected the examination of positions 1 to {deepest}, found that of {len(examination_P)}; "
            "estimate it from a log that shows so many"
        )
    looks_N = examination_P[feedback.positions_N - 1]
    num_items = int(max(feedback.items_N.max(), policy.items_T.max(initial=0))) + 1
    # Each entry of the policy, for every logged row of its context.
    order_N = np.argsort(policy.contexts_N, kind="stable")
    sizes_K = np.bincount(policy.contexts_N, minlength=len(policy.positions_K))
    starts_K = np.cumsum(sizes_K) - sizes_K
    repeats_T = sizes_K[policy.contexts_T]
    entry = np.repeat(np.arange(len(repeats_T)), repeats_T)
    within = np.arange(len(entry)) - np.repeat(np.cumsum(repeats_T) - repeats_T, repeats_T)
    row = order_N[starts_K[policy.contexts_T[entry]] + within]
    keys, place = np.unique(feedback.requests_N[row] * num_items + policy.items_T[entry], return_inverse=True)
    examined = np.bincount(place, weights=policy.probabilities_T[entry] * looks_N[row], minlength=len(keys))
    wanted_N = feedback.requests_N * num_items + feedback.items_N
    found_N = np.minimum(np.searchsorted(keys, wanted_N), len(keys) - 1)
    probabilities_N = np.where(keys[found_N] == wanted_N, examined[found_N], 0.0)
    seen = dataclasses.replace(
        feedback, propensities_N=feedback.propensities_N * looks_N, exposures_N=looks_N
    )
    return seen, probabilities_N
