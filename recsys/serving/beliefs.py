"""Believed rewards of candidates: a linear head over what the bundle knows, and an intercept for each item.

    mean       x' theta + (reward - expected) / (shown + c)      c: prior_strength
    deviation  noise / sqrt(shown + c)

with x = [1, standardised score, freshness]; theta by ridge regression towards weights that trust the score,
so that without any feedback the bundle's order is kept.

Legend: N candidates, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.bandits.acting.choice import Candidates, standardised
from recsys.bandits.acting.lin_ucb import linear_posterior
from recsys.bandits.estimates import Floats
from recsys.serving.rules import HOUR, Rules
from recsys.serving.state import ItemState, LinearHead

_PRIOR_WEIGHTS = np.array([0.1, 0.03, 0.02])
_RIDGE = 20.0
_PRIOR_STRENGTH = 10.0
_NOISE = 0.3
_FRESH_HOURS = 6.0


def features_of(scores_N: Floats, ages_N: Sequence[float | None]) -> Floats:
    """[N, D] features of candidates.

    Args:
        scores_N: [N] of the bundle.
        ages_N: [N] hours since each joined the catalogue; None for those that were always there.
    """
    freshness_N = [0.0 if age is None else 0.5 ** (max(age, 0.0) / _FRESH_HOURS) for age in ages_N]
    return np.stack([np.ones(len(scores_N)), standardised(scores_N), np.array(freshness_N)], axis=1)


def beliefs(
    scores_N: Floats,
    features_ND: Floats,
    *,
    items: Sequence[ItemState | None],
    head: LinearHead | None,
    now: int,
    rules: Rules,
) -> tuple[Candidates, Floats]:
    """Candidates with what is believed of them, and what the head alone foretells [N].

    Args:
        scores_N: [N] of the bundle.
        features_ND: [N, D] `features_of` them.
        items: [N] their states.
        head: of all items.
        now: microseconds since 1970 (UTC).
        rules: of fading.
    """
    size = features_ND.shape[1]
    gram_DD, reward_D = np.zeros((size, size)), np.zeros(size)
    if head is not None and len(head.reward) == size:
        faded = _faded(head.since, now, rules)
        gram_DD = faded * np.array(head.gram).reshape(size, size)
        reward_D = faded * np.array(head.reward)
    reward_D = reward_D + _RIDGE * _PRIOR_WEIGHTS
    expected_N, spread_N = linear_posterior(features_ND, gram_DD, reward_D, ridge=_RIDGE)
    residual_N, shown_N = np.zeros(len(scores_N)), np.zeros(len(scores_N))
    for n, item in enumerate(items):
        if item is not None:
            faded = _faded(item.since, now, rules)
            shown_N[n], residual_N[n] = item.shown * faded, (item.reward - item.expected) * faded
    strength_N = shown_N + _PRIOR_STRENGTH
    deviations_N = _NOISE / np.sqrt(strength_N)
    candidates = Candidates(
        scores_N,
        means_N=expected_N + residual_N / strength_N,
        deviations_N=deviations_N,
        bonuses_N=np.hypot(_NOISE * spread_N, deviations_N),
    )
    return candidates, expected_N


def _faded(since: int, now: int, rules: Rules) -> float:
    return float(0.5 ** (max(now - since, 0) / (rules.half_life_hours * HOUR)))
