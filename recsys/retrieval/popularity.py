"""Popularity of late: what was liked in the days before a request, known strictly before it.

Legend: E events, B queries, I catalogue rows, N candidates, P windows, T periods.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

_DAY = 86_400_000_000  # microseconds
_MOST_BYTES = 256_000_000


class Popularity:
    """log of how many times its even share each item had of all events in a window before a period begins.

    With c the events of an item in the window, C those of all items and I the number of items, a feature is
    log((c + 1) / (C + I) * I): 0 where nothing is known. A period is a day (UTC), or several where the
    features of all days would take too much memory.

    Args:
        items: [E] catalogue rows, in the order of time.
        timestamps: [E] int64, microseconds since 1970 (UTC).
        num_items: I, row 0 included.
        windows: days that each feature looks back; None looks back to the beginning.

    Example:
        >>> day = 86_400_000_000
        >>> seen = Popularity(torch.tensor([1, 1, 2]), torch.tensor([0, 5, day]), num_items=4, windows=[1])
        >>> shares = seen.features(torch.tensor([day + 7])).exp().flatten()
        >>> [round(share, 3) for share in shares.tolist()]  # 1, 3, 1 and 1 of 2 + 4, times 4
        [0.667, 2.0, 0.667, 0.667]
    """

    def __init__(
        self,
        items: torch.Tensor,
        timestamps: torch.Tensor,
        *,
        num_items: int,
        windows: Sequence[int | None],
    ) -> None:
        first, last = (int(timestamps[0]), int(timestamps[-1])) if len(timestamps) else (0, 0)
        num_days = last // _DAY - first // _DAY + 2
        days = max(1, -(-num_days * num_items * len(windows) * 4 // _MOST_BYTES))
        self._begin = first // _DAY * _DAY
        self._length = days * _DAY
        num_periods = -(-num_days // days)
        begins = self._begin + torch.arange(num_periods) * self._length
        ends = torch.searchsorted(timestamps, begins)
        self._table_TIP = torch.empty(num_periods, num_items, len(windows))
        self._unseen_TP = torch.empty(num_periods, len(windows))
        for place, window in enumerate(windows):
            since = begins - window * _DAY if window is not None else torch.full_like(begins, first)
            starts = torch.searchsorted(timestamps, since)
            for period in range(num_periods):
                counts_I = torch.bincount(items[starts[period] : ends[period]], minlength=num_items).float()
                share_I = (counts_I + 1) / (counts_I.sum() + num_items)
                self._table_TIP[period, :, place] = (share_I * num_items).log()
                self._unseen_TP[period, place] = (num_items / (counts_I.sum() + num_items)).log()

    def to(self, device: torch.device) -> Popularity:
        """These features on `device`."""
        self._table_TIP = self._table_TIP.to(device)
        return self

    @property
    def num_windows(self) -> int:
        """P."""
        return self._table_TIP.shape[2]

    def periods(self, instants: torch.Tensor) -> torch.Tensor:
        """[B] periods of instants, in microseconds; the first or last one for what lies outside."""
        return ((instants - self._begin) // self._length).clamp(0, len(self._table_TIP) - 1)

    def features(self, instants: torch.Tensor) -> torch.Tensor:
        """[B, I, P] features at these instants."""
        return self._table_TIP[self.periods(instants)]

    @property
    def latest(self) -> torch.Tensor:
        """[I, P] features at the end of the events."""
        return self._table_TIP[-1]

    @property
    def latest_of_unseen(self) -> torch.Tensor:
        """[P] features at the end of the events of an item that has none."""
        return self._unseen_TP[-1]

    def by_period(self, instants_B: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Positions [G] of instants and the features [I, P] then, a pair a period: every instant once."""
        periods_B = self.periods(instants_B)
        order_B = torch.argsort(periods_B, stable=True)
        periods, counts = torch.unique_consecutive(periods_B[order_B], return_counts=True)
        positions = torch.split(order_B, counts.tolist())
        tables = [self._table_TIP[period] for period in periods.tolist()]
        return list(zip(positions, tables, strict=True))

    def scores(
        self, weights_BP: torch.Tensor, instants_B: torch.Tensor, rows_N: torch.Tensor
    ) -> torch.Tensor:
        """[B, N] products of each query's weights and the features of the candidates at its instant.

        Args:
            weights_BP: of the features.
            instants_B: when is asked.
            rows_N: candidates.
        """
        periods = self.by_period(instants_B)
        order_B = torch.cat([positions for positions, _ in periods])
        scores = [
            weights_BP[positions] @ features_IP[rows_N].T.to(weights_BP.dtype)
            for positions, features_IP in periods
        ]
        return torch.cat(scores)[torch.argsort(order_B)]
