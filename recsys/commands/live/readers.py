"""Readers of a world whose truth is known: what they would click, and the articles that come and go.

looking   position p is looked at with probability p^-eta (position bias)
click     on what is looked at, with probability attraction(reader, article, time); an article is read once
drift     tastes go on turning, as in the world, while the simulation goes on
birth     articles appear, alike to one that was there, and fade with a half-life
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from recsys.data.sources.synthetic_world import World, unit

Floats = np.ndarray[Any, np.dtype[np.float64]]
# How far a new article lies from the one that it is alike to.
_UNLIKE = 0.1


@dataclasses.dataclass(frozen=True)
class Laws:
    """States what is true of the readers beside their world; see `SimulateConfig`."""

    k: int
    drift: float
    looking: float
    attraction: float
    taste: float
    half_life: float


class Readers:
    """The readers of a world.

    Args:
        world: its truth.
        laws: what else is true of them.
    """

    def __init__(self, world: World, laws: Laws) -> None:
        self._world = world
        self._laws = laws
        self._vectors = world.item_vectors.astype(np.float64)
        self.item_ids: list[Any] = world.item_ids.tolist()
        self._places = {str(one): place for place, one in enumerate(self.item_ids)}
        self._births = np.full(len(self.item_ids), -np.inf)
        self._read: dict[int, set[int]] = {}
        self._next_id = max(int(one) for one in self.item_ids) + 1
        self.looking_K = np.arange(1, laws.k + 1, dtype=np.float64) ** -laws.looking

    def attractions(self, user: int, number: int) -> Floats:
        """[I] click probability of every article that is looked at, at the request of this number."""
        time = 1.0 + self._laws.drift * number / 1000
        taste_D = self._world.tastes(np.array([user]), np.array([time]))[0]
        likings_I = self._laws.attraction * np.exp(self._laws.taste * (self._vectors @ taste_D - 1))
        # Articles that were there from the start do not fade: they are what a catalogue is made of.
        ages_I = np.where(np.isfinite(self._births), number - self._births, 0.0)
        faded_I: Floats = likings_I * 0.5 ** (ages_I / self._laws.half_life)
        faded_I[list(self._read.get(user, ()))] = 0.0
        return faded_I

    def has_read(self, user: int, places: Any) -> None:
        """Notes that a reader has clicked articles, and will not again."""
        self._read.setdefault(user, set()).update(places)

    def user_id(self, user: int) -> Any:
        """Raw id of a reader."""
        return self._world.user_ids[user].item()

    def place(self, item_id: Any) -> int:
        """Where an article stands."""
        return self._places[str(item_id)]

    def give_birth(self, row: dict[str, Any], number: int, rng: np.random.Generator) -> dict[str, Any]:
        """A new article alike to one; its fields, under an id of its own."""
        parent = self.place(row["item_id"])
        noisy_D = self._vectors[parent] + _UNLIKE * rng.standard_normal(self._vectors.shape[1])
        self._vectors = np.concatenate([self._vectors, unit(noisy_D[None])])
        self._births = np.append(self._births, float(number))
        new_id, self._next_id = self._next_id, self._next_id + 1
        self._places[str(new_id)] = len(self.item_ids)
        self.item_ids.append(new_id)
        return {**{name: value for name, value in row.items() if value is not None}, "item_id": new_id}

    def ages(self, number: int) -> Floats:
        """[I] requests since each article appeared; infinite for those that were there from the start."""
        ages_I: Floats = number - self._births
        return ages_I


def best_places(attractions_I: Floats, k: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[k] the articles that attract most, the most attractive first."""
    if k >= len(attractions_I):
        return np.argsort(-attractions_I)
    top_K = np.argpartition(-attractions_I, k)[:k]
    return top_K[np.argsort(-attractions_I[top_K])]
