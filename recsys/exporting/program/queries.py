"""Query networks: what a retrieval file makes of a user, a history and a context.

Legend: B queries, V items of their histories, L longest history, S = L + 1 states, D dimension, I catalogue
rows.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)
# mypy: no-warn-return-any

from typing import Any, Dict, List, Optional, Tuple, cast

import torch
from torch import nn

from recsys.exporting.program.columns import pick
from recsys.exporting.program.instants import as_seconds
from recsys.exporting.program.interfaces import Head, SequenceHead
from recsys.exporting.program.types import Past, Record


class PooledQuery(nn.Module):
    """A tower that reads the history as a bag of items, which is among its inputs."""

    head: Head

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = cast(Head, head)

    def forward(
        self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor, events: List[torch.Tensor]
    ) -> torch.Tensor:
        """Vectors [B, D]; see `SequenceQuery`."""
        return self.head.forward(embedded, dense)

    def events(self, past: Past, candidates: torch.Tensor) -> List[torch.Tensor]:
        """Nothing beyond the bags."""
        return []


class NoWeights(nn.Module):
    """Says of each query that nothing is known of a weight of behaviour."""

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:
        """[B] of -1."""
        return torch.full((dense.size(0),), -1.0)


class NothingAdded(nn.Module):
    """Stands where a model adds nothing to the products of its vectors."""

    def forward(self, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """[B, 0]."""
        return torch.zeros(lengths.numel(), 0)

    def append(self, vectors_ND: torch.Tensor, vectors_ID: torch.Tensor) -> None:
        """Takes new items, to which nothing is added either."""


class Weights(nn.Module):
    """The weight of behaviour in each query, by a query tower that mixes it with content."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:
        """[B] from 0 to 1; `embedded` holds the number of events."""
        return self.tower.behaviour_weights(embedded, dense)  # type: ignore[operator]


class ContentQuery(nn.Module):
    """A tower that reads the history as a bag of items with their content.

    The mean of their vectors is read, of items that were added since, too, and how many they are: each event
    counts at once.

    Args:
        head: the tower.
        length: latest items that it sees.
        items_name: under which the tower looks for the mean.
        count_name: under which it looks for their number.
    """

    head: Head

    def __init__(self, head: nn.Module, *, length: int, items_name: str, count_name: str) -> None:
        super().__init__()
        self.head = cast(Head, head)
        self.length = length
        self.items_name = items_name
        self.count_name = count_name

    def forward(
        self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor, events: List[torch.Tensor]
    ) -> torch.Tensor:
        """Vectors [B, D]; see `SequenceQuery`."""
        embedded[self.items_name] = events[0]
        embedded[self.count_name] = events[1]
        return self.head.forward(embedded, dense)

    def events(self, past: Past, candidates: torch.Tensor) -> List[torch.Tensor]:
        """Mean of the vectors of the latest items [B, D], and their number [B, 1]."""
        rows, lengths = past[0]
        if lengths.numel() == 1:  # a third of the operators, whose number is the time of one request
            seen = rows[max(rows.numel() - self.length, 0) :]
            count = torch.full((1, 1), float(seen.numel()))
            if seen.numel() == 0:
                return [torch.zeros(1, candidates.size(1)), count]
            return [candidates.index_select(0, seen).mean(dim=0, keepdim=True), count]
        ends = torch.cumsum(lengths, 0)
        latest = torch.repeat_interleave(ends, lengths) - torch.arange(rows.numel()) <= self.length
        request = torch.repeat_interleave(torch.arange(lengths.numel()), lengths)[latest]
        counts = lengths.clamp(max=self.length).float().unsqueeze(1)
        sums = torch.zeros(lengths.numel(), candidates.size(1))
        sums.index_add_(0, request, candidates.index_select(0, rows[latest]))
        return [sums / counts.clamp(min=1.0), counts]


class SequenceQuery(nn.Module):
    """A tower that reads the history item by item, with the times between them.

    Args:
        head: the tower.
        length: latest items that it sees.
        width: the first so many coordinates of an item's vector are what stands in a history.
        time_fields: names under which a context may hold the time of the request.
        per_second: units of a numeric timestamp to the second.
    """

    head: SequenceHead
    time_fields: List[str]

    def __init__(
        self,
        head: nn.Module,
        *,
        length: int,
        width: int,
        time_fields: List[str],
        per_second: int,
    ) -> None:
        super().__init__()
        self.head = cast(SequenceHead, head)
        self.length = length
        self.width = width
        self.time_fields = time_fields
        self.per_second = per_second

    def forward(
        self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor, events: List[torch.Tensor]
    ) -> torch.Tensor:
        """Vectors [B, D].

        Args:
            embedded: features of the users and the contexts.
            dense: those that are numbers.
            events: of the histories.
        """
        kept = events[4]
        states_BSD = self.head.forward(embedded, dense, events[0], events[1], events[2], events[3])
        return states_BSD[torch.arange(kept.numel()), kept]

    def events(self, past: Past, candidates: torch.Tensor) -> List[torch.Tensor]:
        """Of the items that are seen, vectors [B, L, D], whether they were liked [B, L], instants [B, S].

        Then whether the instants are known [B], and how many items are seen [B].

        Args:
            past: of the requests. Without times, or where one is missing, those of the whole history are
                unknown; all items were liked where it is not said.
            candidates: [I, D] vectors of the catalogue.
        """
        history, times, liked, contexts = past
        rows, lengths = history
        kept = lengths.clamp(max=self.length)
        ends = torch.cumsum(lengths, 0)
        latest = torch.repeat_interleave(ends, lengths) - torch.arange(rows.numel()) <= self.length
        longest = int(kept.max()) if kept.numel() > 0 else 0
        mask_BL = torch.arange(longest) < kept[:, None]
        items_BLD = torch.zeros(lengths.numel(), longest, self.width)
        items_BLD[mask_BL] = candidates[rows[latest], : self.width]
        positives_BL = self._positives(mask_BL, lengths, liked)
        instants_BS, known_B = self._instants(lengths, kept, times, contexts, longest)
        return [items_BLD, positives_BL, instants_BS, known_B, kept]

    def _positives(
        self, mask_BL: torch.Tensor, lengths: torch.Tensor, liked: Optional[List[List[bool]]]
    ) -> torch.Tensor:
        """[B, L] whether each item that is seen was liked."""
        if liked is None:
            return mask_BL
        if len(liked) != lengths.numel():
            raise ValueError(
                f"`history_liked` must be about {lengths.numel()} histories, it is about {len(liked)}"
            )
        positives_BL = torch.zeros_like(mask_BL)
        for query, given in enumerate(liked):
            if len(given) != int(lengths[query]):
                raise ValueError(
                    f"`history_liked` must have a truth value for each of the {int(lengths[query])} items of "
                    f"the history, got {len(given)}"
                )
            seen = min(len(given), self.length)
            positives_BL[query, :seen] = torch.tensor(given[len(given) - seen :], dtype=torch.bool)
        return positives_BL

    def _instants(
        self,
        lengths: torch.Tensor,
        kept: torch.Tensor,
        times: Optional[List[List[Any]]],
        contexts: List[Record],
        longest: int,
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """[B, S] seconds from each history's first item that is seen, and whether they are known [B]."""
        known = torch.zeros(lengths.numel(), dtype=torch.bool)
        instants = torch.zeros(lengths.numel(), longest + 1)
        if times is None:
            return instants, known
        if len(times) != lengths.numel():
            raise ValueError(
                f"`history_times` must have the times of {lengths.numel()} histories, got {len(times)}"
            )
        for query, given in enumerate(times):
            if len(given) != int(lengths[query]):
                raise ValueError(
                    f"`history_times` must have a time for each of the {int(lengths[query])} items of the "
                    f"history, got {len(given)}"
                )
            seconds = self._seconds(given[len(given) - int(kept[query]) :], contexts[query])
            if len(seconds) > 0:
                known[query] = True
                exact = torch.tensor(seconds, dtype=torch.int64)
                instants[query, : exact.numel()] = (exact - exact[0]).float()
        return instants, known

    def _seconds(self, times: List[Any], context: Record) -> List[int]:
        """Seconds of all `times` and of the request; empty where one of them is not known."""
        asked, _ = pick([context], self.time_fields)
        nothing: List[int] = []
        if len(asked) == 0:
            return nothing
        seconds: List[int] = []
        for value in times:
            second = as_seconds(value, self.per_second, "history_times")
            if second is None:
                return nothing
            seconds.append(second)
        end = as_seconds(asked[0], self.per_second, self.time_fields[0])
        if end is None:
            return nothing
        seconds.append(end)
        return seconds
