"""What an item earns in a position, learnt from the log itself: the model of doubly robust estimates.

    q(item, position) = mean of the position + shrunken mean of what the item earned above that

The shrinkage is that of empirical Bayes: an item seen n times keeps n / (n + s) of its own mean, s being the
variance within items over that between them. Rows are predicted by a model of the other folds, whole units
(users) being in one fold, so that nothing predicts itself.

Legend: N rows, F folds, I items, P positions, T entries and K contexts of the target policy.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from recsys.bandits.estimates import Floats
from recsys.bandits.feedback import Codes, LoggedFeedback
from recsys.bandits.policies import TargetPolicy


@dataclasses.dataclass(frozen=True, eq=False)
class RewardModel:
    """Fitted on the rows outside each fold.

    Args:
        folds_N: [N] the fold of each logged row.
        positions_FP: [F, P] mean reward of position p + 1.
        items_FI: [F, I] what an item earns beyond that.
    """

    folds_N: Codes
    positions_FP: Floats
    items_FI: Floats

    def predicted(self, feedback: LoggedFeedback) -> Floats:
        """[N] reward of what each row shows."""
        above_N = self.items_FI[self.folds_N, feedback.items_N]
        return self.positions_FP[self.folds_N, feedback.positions_N - 1] + above_N

    def expected(self, policy: TargetPolicy) -> Floats:
        """[N] reward in the place of each row, expected over what the policy shows there.

        An item that the log does not know is taken to be one like the others.
        """
        num_items = self.items_FI.shape[1]
        known_T = policy.items_T < num_items
        items_T = np.where(known_T, policy.items_T, 0)
        expected_FK = np.stack(
            [
                policy.expectation(np.where(known_T, items_I[items_T], 0.0))
                + positions_P[policy.positions_K - 1]
                for items_I, positions_P in zip(self.items_FI, self.positions_FP, strict=True)
            ]
        )
        return np.asarray(expected_FK[self.folds_N, policy.contexts_N])


def fit_reward_model(feedback: LoggedFeedback, *, num_folds: int = 5, seed: int = 0) -> RewardModel:
    """Fits means on each set of all folds but one.

    Args:
        feedback: the log.
        num_folds: F; no more than there are units.
        seed: of the choice of folds.

    Raises:
        ValueError: fewer than two folds or units.
    """
    num_folds = min(num_folds, feedback.num_clusters)
    if num_folds < 2:
        raise ValueError(
            f"expected at least two folds of at least two users (or requests) in {feedback.source}, found "
            f"{num_folds}; leave the estimators with a model out"
        )
    order_U = np.random.default_rng(seed).permutation(feedback.num_clusters)
    folds_N = (order_U % num_folds)[feedback.clusters_N]
    shapes = (int(feedback.positions_N.max()), int(feedback.items_N.max()) + 1)
    fitted = [_fit(feedback, folds_N != fold, shapes) for fold in range(num_folds)]
    return RewardModel(
        folds_N,
        np.stack([positions_P for positions_P, _ in fitted]),
        np.stack([items_I for _, items_I in fitted]),
    )


def _fit(feedback: LoggedFeedback, kept_N: np.ndarray, shapes: tuple[int, int]) -> tuple[Floats, Floats]:
    rewards, items = feedback.rewards_N[kept_N], feedback.items_N[kept_N]
    places = feedback.positions_N[kept_N] - 1
    shown_P = np.bincount(places, minlength=shapes[0])
    sums_P = np.bincount(places, weights=rewards, minlength=shapes[0])
    positions_P = np.where(shown_P > 0, sums_P / np.maximum(shown_P, 1), rewards.mean())
    above = rewards - positions_P[places]
    shown_I = np.bincount(items, minlength=shapes[1])
    sums_I = np.bincount(items, weights=above, minlength=shapes[1])
    return positions_P, sums_I / np.maximum(shown_I + _strength(above, shown_I, sums_I), 1e-12)


def _strength(above: Floats, shown_I: np.ndarray, sums_I: np.ndarray) -> float:
    """Variance within items over that between them, by moments; huge where items are all alike."""
    seen, means = shown_I[shown_I > 0], sums_I[shown_I > 0] / shown_I[shown_I > 0]
    spread = float((seen * means**2).sum())
    num_free = len(above) - len(seen)
    within = (float((above**2).sum()) - spread) / max(num_free, 1)
    between = (spread - within * (len(seen) - 1)) / max(
        len(above) - float((seen**2).sum()) / len(above), 1e-12
    )
    return within / between if between > 1e-12 * max(within, 1e-12) else 1e12
