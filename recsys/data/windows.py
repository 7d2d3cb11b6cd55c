"""WindowLoader: training batches of whole parts of users' histories, every state of which is learnt from.

    history of a user     a b c d e f g           data.history_length = 4
    one epoch             [a b c] [d e f g]       the first window is shorter by chance, so that the cuts move
    states                 0 1 2 3   1 2 3 4      each answers the positives that follow it: 0 a, 3 d, ...

A window's state 0 knows the user alone: true at the beginning of a history, and of no use in its middle,
where the window before it has answered the same target from all of its events.

Legend: U users, N events, B windows, T targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from recsys.data.collate import Collator, StateQueries
from recsys.data.histories import Histories
from recsys.data.loader import Draws, Position
from recsys.data.parts import ALONE, Ranks
from recsys.schema.batch import Batch
from recsys.schema.jagged import JaggedColumn


class WindowLoader:
    """Iterates over all windows of all histories once an epoch; which they are depends on seed and epoch.

    Args:
        histories: of the train split, with timestamps.
        collator: holds the feature stores.
        length: most events of a window.
        batch_size: windows a batch of all ranks together.
        since: learn from no event before this instant, in microseconds since 1970 (UTC).
        seed: of cuts and order.
        ranks: this process among those that share each batch.
    """

    def __init__(
        self,
        histories: Histories,
        collator: Collator,
        *,
        length: int,
        batch_size: int,
        since: int | None = None,
        seed: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        self.histories = histories
        self.collator = collator
        self.length = length
        self.batch_size = batch_size
        self.ranks = ranks
        self.position = Position(seed)
        self._targets = _Targets(histories, since)
        # A history without a target teaches nothing, nor does what is long before the first one: half a
        # window before it is enough for any state that answers a target to have seen some events.
        self._users, first_states = self._targets.first()
        self._begins = (first_states - 1 - length // 2).clamp(min=0)
        self._sizes = histories.items.lengths[self._users] - self._begins
        self._num_windows = (-(-self._sizes // length)).clamp(min=1)
        # The first window takes what the whole ones behind it leave, and reaches the first target.
        self._shortest = torch.maximum(
            self._sizes - (self._num_windows - 1) * length, first_states - self._begins
        )

    @property
    def num_windows(self) -> int:
        """Windows of an epoch."""
        return int(self._num_windows.sum())

    def __len__(self) -> int:
        return math.ceil(self.num_windows / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self.position.begin()
        draws = Draws(self.position.seed, epoch)
        users, windows = self._cut(draws)
        order = torch.randperm(len(users), generator=draws("windows", 0))
        for number, chosen in enumerate(torch.split(order, self.batch_size)):
            if number < first:
                continue
            batch = self._batch(users[chosen], windows.at(chosen))
            self.position.next_batch = number + 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch the loader stands: the global batches handed out so far."""
        return self.position.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken, by any number of ranks."""
        self.position.load_state_dict(state, num_batches=len(self))

    def _cut(self, draws: Draws) -> tuple[torch.Tensor, JaggedColumn]:
        """User of every window, and its items."""
        drawn = torch.rand(len(self._users), generator=draws("cuts", 0), dtype=torch.float64)
        first = self._shortest + (drawn * (self.length + 1 - self._shortest)).long()
        first = torch.where(self._num_windows == 1, self._sizes, first)
        # The windows of one user, end to end: [0, first), [first, first + length), ... up to its size.
        windows = JaggedColumn.of_lengths(self._users, self._num_windows)
        user_of_window = windows.rows
        place = torch.arange(len(user_of_window)) - windows.starts[user_of_window]
        firsts, sizes = first[user_of_window], self._sizes[user_of_window]
        begins = (firsts + (place - 1) * self.length).clamp(min=0)
        begins = torch.where(place == 0, 0, begins)
        ends = torch.minimum(firsts + place * self.length, sizes)
        users = self._users[user_of_window]
        items = self.histories.items
        base = items.starts[users] + self._begins[user_of_window]
        return users, JaggedColumn(items.values, starts=base + begins, ends=base + ends)

    def _batch(self, users: torch.Tensor, windows: JaggedColumn) -> Batch:
        part = self.ranks.part(len(users))
        own = part.positions
        every = self._targets.of_windows(users, windows)
        users, windows = users[own], windows.at(own)
        targets = self._targets.of_windows(users, windows)
        chosen, sequences = targets.positions, targets.rows
        begins_within = windows.starts - self.histories.items.starts[users]
        states = self._targets.states[chosen] - begins_within[sequences]
        events = self._targets.events[chosen]
        item_rows, instants = self.histories.items.values[events].long(), self.histories.timestamps[events]
        stands_in = part.is_empty or not len(chosen)
        if not len(chosen):
            # A step of all ranks wants an example from each: the item is any one, its weight is 0.
            sequences, states, item_rows, instants = (torch.tensor([value]) for value in (0, 0, 1, 0))
        batch = self.collator.sequences(
            self.histories.user_rows[users],
            self.histories,
            windows,
            ends=self._instants_after(users, windows.ends),
            queries=StateQueries(sequences, states, instants),
        )
        batch.item_rows = item_rows
        if stands_in:
            batch.weights, batch.share = torch.zeros(len(item_rows)), 0.0
            return batch
        batch.share = self.ranks.num_ranks * len(chosen) / int(every.lengths.sum())
        if len(weights := self.histories.weights):
            batch.weights = weights[events]
            whole = weights[self._targets.events[every.positions]].mean()
            # As it weighs, and not as it counts; 1 where one process has all.
            batch.share *= float(batch.weights.mean() / whole) if self.ranks.num_ranks > 1 else 1.0
        return batch

    def _instants_after(self, users: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """[B] instant of the event that follows each window; of its last one where none does."""
        last = self.histories.items.ends[users] - 1
        return self.histories.timestamps[torch.minimum(ends, last).clamp(min=0)]


class _Targets:
    """The positives that are learnt from, in order, with the state that answers each.

    Args:
        histories: of the train split.
        since: leave out earlier ones.
    """

    def __init__(self, histories: Histories, since: int | None) -> None:
        wanted = histories.positives & (histories.items.values > 0)
        if since is not None:
            wanted &= histories.timestamps >= since
        self.events = wanted.nonzero().flatten()
        self.states = histories.num_before()[self.events]
        self._user = histories.items.rows[self.events]
        self._begins = histories.items.starts
        # One number for user and state, so that a window's targets are found by two binary searches. A
        # user's states are one more than the events: keys ascend over all targets, and no two users share
        # one.
        self._keys = self.states + self._begins[self._user] + self._user

    def first(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Users that have a target, and the state that answers the first one of each."""
        users, counts = torch.unique_consecutive(self._user, return_counts=True)
        return users, self.states[counts.cumsum(0) - counts]

    def of_windows(self, users: torch.Tensor, windows: JaggedColumn) -> JaggedColumn:
        """Targets that states of each window answer, as parts of `events`.

        State 0 of a window that is not a history's first knows less than was there: it is not asked.
        """
        starts = windows.starts + users
        is_first = windows.starts == self._begins[users]
        lowest = torch.where(is_first, starts, starts + 1)
        low = torch.searchsorted(self._keys, lowest)
        high = torch.searchsorted(self._keys, windows.ends + users, right=True)
        return JaggedColumn(self.events, starts=low, ends=high)
