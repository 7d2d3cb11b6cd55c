"""DataFacts: how large a train split is, for what is sized by it."""

from __future__ import annotations

import dataclasses

# Share of the catalogue from which on new items are no exception any more.
MANY_NEW_ITEMS = 0.1


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """Numbers of a prepared dataset's train split.

    Args:
        num_users: known ones that have a positive.
        num_items: of the catalogue.
        num_rows: all of them.
        num_positives: rows that are positives.
        num_features: of users, items and context that have embeddings, histories not counted.
        median_history, long_history: positives of the user in the middle, and of the one whom a tenth of the
            users exceed.
        num_new_items: of the catalogue, those without a train row that have words, tags or other values that
            train knows, by which a model can place them.
        leave_out: names of features that the model does not read; what they hold does not count.
    """

    num_users: int
    num_items: int
    num_rows: int
    num_positives: int
    num_features: int
    median_history: float
    long_history: float
    num_new_items: int = 0
    leave_out: tuple[str, ...] = ()

    @property
    def has_many_new_items(self) -> bool:
        """Whether a tenth of the catalogue or more is new and can be placed by content."""
        return self.num_new_items >= MANY_NEW_ITEMS * max(self.num_items, 1)

    @property
    def density(self) -> float:
        """Share of all pairs of user and item that are positives."""
        return self.num_positives / max(self.num_users * self.num_items, 1)

    def __str__(self) -> str:
        """One line for a log."""
        rows = f"{self.num_positives:,} positives of {self.num_rows:,} rows"
        if not self.num_users:
            return f"{rows}, of no known user"
        return (
            f"{rows}, {self.num_users:,} users "
            f"(half of them with {self.median_history:g} positives or more, a tenth with more than "
            f"{self.long_history:g}), {self.num_items:,} items ({self.num_new_items:,} of them new, with "
            f"content), density {self.density:.2%}"
        )
