"""Interfaces of the scripted modules.

TorchScript copies a submodule's code into its caller and unrolls loops over modules: with dozens of features
the first two calls of a method then take seconds, for optimising. A call through an interface stays a call,
and modules of one class share their optimised code.

Legend: B examples, N values, V rows of bags, D embedding dimension.
"""
# ruff: noqa: UP006, UP035 (scripted)

from typing import Any, Dict, List, Tuple

import torch
from torch import nn

from recsys.exporting.program.types import Bag, Record


@torch.jit.interface
class RowIndex(nn.Module):
    """Raw values -> rows of a table."""

    def rows_of(self, given: List[Any]) -> torch.Tensor:  # type: ignore[empty-body]
        """Rows [N]; 0 for what is missing or unknown."""
        pass


@torch.jit.interface
class IdIndex(nn.Module):
    """Raw ids -> rows of the users or of the catalogue."""

    def rows_of(self, given: List[Any]) -> torch.Tensor:  # type: ignore[empty-body]
        """Rows [N]; 0 for what is missing or unknown."""
        pass

    def check_new(self, given: List[Any]) -> None:
        """Raises unless each is an id, unknown, and there once."""
        pass

    def add(self, given: List[Any], first_row: int) -> None:
        """Gives new ids the rows from `first_row` on."""
        pass


@torch.jit.interface
class BagEncoder(nn.Module):
    """Raw values of a sparse feature -> bags of rows."""

    def forward(self, given: List[Any]) -> Bag:  # type: ignore[empty-body]
        """Values [V] and lengths [N]."""
        pass


@torch.jit.interface
class NumberEncoder(nn.Module):
    """Raw values of a dense feature -> floats."""

    def forward(self, given: List[Any]) -> torch.Tensor:  # type: ignore[empty-body]
        """[N] float32."""
        pass


@torch.jit.interface
class BagColumn(nn.Module):
    """Records -> bags of one sparse feature."""

    def forward(self, records: List[Record], rows: torch.Tensor) -> Bag:  # type: ignore[empty-body]
        """Values [V] and lengths [B] for records whose users or items stand in `rows` [B]."""
        pass

    def append(self, values: torch.Tensor, lengths: torch.Tensor) -> None:
        """Stores bags, values [V] and lengths [N], behind those of the known users or items."""
        pass


@torch.jit.interface
class NumberColumn(nn.Module):
    """Records -> floats of one dense feature."""

    def forward(  # type: ignore[empty-body]
        self, records: List[Record], rows: torch.Tensor
    ) -> torch.Tensor:
        """[B] float32."""
        pass

    def append(self, numbers: torch.Tensor) -> None:
        """Stores [N] numbers behind those of the known users or items."""
        pass


@torch.jit.interface
class BagLookup(nn.Module):
    """Bags of all features -> embeddings of one."""

    def forward(self, bags: Dict[str, Bag], size: int) -> torch.Tensor:  # type: ignore[empty-body]
        """[size, D]; one bag stands for all `size` examples."""
        pass


@torch.jit.interface
class KeyTally(nn.Module):
    """Events by key, for one window."""

    def add(self, key: int, time: int, positive: float, label: float) -> None:
        """Counts an event."""
        pass

    def at(self, key: int, time: int) -> Tuple[float, float, float, int]:  # type: ignore[empty-body]
        """Count, positives, sum of labels and latest instant in the window strictly before `time`."""
        pass


@torch.jit.interface
class Head(nn.Module):
    """A tower or a head of the trained model."""

    def forward(  # type: ignore[empty-body]
        self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor
    ) -> torch.Tensor:
        """[B, ...] from embedded features [B, D] and dense values."""
        pass


@torch.jit.interface
class SequenceHead(nn.Module):
    """The query tower of a trained model that reads histories event by event."""

    def forward(  # type: ignore[empty-body]
        self,
        embedded: Dict[str, torch.Tensor],
        dense: torch.Tensor,
        items_BLD: torch.Tensor,
        positives_BL: torch.Tensor,
        instants_BS: torch.Tensor,
        times_known_B: torch.Tensor,
    ) -> torch.Tensor:
        """States [B, L + 1, ...]; see `recsys.models.sequence_two_tower.SequenceTower`."""
        pass


@torch.jit.interface
class AttributeIndex(nn.Module):
    """Raw values of an item attribute -> the items that hold them; see `recsys.exporting.program.filters`."""

    def rows_of_any(self, given: List[Any]) -> torch.Tensor:  # type: ignore[empty-body]
        """Catalogue rows of the items that hold any of the values."""
        pass

    def add(self, given: List[Any], rows: List[int]) -> None:
        """Takes up the values of items that were not there before."""
        pass


class TrainedHead(nn.Module):
    """A tower or head, whatever it calls its arguments."""

    def __init__(self, trained: nn.Module) -> None:
        super().__init__()
        self.trained = trained

    def forward(self, embedded: Dict[str, torch.Tensor], dense: torch.Tensor) -> torch.Tensor:
        """Runs the trained module."""
        result: torch.Tensor = self.trained(embedded, dense)
        return result
