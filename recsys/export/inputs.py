"""Inputs: records -> embedded features and dense values, as a tower or a head takes them.

The tables of a trained model (`recsys.nn.embeddings.FeatureTables`) become torch's own look-ups here, so that
the file loads without TorchRec and FBGEMM.

Legend: B examples, D embedding dimension, L longest bag, R rows of a table, V rows of bags.
"""
# ruff: noqa: UP006, UP035 (scripted)
# mypy: no-warn-return-any

from typing import Any, Dict, List, Sequence, Tuple, cast

import torch
from torch import nn

from recsys.export.interfaces import BagColumn, BagLookup, Head, NumberColumn
from recsys.export.options import TableType
from recsys.nn.cross import cross_ids

_LEVELS = 255


class Lookup(nn.Module):
    """Mean embedding of the bags of one feature; zeros for an empty bag.

    Args:
        feature: whose bags are looked up.
        weight: [R, D]; see `restored`.
        scales: the same.
    """

    weight: torch.Tensor
    scales: torch.Tensor

    def __init__(self, feature: str, weight: torch.Tensor, scales: torch.Tensor) -> None:
        super().__init__()
        self.feature = feature
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)

    def forward(self, bags: Dict[str, Tuple[torch.Tensor, torch.Tensor]], size: int) -> torch.Tensor:
        """[size, D]; one bag stands for all `size` examples."""
        values, lengths = bags[self.feature]
        if are_single(values, lengths):
            embedded = restored(self.weight, self.scales, values)
        else:
            embedded = mean_of_bags(self.weight, self.scales, values, lengths)
        return embedded if embedded.size(0) == size else embedded.expand(size, -1)


class EachLookup(nn.Module):
    """Embeddings of the rows of one feature's bags, each for itself; zeros behind the end of a bag.

    Args:
        feature: whose bags are looked up.
        weight: [R, D]; see `restored`.
        scales: the same.
    """

    weight: torch.Tensor
    scales: torch.Tensor

    def __init__(self, feature: str, weight: torch.Tensor, scales: torch.Tensor) -> None:
        super().__init__()
        self.feature = feature
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)

    def forward(self, bags: Dict[str, Tuple[torch.Tensor, torch.Tensor]], size: int) -> torch.Tensor:
        """[size, L, D], L the longest bag; one bag stands for all `size` examples."""
        values, lengths = bags[self.feature]
        longest = int(lengths.max()) if lengths.numel() > 0 else 0
        padded = torch.zeros(lengths.numel(), longest, self.weight.size(1))
        padded[torch.arange(longest) < lengths[:, None]] = restored(self.weight, self.scales, values)
        return padded if padded.size(0) == size else padded.expand(size, -1, -1)


class CrossLookup(nn.Module):
    """Mean embedding of the crosses of several features; see `recsys.nn.cross`."""

    parts: List[str]
    weight: torch.Tensor
    scales: torch.Tensor

    def __init__(self, parts: Sequence[str], weight: torch.Tensor, scales: torch.Tensor) -> None:
        super().__init__()
        self.parts = list(parts)
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)

    def forward(self, bags: Dict[str, Tuple[torch.Tensor, torch.Tensor]], size: int) -> torch.Tensor:
        """[size, D]; one bag stands for all `size` examples."""
        values, lengths = crossed(bags, self.parts, size, self.weight.size(0))
        return mean_of_bags(self.weight, self.scales, values, lengths)


class Inputs(nn.Module):
    """The inputs of one tower or head.

    Args:
        sparse: name, role and column of every sparse feature but the history.
        dense: role and column of every dense feature, in the order of `Batch.dense`.
        lookups: name and look-up of every embedded feature.
    """

    sparse_names: List[str]
    sparse_roles: List[str]
    dense_roles: List[str]
    lookup_names: List[str]

    def __init__(
        self,
        *,
        sparse: Sequence[Tuple[str, str, nn.Module]],
        dense: Sequence[Tuple[str, nn.Module]],
        lookups: Sequence[Tuple[str, nn.Module]],
    ) -> None:
        super().__init__()
        self.sparse_names = [name for name, _, _ in sparse]
        self.sparse_roles = [role for _, role, _ in sparse]
        self.sparse = nn.ModuleList([column for _, _, column in sparse])
        self.dense_roles = [role for role, _ in dense]
        self.dense = nn.ModuleList([column for _, column in dense])
        self.lookup_names = [name for name, _ in lookups]
        self.lookups = nn.ModuleList([lookup for _, lookup in lookups])

    def bags(
        self, records: Dict[str, List[Dict[str, Any]]], rows: Dict[str, torch.Tensor]
    ) -> Dict[str, Tuple[torch.Tensor, torch.Tensor]]:
        """Values and lengths of every sparse feature; records and rows by role."""
        found: Dict[str, Tuple[torch.Tensor, torch.Tensor]] = {}
        for position, name in enumerate(self.sparse_names):
            column: BagColumn = self.sparse[position]  # type: ignore[assignment]
            role = self.sparse_roles[position]
            found[name] = column.forward(records[role], rows[role])
        return found

    def numbers(
        self, records: Dict[str, List[Dict[str, Any]]], rows: Dict[str, torch.Tensor], size: int
    ) -> torch.Tensor:
        """[size, number of dense features]; one record of a role stands for all `size` examples."""
        found: List[torch.Tensor] = []
        for position, role in enumerate(self.dense_roles):
            column: NumberColumn = self.dense[position]  # type: ignore[assignment]
            found.append(column.forward(records[role], rows[role]).expand(size))
        return torch.stack(found, dim=1) if len(found) > 0 else torch.zeros(size, 0)

    def embed(self, bags: Dict[str, Tuple[torch.Tensor, torch.Tensor]], size: int) -> Dict[str, torch.Tensor]:
        """[size, D] of every embedded feature; [size, L, D] of what is embedded one by one."""
        embedded: Dict[str, torch.Tensor] = {}
        for position, name in enumerate(self.lookup_names):
            lookup: BagLookup = self.lookups[position]  # type: ignore[assignment]
            embedded[name] = lookup.forward(bags, size)
        return embedded


class Network(nn.Module):
    """A tower or head of the trained model behind its inputs."""

    head: Head

    def __init__(self, inputs: Inputs, head: nn.Module) -> None:
        super().__init__()
        self.inputs = inputs
        self.head = cast(Head, head)

    def forward(
        self, bags: Dict[str, Tuple[torch.Tensor, torch.Tensor]], dense: torch.Tensor
    ) -> torch.Tensor:
        """What the trained model makes of B examples; bags of one example stand for all of them."""
        return self.head.forward(self.inputs.embed(bags, dense.size(0)), dense)


def crossed(
    bags: Dict[str, Tuple[torch.Tensor, torch.Tensor]], parts: List[str], size: int, num_rows: int
) -> Tuple[torch.Tensor, torch.Tensor]:
    """Values and lengths [size] of the cross of several features, in a table of `num_rows`."""
    found: List[Tuple[torch.Tensor, torch.Tensor]] = []
    for part in parts:
        values, lengths = bags[part]
        if lengths.numel() != size:
            values, lengths = values.repeat(size), lengths.repeat(size)
        found.append((values, lengths))
    return cross_ids(found, num_rows)


def are_single(values: torch.Tensor, lengths: torch.Tensor) -> bool:
    """Whether every bag holds one row, which then is its mean."""
    return values.numel() == lengths.numel() and bool((lengths == 1).all())


def mean_of_bags(
    weight: torch.Tensor, scales: torch.Tensor, values: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """[B, D] mean of the rows of each bag, zeros for an empty one."""
    offsets = torch.cumsum(lengths, 0) - lengths
    if weight.dtype != torch.float32:
        if values.numel() == 0:
            return torch.zeros(lengths.numel(), weight.size(1))
        weight = restored(weight, scales, values)
        values = torch.arange(values.numel())
    return torch.nn.functional.embedding_bag(values, weight, offsets, mode="mean")


def restored(weight: torch.Tensor, scales: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Rows [V, D] of a table as float32.

    Args:
        weight: [R, D] float32, float16, or whole numbers of steps.
        scales: [R, 2] step and least value of each row of steps; empty for the others.
        rows: [V].
    """
    found = weight.index_select(0, rows).float()
    if scales.numel() == 0:
        return found
    return found * scales[rows, :1] + scales[rows, 1:]


def stored(weight: torch.Tensor, kind: TableType) -> Tuple[torch.Tensor, torch.Tensor]:
    """What a file holds of a table [R, D]: the arguments of `restored`.

    Args:
        weight: [R, D] float32.
        kind: `float32`, as it is; `float16`; `int8`, 256 even steps from the least to the greatest of a row.
    """
    nothing = torch.zeros(0, 2)
    if kind == "float32":
        return weight, nothing
    if kind == "float16":
        return weight.half(), nothing
    least, greatest = weight.amin(dim=1, keepdim=True), weight.amax(dim=1, keepdim=True)
    step = ((greatest - least) / _LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
    levels = ((weight - least) / step).round().clamp(0, _LEVELS).to(torch.uint8)
    return levels, torch.cat([step, least], dim=1)
