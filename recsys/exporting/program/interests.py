"""Interests: what a reader says to like, read as a history of items of which nothing else is known.

    {"user_id": "r1", "interests.authors": ["Ann Ode"], "interests.category": ["Fiction > Crime"]}

stands for two events before the history: an item by that author, and an item of that category.

Legend: B requests, V events of their histories, N interests of all of them, D dimension.
"""
# ruff: noqa: UP006, UP035 (scripted)

from typing import Any, List, Tuple

import torch
from torch import nn

from recsys.exporting.program.types import Bag, Record
from recsys.exporting.program.values import elements, is_list


class Interests(nn.Module):
    """Reads the fields `interests.NAME` of users.

    Args:
        names: fields of the items' table that may be named so; none of models that read histories by id.
        prefix: before them.
    """

    names: List[str]

    def __init__(self, names: List[str], *, prefix: str) -> None:
        super().__init__()
        self.names = names
        self.prefix = prefix

    def forward(self, users: List[Record]) -> Tuple[List[Record], List[int]]:
        """Items of one field each [N], user by user, and how many each user has [B]."""
        items: List[Record] = []
        counts: List[int] = []
        for user in users:
            before = len(items)
            for name in self.names:
                field = self.prefix + name
                if field in user:
                    for value in self._values(user[field]):
                        item: Record = {name: value}
                        items.append(item)
            counts.append(len(items) - before)
        return items, counts

    def _values(self, value: Any) -> List[Any]:
        """Returns the values of a list, or the one value; none of None."""
        if is_list(value):
            return elements(value)
        values: List[Any] = []
        if value is not None:
            values.append(value)
        return values


def before_histories(
    past: Bag, candidates: torch.Tensor, vectors_ND: torch.Tensor, counts: List[int]
) -> Tuple[Bag, torch.Tensor]:
    """Histories with the interests as their oldest events, and the vectors [V + N, D] that their rows name.

    Args:
        past: catalogue rows and lengths of B histories.
        candidates: vectors of the catalogue.
        vectors_ND: of the interests.
        counts: interests of each request.
    """
    rows, lengths = past
    sizes: List[int] = lengths.tolist()
    parts: List[torch.Tensor] = []
    event, interest = 0, rows.numel()
    for position, size in enumerate(sizes):
        parts.append(torch.arange(interest, interest + counts[position]))
        parts.append(torch.arange(event, event + size))
        interest += counts[position]
        event += size
    table = torch.cat([candidates.index_select(0, rows), vectors_ND])
    return (torch.cat(parts), lengths + torch.tensor(counts, dtype=torch.int64)), table


def liked_before(liked: List[List[bool]], counts: List[int]) -> List[List[bool]]:
    """Whether each event was liked, of histories that begin with interests, which all are."""
    longer: List[List[bool]] = []
    for position, given in enumerate(liked):
        longer.append([True for _ in range(counts[position])] + given)
    return longer
