"""The world behind the synthetic data: what is true of its users and items, as functions that can be asked.

Time runs from 0 (the first event) to 1 (the last). For user u, item i and time t:

    taste         p_u(t) = unit(cos(a t) p_u0 + sin(a t) p_u1), a = drift x 90 degrees: at drift 1 the end
                  of time knows nothing of the beginning
    affinity      cos(u, i, t) = p_u(t) . q_i, between -1 and 1
    popularity    pi_t(i), in proportion to [i is born at t] ((1 - t) w_i0 + t w_i1), both w Zipf in a ranking
    choice        P(i | u, t), in proportion to pi_t(i) exp(taste_strength cos(u, i, t)), over the items that
                  u has not chosen yet (all, when items repeat)
    rating        the nearest of 1..5 to mean + rating_noise x a standard normal, where
                  mean = 3 + generosity_u + quality_i + 1.5 cos(u, i, t)

Content explains part of an item's vector: q_i = unit(sqrt(c) content_i + sqrt(1 - c) own_i), where c is
content_share and content_i is made of the item's price (dimension 0) and its categories (the others). In the
same way a user's age (dimension 0) and group (the others) explain profile_share of p_u0.

Legend of shapes: U users, I items, D latent dimensions, N pairs asked about.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]

RATING_AT_REST = 3.0
RATING_PER_AFFINITY = 1.5


@dataclasses.dataclass(frozen=True)
class World:
    """The truth. Users and items are numbered by their birth, earliest first; `*_ids` are their raw ids.

    Args:
        user_ids, item_ids: [U], [I] raw id of each number.
        user_births, item_births: [U], [I] time from which it exists; ascending, 0 if there from the start.
        activity: [U] share of the events, among the users that exist, in any unit.
        popularity_start, popularity_end: [I] weights w_i0 and w_i1.
        tastes_start, tastes_end: [U, D] p_u0 and p_u1.
        item_vectors: [I, D] q_i.
        generosity: [U] what a user adds to every rating.
        quality: [I] what an item adds to every rating.
        taste_strength, drift, rating_noise: as in the laws above.
    """

    user_ids: Integers
    item_ids: Integers
    user_births: Floats
    item_births: Floats
    activity: Floats
    popularity_start: Floats
    popularity_end: Floats
    tastes_start: Floats
    tastes_end: Floats
    item_vectors: Floats
    generosity: Floats
    quality: Floats
    taste_strength: float
    drift: float
    rating_noise: float

    def tastes(self, users_N: Integers, times_N: Floats) -> Floats:
        """[N, D] p_u(t)."""
        angles_N = (self.drift * math.pi / 2 * np.asarray(times_N, dtype=np.float32))[:, None]
        mixed_ND = np.cos(angles_N) * self.tastes_start[users_N] + np.sin(angles_N) * self.tastes_end[users_N]
        return unit(mixed_ND)

    def _affinity(self, users_N: Integers, items_N: Integers, times_N: Floats) -> Floats:
        """[N] cos(u, i, t)."""
        return dot(self.tastes(users_N, times_N), self.item_vectors[items_N])

    def popularity(self, time: float) -> Floats:
        """[I] pi_t(i), sums to 1."""
        weights_I = (1 - time) * self.popularity_start + time * self.popularity_end
        return _normalised(np.where(self.item_births <= time, weights_I, 0))

    def choice_probability(self, user: int, time: float) -> Floats:
        """[I] P(i | u, t) of a user who has chosen nothing yet; for another, drop the chosen and rescale."""
        taste_D = self.tastes(np.array([user]), np.array([time]))[0]
        return _normalised(
            self.popularity(time) * np.exp(self.taste_strength * (self.item_vectors @ taste_D))
        )

    def mean_rating(self, users_N: Integers, items_N: Integers, times_N: Floats) -> Floats:
        """[N] mean of the rating before it is rounded and clipped to 1..5."""
        affinity_N = self._affinity(users_N, items_N, times_N)
        leaning_N = self.generosity[users_N] + self.quality[items_N]
        return RATING_AT_REST + leaning_N + RATING_PER_AFFINITY * affinity_N

    def rating_probability(
        self, users_N: Integers, items_N: Integers, times_N: Floats, *, at_least: int = 4
    ) -> Floats:
        """[N] probability of a rating of `at_least` (2 to 5) or more, given that the pair is rated."""
        margins_N = (self.mean_rating(users_N, items_N, times_N) - (at_least - 0.5)) / self.rating_noise
        return np.array([0.5 * math.erfc(-margin / math.sqrt(2)) for margin in margins_N])

    def save(self, path: Path) -> None:
        """Writes the truth as an .npz file with an array for each field."""
        with path.open("wb") as file:
            np.savez(file, **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @staticmethod
    def load(path: Path) -> "World":
        """The truth that `save` wrote."""
        with np.load(path) as arrays:
            return World(**{name: array if array.ndim else array.item() for name, array in arrays.items()})


def _normalised(weights_I: Floats) -> Floats:
    shares_I: Floats = weights_I / weights_I.sum()
    return shares_I


def unit(vectors_ND: Floats) -> Floats:
    """The vectors scaled to length 1."""
    lengths_N: Floats = np.sqrt(dot(vectors_ND, vectors_ND))
    return vectors_ND / lengths_N[:, None]


def dot(left_ND: Floats, right_ND: Floats) -> Floats:
    """[N] dot products of rows."""
    products_N: Floats = np.einsum("nd,nd->n", left_ND, right_ND)
    return products_N
