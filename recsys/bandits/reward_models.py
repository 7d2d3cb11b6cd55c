"""Learns from the log what an item earns in a position: the model of direct and robust estimates.

    q(item, position) = mean of the position + shrunken mean of what the item earned above that
    q(item, position) = examination of the position * (mean a look + shrunken mean of the item above that)

the second where the log says how likely each row was examined (the position-based model). The shrinkage is
that of empirical Bayes: an item looked at n times keeps n / (n + s) of its own mean, s being the variance
within items over that between them. Rows are predicted by a model of the other folds, whole units (users)
being in one fold, so that nothing predicts itself.

A direct estimate is uncertain because another log would have given another model. How far each unit moves the
estimate by way of the fit is its derivative with respect to the unit's weight in the fit, shrinkage included:
the infinitesimal jackknife, by automatic differentiation of the fit.

Legend: N rows, U independent units, F folds, I items, P positions, T entries and K contexts of the target
policy.

Reference:
    Jaeckel, "The infinitesimal jackknife", 1972; Giordano et al., "A Swiss Army infinitesimal jackknife",
    2019, arXiv:1806.00550.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.bandits.estimates import Floats
from recsys.bandits.feedback import Codes, LoggedFeedback
from recsys.bandits.policies import TargetPolicy
from recsys.schema.errors import InputError

_TINY = 1e-12
# An item keeps nothing of its own where items are all alike.
_ALL_ALIKE = 1e12


@dataclasses.dataclass(frozen=True, eq=False)
class RewardModel:
    """Fitted on the rows outside each fold.

    Args:
        feedback: the log it was fitted on.
        folds_N: [N] the fold of each logged row.
        levels_FP: [F, P] mean reward of position p + 1; [F, 1] mean reward a look where looks are known.
        items_FI: [F, I] what an item earns beyond that.
    """

    feedback: LoggedFeedback
    folds_N: Codes
    levels_FP: Floats
    items_FI: Floats

    def predicted(self) -> Floats:
        """[N] reward of what each row shows."""
        level_N = self.levels_FP[self.folds_N, _places(self.feedback)]
        return self.feedback.looks * (level_N + self.items_FI[self.folds_N, self.feedback.items_N])

    def expected(self, policy: TargetPolicy) -> Floats:
        """[N] reward in the place of each row, expected over what the policy shows there.

        An item that the log does not know is taken to be one like the others.
        """
        known_T, items_T = self._known(policy)
        above_FK = np.stack(
            [policy.expectation(np.where(known_T, items_I[items_T], 0.0)) for items_I in self.items_FI]
        )
        level_N = self.levels_FP[self.folds_N, _places(self.feedback)]
        above_N = above_FK[self.folds_N, policy.contexts_N]
        return np.asarray(self.feedback.looks * (level_N + above_N), dtype=np.float64)

    def moved_by_unit(self, policy: TargetPolicy) -> Floats:
        """[U] how far each unit, by way of the fit alone, moves the sum of `expected`.

        It is the derivative of that sum with respect to the unit's weight in the fit, the others giving way
        so that the weights add up to U. Costs about three fits.
        """
        log = self.feedback
        weights_U = torch.ones(log.num_clusters, dtype=torch.float64, requires_grad=True)
        moved_U = np.zeros(log.num_clusters)
        parts = zip(_fits(log, self.folds_N, weights_U), *self._counted(policy), strict=True)
        for fit, levels_P, items_I in parts:
            total = (fit.levels_P * torch.tensor(levels_P)).sum()
            total = total + (fit.items_I * torch.tensor(items_I)).sum()
            [gradient_U] = torch.autograd.grad(total, weights_U)
            moved_U += gradient_U.numpy()
        return np.asarray(moved_U - moved_U.mean(), dtype=np.float64)

    def _counted(self, policy: TargetPolicy) -> tuple[Floats, Floats]:
        """[F, P] and [F, I]: how often the sum of `expected` contains each level and each item's effect."""
        num_folds, num_places = self.levels_FP.shape
        num_contexts, looks_N = len(policy.positions_K), self.feedback.looks
        places_N = self.folds_N * num_places + _places(self.feedback)
        levels = np.bincount(places_N, weights=looks_N, minlength=num_folds * num_places)
        contexts_N = self.folds_N * num_contexts + policy.contexts_N
        contexts = np.bincount(contexts_N, weights=looks_N, minlength=num_folds * num_contexts)
        known_T, items_T = self._known(policy)
        shown_T = policy.probabilities_T * known_T
        items_FI = [
            np.bincount(
                items_T, weights=shown_T * contexts_K[policy.contexts_T], minlength=self.items_FI.shape[1]
            )
            for contexts_K in contexts.reshape(num_folds, num_contexts)
        ]
        levels_FP = levels.reshape(num_folds, num_places).astype(np.float64)
        return levels_FP, np.stack(items_FI).astype(np.float64)

    def _known(self, policy: TargetPolicy) -> tuple[NDArray[np.bool_], Codes]:
        """[T] which entries are of an item of the log, and its code, 0 for the others."""
        known_T = policy.items_T < self.items_FI.shape[1]
        return known_T, np.where(known_T, policy.items_T, 0)


def fit_reward_model(feedback: LoggedFeedback, *, num_folds: int = 5, seed: int = 0) -> RewardModel:
    """Fits means on each set of all folds but one.

    Args:
        feedback: the log; with `exposures_N`, what is fitted is the reward of a look.
        num_folds: F; no more than there are units.
        seed: of the choice of folds.

    Raises:
        ValueError: fewer than two folds or units.
    """
    num_folds = min(num_folds, feedback.num_clusters)
    if num_folds < 2:
        raise InputError(
            f"expected at least two folds of at least two users (or requests) in {feedback.source}, found "
            f"{num_folds}; leave the estimators with a model out"
        )
    order_U = np.random.default_rng(seed).permutation(feedback.num_clusters)
    folds_N = (order_U % num_folds)[feedback.clusters_N]
    fitted = list(_fits(feedback, folds_N, torch.ones(feedback.num_clusters, dtype=torch.float64)))
    return RewardModel(
        feedback,
        folds_N,
        np.stack([fit.levels_P.numpy() for fit in fitted]),
        np.stack([fit.items_I.numpy() for fit in fitted]),
    )


class _Fit(NamedTuple):
    levels_P: Tensor
    items_I: Tensor


def _places(feedback: LoggedFeedback) -> Codes:
    """[N] which level a row has: that of its position, or the only one where looks are known."""
    return feedback.positions_N - 1 if feedback.exposures_N is None else np.zeros_like(feedback.positions_N)


def _fits(feedback: LoggedFeedback, folds_N: Codes, weights_U: Tensor) -> Iterator[_Fit]:
    """The fit on all folds but each, every unit counting by its weight."""
    places = _places(feedback)
    shape = (int(places.max()) + 1, int(feedback.items_N.max()) + 1)
    for fold in range(int(folds_N.max()) + 1):
        kept = folds_N != fold
        numbers = (feedback.rewards_N[kept] / feedback.looks[kept], feedback.looks[kept])
        codes = (feedback.clusters_N[kept], places[kept], feedback.items_N[kept])
        rewards, looks = map(torch.tensor, numbers)
        units, own_places, items = map(torch.tensor, codes)
        yield _fit(weights_U[units], rewards, looks, places=own_places, items=items, shape=shape)


def _fit(
    weights: Tensor, rewards: Tensor, looks: Tensor, *, places: Tensor, items: Tensor, shape: tuple[int, int]
) -> _Fit:
    """Levels and shrunken means of rewards a look; a row counts by its unit's weight and by its look."""
    mass = weights * looks

    def summed(codes: Tensor, values: Tensor, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.float64).index_add(0, codes, values)

    shown_P, sums_P = (summed(places, values, shape[0]) for values in (mass, mass * rewards))
    overall = (mass * rewards).sum() / mass.sum()
    levels_P = torch.where(shown_P > 0, sums_P / shown_P.clamp(min=_TINY), overall)
    above = rewards - levels_P[places]
    shown_I, sums_I = (summed(items, values, shape[1]) for values in (mass, mass * above))
    squares = (mass * above**2).sum()
    strength = _strength(weights.sum(), squares, shown_I=shown_I, sums_I=sums_I)
    return _Fit(levels_P, sums_I / (shown_I + strength).clamp(min=_TINY))


def _strength(num_rows: Tensor, squares: Tensor, *, shown_I: Tensor, sums_I: Tensor) -> Tensor:
    """Variance within items (of one look) over that between them, by moments; huge where they are all alike.

    Args:
        num_rows: weight of all rows.
        squares: sum of the squares of what each look earned above its level.
        shown_I: [I] looks at each item.
        sums_I: [I] what it earned above its levels.
    """
    num_seen, total = int((shown_I > 0).sum()), shown_I.sum()
    spread = (sums_I**2 / shown_I.clamp(min=_TINY)).sum()
    within = (squares - spread) / (num_rows - num_seen).clamp(min=1)
    unevenness = total - (shown_I**2).sum() / total
    between = (spread - within * (num_seen - 1)) / unevenness.clamp(min=_TINY)
    if between.item() > _TINY * max(within.item(), _TINY):
        return within / between
    return torch.full_like(within, _ALL_ALIKE)
