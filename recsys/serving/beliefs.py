"""Believed rewards of candidates: a linear head, an intercept for each item, and a reader's taste.

    mean = x' theta + z' tau + own      of an item that is looked at

with x = [1, standardised score, freshness] what the bundle knows of it, z its coordinates in the bundle's
space of items, and

    theta   of all: ridge regression towards weights that trust the score, so that without any feedback the
            bundle's order is kept
    tau     of the reader: ridge regression, towards 0, of what theta and own leave unexplained
    own     of the item: (reward - what theta and tau foretold) / (looked + c)

What is uncertain of tau and own is measured by the reward m of an average candidate: before anything is
known, either may be off by `_SPREAD` m. A reward is mostly 0 or 1, so that its variance is m (1 - m), and
one that is off by so much is known as well by the prior as by c = (1 - m) / (m _SPREAD^2) looks.

    deviation^2 = m (1 - m) (z' (G + c)^-1 z + 1 / (looked + c))

Legend: N candidates, D features, C coordinates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from recsys.bandits.acting.choice import Candidates, standardised
from recsys.bandits.acting.lin_ucb import linear_posterior
from recsys.bandits.estimates import Floats
from recsys.serving.learning import NUM_POSITIONS, ItemRewards, LinearHead, Positions, Taste, faded
from recsys.serving.rules import Rules

_PRIOR_WEIGHTS = np.array([0.1, 0.03, 0.0])
NUM_FEATURES = len(_PRIOR_WEIGHTS)
# Looks by which each weight is believed as well as its prior. What is shown for the reader's taste though its
# score is low, or by chance because it is new, speaks against scores and newness for no fault of theirs: so
# it takes many looks to change what is believed of those two.
_RIDGE = np.array([20.0, 1000.0, 1000.0])
_SPREAD = 0.5
_TASTE_SPREAD = 1.0
_LEAST_REWARD = 0.005
_FRESH_HOURS = 6.0
# Clicks by which a position is known as well as by its prior.
_POSITION_CLICKS = 50.0
_LEAST_LOOKED = 0.02


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """Holds what the state knows of candidates and of whoever asks.

    Args:
        items: [N] of the candidates.
        head: of all items.
        taste: of the reader, in the space of the candidates' coordinates.
        positions: of lists.
    """

    items: Sequence[ItemRewards | None]
    head: LinearHead | None = None
    taste: Taste | None = None
    positions: Positions | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Beliefs:
    """Candidates with what is believed of them, and the parts of their means [N] that are logged."""

    candidates: Candidates
    taste_N: Floats
    own_N: Floats


def features_of(scores_N: Floats, ages_N: Sequence[float | None]) -> Floats:
    """[N, D] features of candidates.

    Args:
        scores_N: [N] of the bundle.
        ages_N: [N] hours since each joined the catalogue; None for those that were always there.
    """
    freshness_N = [0.0 if age is None else 0.5 ** (max(age, 0.0) / _FRESH_HOURS) for age in ages_N]
    return np.stack([np.ones(len(scores_N)), standardised(scores_N), np.array(freshness_N)], axis=1)


def beliefs(
    scores_N: Floats, features_ND: Floats, coordinates_NC: Floats, known: Known, *, now: int, rules: Rules
) -> Beliefs:
    """Computes what is believed of candidates.

    Args:
        scores_N: [N] of the bundle.
        features_ND: [N, D] `features_of` them.
        coordinates_NC: [N, C] of the bundle's space; C may be 0.
        known: of the state.
        now: microseconds since 1970 (UTC).
        rules: of fading.
    """
    size = features_ND.shape[1]
    gram_DD, reward_D = _equations(known.head, size, now, rules)
    inverse_DD = np.linalg.inv(gram_DD + np.diag(_RIDGE))
    theta_D: Floats = inverse_DD @ reward_D
    head_N = features_ND @ theta_D
    unsure_N = ((features_ND @ inverse_DD) * features_ND).sum(axis=1)
    average = _average(known.positions, float(gram_DD[0, 0]), now, rules)
    noise = average * (1 - average)
    prior_looks = (1 - average) / (average * _SPREAD**2)
    ridge = (1 - average) / (average * _TASTE_SPREAD**2)
    taste_N, vague_N = _taste(coordinates_NC, known.taste, theta_D, ridge, now, rules)
    looked_N, left_N = _unexplained(known.items, theta_D, now, rules)
    own_N = left_N / (looked_N + prior_looks)
    variances_N = noise * (vague_N + 1 / (looked_N + prior_looks))
    return Beliefs(
        Candidates(
            scores_N,
            means_N=head_N + taste_N + own_N,
            deviations_N=np.sqrt(variances_N),
            bonuses_N=np.sqrt(variances_N + noise * unsure_N),
        ),
        taste_N,
        own_N,
    )


def _unexplained(
    items: Sequence[ItemRewards | None], theta_D: Floats, now: int, rules: Rules
) -> tuple[Floats, Floats]:
    """Counts how often items were looked at [N], and their rewards less what head and tastes foretold [N]."""
    looked_N, left_N = np.zeros(len(items)), np.zeros(len(items))
    there = [(n, one) for n, one in enumerate(items) if one is not None and len(one.features) == len(theta_D)]
    if there:
        places = [n for n, _ in there]
        remains = np.array([faded(one.since, now, rules) for _, one in there])
        foretold = np.array([one.features for _, one in there]) @ theta_D
        unexplained = np.array([one.reward - one.taste for _, one in there]) - foretold
        looked_N[places] = np.array([one.looked for _, one in there]) * remains
        left_N[places] = unexplained * remains
    return looked_N, left_N


def _average(positions: Positions | None, looks: float, now: int, rules: Rules) -> float:
    """The reward of an item that is looked at, over all that were shown; the prior's before any was."""
    earned = 0.0 if positions is None else faded(positions.since, now, rules) * sum(positions.reward)
    average = (earned + _RIDGE[0] * _PRIOR_WEIGHTS[0]) / (looks + _RIDGE[0])
    return float(np.clip(average, _LEAST_REWARD, 0.5))


def looked_at(positions: Positions | None, k: int, now: int, rules: Rules) -> Floats:
    """[k] the chance that each position of a list is looked at, given that the first one is.

    Before anything is known that of the usual discount, 1 / log2(1 + position).

    Args:
        positions: of the state.
        k: positions.
        now: microseconds since 1970 (UTC).
        rules: of fading.

    Example:
        >>> looked_at(None, 3, 0, Rules()).round(2).tolist()
        [1.0, 0.63, 0.5]
    """
    size = min(k, NUM_POSITIONS)
    reward_K, expected_K = np.zeros(size), np.zeros(size)
    if positions is not None:
        remains, there = faded(positions.since, now, rules), min(size, len(positions.reward))
        reward_K[:there] = remains * np.array(positions.reward[:there])
        expected_K[:there] = remains * np.array(positions.expected[:there])
    prior_K = 1 / np.log2(1 + np.arange(1, size + 1))
    share_K = (reward_K + _POSITION_CLICKS * prior_K) / (expected_K + _POSITION_CLICKS)
    looked_K: Floats = np.clip(share_K / share_K[0], _LEAST_LOOKED, 1.0)
    return np.concatenate([looked_K, np.full(k - size, looked_K[-1])])


def head_weights(head: LinearHead | None, size: int, now: int, rules: Rules) -> Floats:
    """[D] weights of the head.

    Args:
        head: of the state.
        size: D.
        now: microseconds since 1970 (UTC).
        rules: of fading.
    """
    gram_DD, reward_D = _equations(head, size, now, rules)
    return np.linalg.solve(gram_DD + np.diag(_RIDGE), reward_D).astype(np.float64)


def _equations(head: LinearHead | None, size: int, now: int, rules: Rules) -> tuple[Floats, Floats]:
    """The head's normal equations, with those of its prior on the right side."""
    gram_DD, reward_D = np.zeros((size, size)), np.zeros(size)
    if head is not None and len(head.reward) == size:
        remains = faded(head.since, now, rules)
        gram_DD = remains * np.array(head.gram).reshape(size, size)
        reward_D = remains * np.array(head.reward)
    return gram_DD, reward_D + _RIDGE * _PRIOR_WEIGHTS


def _taste(
    coordinates_NC: Floats, taste: Taste | None, theta_D: Floats, ridge: float, now: int, rules: Rules
) -> tuple[Floats, Floats]:
    """Returns what a reader's taste adds [N], and its variance in units of the noise."""
    size = coordinates_NC.shape[1]
    if not size:
        return np.zeros(len(coordinates_NC)), np.zeros(len(coordinates_NC))
    gram_CC, reward_C = np.zeros((size, size)), np.zeros(size)
    if taste is not None and len(taste.reward) == 8 * size and len(taste.cross) == 8 * size * len(theta_D):
        gram_CC, reward_C = _left_to_taste(taste, theta_D, now, rules)
    taste_N, deviations_N = linear_posterior(coordinates_NC, gram_CC, reward_C, ridge=ridge)
    return taste_N, deviations_N**2


def taste_weights(taste: Taste, theta_D: Floats, now: int, rules: Rules, *, ridge: float) -> Floats:
    """[C] the direction in which a reader's taste lies, by what the head leaves unexplained.

    Args:
        taste: of the reader.
        theta_D: [D] `head_weights`.
        now: microseconds since 1970 (UTC).
        rules: of fading.
        ridge: above 0.
    """
    gram_CC, reward_C = _left_to_taste(taste, theta_D, now, rules)
    return np.linalg.solve(gram_CC + ridge * np.eye(len(reward_C)), reward_C).astype(np.float64)


def _left_to_taste(taste: Taste, theta_D: Floats, now: int, rules: Rules) -> tuple[Floats, Floats]:
    """A reader's normal equations, for what the head leaves unexplained."""
    remains = faded(taste.since, now, rules)
    size = len(taste.reward) // 8
    cross_CD = np.frombuffer(taste.cross).reshape(size, -1)
    reward_C = remains * (np.frombuffer(taste.reward) - cross_CD @ theta_D)
    return remains * np.frombuffer(taste.gram).reshape(size, size), reward_C
