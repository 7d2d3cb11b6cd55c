"""WindowLoader: training batches of whole stretches of users' timelines, every state of which is learnt from.

    timeline of a user    a b c d e f g           data.history_length = 4
    one epoch             [a b c] [d e f g]       the first window is shorter by chance, so that the cuts move
    states asked           0 1 2 3   1 2 3 4      each answers the positives that follow it: 0 a, 3 d, ...

Legend: U users, N events, B windows, T targets, V events of the windows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from recsys.data.collate import Asked, Collator
from recsys.data.events import Bags, select_spans
from recsys.data.loader import Draws, Position
from recsys.data.parts import ALONE, Ranks
from recsys.data.timelines import Timelines
from recsys.schema.batch import Batch


class WindowLoader:
    """Iterates over all windows of all timelines once an epoch; which they are depends on seed and epoch.

    Args:
        timelines: of the train split.
        collator: holds the feature stores.
        length: most events of a window.
        batch_size: windows a batch of all ranks together.
        since: learn from no event before this instant, in microseconds since 1970 (UTC).
        seed: of cuts and order.
        ranks: this process among those that share each batch.
    """

    def __init__(
        self,
        timelines: Timelines,
        collator: Collator,
        *,
        length: int,
        batch_size: int,
        since: int | None = None,
        seed: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        self.timelines = timelines
        self.collator = collator
        self.length = length
        self.batch_size = batch_size
        self.ranks = ranks
        self.position = Position(seed)
        self._targets = _Targets(timelines, since)
        # A timeline without a target teaches nothing, nor does what is long before the first one.
        self._users, first_states = self._targets.first()
        self._begins = (first_states - 1 - length // 2).clamp(min=0)
        whole = timelines.offsets[self._users + 1] - timelines.offsets[self._users]
        self._sizes = whole - self._begins
        self._num_windows = (-(-self._sizes // length)).clamp(min=1)
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
        users, begins, ends = self._cut(draws)
        order = torch.randperm(len(users), generator=draws("windows", 0))
        for number, chosen in enumerate(torch.split(order, self.batch_size)):
            if number < first:
                continue
            batch = self._batch(users[chosen], begins[chosen], ends[chosen])
            self.position.next_batch = number + 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where in which epoch the loader stands: the global batches handed out so far."""
        return self.position.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken, by any number of ranks."""
        self.position.load_state_dict(state, num_batches=len(self))

    def _cut(self, draws: Draws) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Timeline, begin and end of every window, the latter within all events."""
        drawn = torch.rand(len(self._users), generator=draws("cuts", 0), dtype=torch.float64)
        first = self._shortest + (drawn * (self.length + 1 - self._shortest)).long()
        first = torch.where(self._num_windows == 1, self._sizes, first)
        users = torch.repeat_interleave(self._users, self._num_windows)
        place = torch.arange(len(users)) - torch.repeat_interleave(
            self._num_windows.cumsum(0) - self._num_windows, self._num_windows
        )
        firsts, sizes = (
            torch.repeat_interleave(values, self._num_windows) for values in (first, self._sizes)
        )
        begins = (firsts + (place - 1) * self.length).clamp(min=0)
        begins = torch.where(place == 0, 0, begins)
        ends = torch.minimum(firsts + place * self.length, sizes)
        base = self.timelines.offsets[users] + torch.repeat_interleave(self._begins, self._num_windows)
        return users, base + begins, base + ends

    def _batch(self, users: torch.Tensor, begins: torch.Tensor, ends: torch.Tensor) -> Batch:
        part = self.ranks.part(len(users))
        own = part.positions
        all_counts = self._targets.of_windows(users, begins, ends).lengths
        targets = self._targets.of_windows(users[own], begins[own], ends[own])
        chosen = targets.values
        asked = torch.repeat_interleave(torch.arange(len(own)), targets.lengths)
        states = self._targets.states[chosen] - (begins[own] - self.timelines.offsets[users[own]])[asked]
        events = self._targets.events[chosen]
        item_rows, instants = self.timelines.items[events].long(), self.timelines.timestamps[events]
        stands_in = part.is_empty or not len(chosen)
        if not len(chosen):
            asked, states, item_rows, instants = (torch.tensor([value]) for value in (0, 0, 1, 0))
        batch = self.collator.sequences(
            self.timelines,
            users=self.timelines.user_rows[users[own]],
            history=(begins[own], ends[own]),
            instants=self._instants_after(users[own], ends[own]),
            asked=Asked(asked, states, instants),
        )
        batch.item_rows = item_rows
        if stands_in:
            batch.weights, batch.share = torch.zeros(len(item_rows)), 0.0
        else:
            batch.share = self.ranks.num_ranks * len(chosen) / int(all_counts.sum())
        return batch

    def _instants_after(self, users: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """[B] instant of the event that follows each window; of its last one where none does."""
        last = self.timelines.offsets[users + 1] - 1
        places = torch.minimum(ends, last).clamp(min=0)
        return self.timelines.timestamps[places]


class _Targets:
    """The positives that are learnt from, in order, with the state that answers each.

    Args:
        timelines: of the train split.
        since: leave out earlier ones.
    """

    def __init__(self, timelines: Timelines, since: int | None) -> None:
        wanted = timelines.positives & (timelines.items > 0)
        if since is not None:
            wanted &= timelines.timestamps >= since
        self.events = wanted.nonzero().flatten()
        self.states = timelines.num_before()[self.events]
        self._user = timelines.user_of_event[self.events]
        self._offsets = timelines.offsets
        # Users have one state more than events; keys ascend over all targets.
        self._keys = self.states + self._offsets[self._user] + self._user

    def first(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Timelines that have a target, and the state that answers the first one of each."""
        users, counts = torch.unique_consecutive(self._user, return_counts=True)
        return users, self.states[counts.cumsum(0) - counts]

    def of_windows(self, users: torch.Tensor, begins: torch.Tensor, ends: torch.Tensor) -> Bags:
        """Targets (positions among `events`) that states of each window answer.

        State 0 of a window that is not a timeline's first knows less than was there: it is not asked.
        """
        starts = begins + users
        is_first = begins == self._offsets[users]
        lowest = torch.where(is_first, starts, starts + 1)
        low = torch.searchsorted(self._keys, lowest)
        high = torch.searchsorted(self._keys, ends + users, right=True)
        return select_spans(torch.arange(len(self.events)), low, high)
