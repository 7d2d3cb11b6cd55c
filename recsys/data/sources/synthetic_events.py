"""Events of a synthetic world, block after block in time order, drawn by the laws that the world states.

Choosing is rejection sampling, which is exact and needs no sum over the catalogue: an item is proposed by its
popularity and accepted with probability exp(taste_strength (cos - 1)). Only the order in which items are used
up is not exact: an event may have to do without an item that its user chooses later in the same block.

Legend of shapes: N events of a block.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.data.sources.synthetic_world import Floats, Integers, World, dot

# Randomness is drawn by the block, so this number is part of the law of the rows; parts are whole blocks.
BLOCK_ROWS = 131_072
# 512 MB. With more pairs of users and items than bits, two pairs may share one, and a pair is then taken for
# chosen that is not: with 100 million events one in fifty at most.
MAX_BITS = 2**32
MAX_TRIES = 64
ROUNDS_OF_A_USER = 30


@dataclasses.dataclass(frozen=True)
class Events:
    """A block of events: numbers of users and items in the world, ascending times in 0..1, ratings."""

    users: Integers
    items: Integers
    times: Floats
    ratings: Floats


def event_blocks(world: World, *, num_events: int, seed: int, repeats: bool) -> Iterator[Events]:
    """Events in time order, in blocks of `BLOCK_ROWS`; event n falls into the n-th part of all time."""
    draws = _Draws(world)
    chosen = None if repeats else _ChosenPairs(len(world.user_ids), len(world.item_ids))
    for block, first in enumerate(range(0, num_events, BLOCK_ROWS)):
        generator = np.random.default_rng([seed, 1, block])
        positions_N = np.arange(first, min(first + BLOCK_ROWS, num_events))
        times_N = (positions_N + generator.random(len(positions_N))) / num_events
        users_N, items_N = _choose(draws, generator, times_N, chosen)
        means_N = world.mean_rating(users_N, items_N, times_N)
        noisy_N = means_N + world.rating_noise * generator.standard_normal(len(means_N))
        yield Events(users_N, items_N, times_N, np.clip(np.rint(noisy_N), 1, 5).astype(np.float32))


def _choose(
    draws: "_Draws", generator: np.random.Generator, times_N: Floats, chosen: "_ChosenPairs | None"
) -> tuple[Integers, Integers]:
    """Users and the items they choose.

    Each round gives every event that is still open as many proposals as keep the round's work the same, and
    takes the first that is accepted. A user who accepts nothing for long (who has seen all there is) leaves
    the event to another user.
    """
    users_N = draws.users(generator, times_N)
    items_N = np.full(len(times_N), -1)
    tastes_ND, last_N = draws.world.tastes(users_N, times_N), draws.born(times_N)
    open_rows = np.arange(len(times_N))
    for round_number in range(1, 10_000):
        tries = min(MAX_TRIES, len(times_N) // len(open_rows))
        rows = np.repeat(open_rows, tries)
        items = draws.items(generator, times_N[rows], last_N[rows])
        accepted = draws.accept(generator, tastes_ND[rows], items)
        if chosen is not None:
            hits = np.flatnonzero(accepted)
            accepted[hits] = ~chosen.contains(users_N[rows[hits]], items[hits])
        by_event = accepted.reshape(len(open_rows), tries)
        taken: NDArray[np.bool_] = by_event.max(axis=1)
        first = items.reshape(by_event.shape)[np.arange(len(open_rows)), by_event.argmax(axis=1)]
        if chosen is not None:
            taken[taken] = chosen.add(users_N[open_rows[taken]], first[taken])
        items_N[open_rows[taken]] = first[taken]
        open_rows = open_rows[~taken]
        if not len(open_rows):
            return users_N, items_N
        if round_number % ROUNDS_OF_A_USER == 0:
            users_N[open_rows] = draws.users(generator, times_N[open_rows])
            tastes_ND[open_rows] = draws.world.tastes(users_N[open_rows], times_N[open_rows])
    raise AssertionError(f"{len(open_rows)} events found no item that their user has not chosen")


class _Draws:
    """Draws users by activity and items by popularity, among those born, who come first in every array."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._activity = np.cumsum(world.activity)
        self._start = np.cumsum(world.popularity_start)
        self._end = np.cumsum(world.popularity_end)
        # One after the other, so that one search serves both.
        self._both = _CumulativeSearch(np.concatenate([self._start, self._start[-1] + self._end]))

    def users(self, generator: np.random.Generator, times_N: Floats) -> Integers:
        last_N = self._last(self.world.user_births, times_N)
        positions_N = generator.random(len(times_N)) * self._activity[last_N]
        # Rounding can carry a position to the very end of the last weight; so below.
        return np.minimum(np.searchsorted(self._activity, positions_N, side="right"), last_N)

    def born(self, times_N: Floats) -> Integers:
        """[N] the last item that is born at each time."""
        return self._last(self.world.item_births, times_N)

    def items(self, generator: np.random.Generator, times_N: Floats, last_N: Integers) -> Integers:
        """[N] items by popularity: by the weights of the start or the end, in their shares at that time."""
        num_items = len(self._start)
        start_N, end_N = (1 - times_N) * self._start[last_N], times_N * self._end[last_N]
        positions_N = generator.random(len(times_N)) * (start_N + end_N)
        by_end_N = positions_N >= start_N
        scaled_N = np.where(
            by_end_N, self._start[-1] + (positions_N - start_N) / times_N, positions_N / (1 - times_N)
        )
        found_N = self._both.find(scaled_N) - num_items * by_end_N
        return np.minimum(found_N, last_N)

    @staticmethod
    def _last(births: Floats, times_N: Floats) -> Integers:
        return np.searchsorted(births, times_N, side="right") - 1

    def accept(
        self, generator: np.random.Generator, tastes_ND: Floats, items_N: Integers
    ) -> NDArray[np.bool_]:
        """[N] whether each proposal is accepted."""
        cosines_N = dot(tastes_ND, self.world.item_vectors[items_N])
        accepted: NDArray[np.bool_] = generator.random(len(items_N)) < np.exp(
            self.world.taste_strength * (cosines_N - 1)
        )
        return accepted


class _CumulativeSearch:
    """`np.searchsorted(cumulative, positions, side="right")`, some five times as fast on large catalogues.

    An indexed search (Chen and Asau 1974): equal stretches of the whole range know where they begin.
    """

    def __init__(self, cumulative: Floats) -> None:
        num_stretches = 4 * len(cumulative)
        self._cumulative = cumulative
        self._per_unit = num_stretches / cumulative[-1]
        edges = np.arange(num_stretches) / self._per_unit
        # One stretch early, because of rounding in `find`.
        self._begins = np.searchsorted(cumulative, np.concatenate([edges[:1], edges]), side="right")[:-1]

    def find(self, positions_N: Floats) -> Integers:
        """[N] index of the first cumulative weight above each position, at most the last index."""
        last = len(self._cumulative) - 1
        stretches_N = np.minimum((positions_N * self._per_unit).astype(np.int64), len(self._begins) - 1)
        found_N: Integers = np.minimum(self._begins[stretches_N], last)
        for _ in range(3):
            found_N = np.minimum(found_N + (self._cumulative[found_N] <= positions_N), last)
        far = np.flatnonzero(self._cumulative[found_N] <= positions_N)
        found_N[far] = np.minimum(np.searchsorted(self._cumulative, positions_N[far], side="right"), last)
        return found_N


class _ChosenPairs:
    """Which user has chosen which item: a bit a pair."""

    def __init__(self, num_users: int, num_items: int) -> None:
        self._num_items = num_items
        num_bits = min(num_users * num_items, MAX_BITS)
        self._exact = num_users * num_items <= MAX_BITS
        self._bits = np.zeros((num_bits + 7) // 8, dtype=np.uint8)

    def contains(self, users_N: Integers, items_N: Integers) -> NDArray[np.bool_]:
        """[N] whether each pair is there."""
        places_N = self._places(users_N, items_N)
        are_there: NDArray[np.bool_] = (self._bits[places_N >> 3] >> (places_N & 7).astype(np.uint8)) & 1 == 1
        return are_there

    def add(self, users_N: Integers, items_N: Integers) -> NDArray[np.bool_]:
        """Adds pairs that are not there yet; [N] True for the first of equal ones, False for the others."""
        places_N = self._places(users_N, items_N)
        places, first = np.unique(places_N, return_index=True)
        octets, starts = np.unique(places >> 3, return_index=True)
        self._bits[octets] |= np.bitwise_or.reduceat(np.uint8(1) << (places & 7).astype(np.uint8), starts)
        added = np.zeros(len(places_N), dtype=np.bool_)
        added[first] = True
        return added

    def _places(self, users_N: Integers, items_N: Integers) -> Integers:
        pairs_N = users_N * self._num_items + items_N
        if self._exact:
            return pairs_N
        # Multiplying by 2^64 / golden ratio scatters neighbours; the high bits are the well mixed ones.
        mixed_N = pairs_N.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return (mixed_N >> np.uint64(65 - MAX_BITS.bit_length())).astype(np.int64)
