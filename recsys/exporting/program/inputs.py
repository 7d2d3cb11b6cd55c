"""Inputs: records -> embedded features and dense values, as a tower or a head takes them.

The tables of a trained model (`recsys.nn.embeddings.FeatureTables`) become torch's own look-ups here, so that
the file loads without TorchRec and FBGEMM.

NOTE: tables of few bits are read back by plain operators. torch has fused ones that take less than half of
the time (`quantized::embedding_bag_byte_rowwise_offsets` and `_4bit_`; 16 us in place of 37 for 500 rows of
64 bytes, torch 2.13, one core); but they only sum, the first keeps eight bytes of scale a row, and
`torch.export` does not take the second, which compiled packages need.

Legend: B examples, D embedding dimension, L longest bag, R rows of a table, V rows of bags.
"""
# ruff: noqa: UP006, UP035 (scripted)
# mypy: no-warn-return-any

from typing import Dict, List, Sequence, Tuple, cast

import torch
from torch import nn

from recsys.exporting.options import TableType
from recsys.exporting.program.interfaces import BagColumn, BagLookup, Head, NumberColumn
from recsys.exporting.program.types import Bag, Features, Record, Records, Rows
from recsys.nn.cross import cross_ids
from recsys.nn.pooling import normalised_weights
from recsys.nn.vectors import projected, with_difference

_ITEM = "item"
# Items that are embedded at once when all of them are.
_AT_ONCE = 8192
# Even steps from the least to the greatest value of a row.
_STEPS = {"int8": 255, "int4": 15}


class Lookup(nn.Module):
    """Embeddings of the bags of one feature, or of the cross of several (`recsys.nn.cross`).

    Args:
        parts: the feature, or the features that are crossed.
        weight: of R rows; see `restored`.
        scales: the same.
        width: D.
        one_by_one: whether the rows of a bag are embedded each for itself; otherwise by their mean.
        row_weights: [R] of the rows, which are then summed up by them (`recsys.nn.pooling`); or none.
    """

    parts: List[str]
    weight: torch.Tensor
    scales: torch.Tensor
    row_weights: torch.Tensor

    def __init__(
        self,
        parts: Sequence[str],
        weight: torch.Tensor,
        scales: torch.Tensor,
        width: int,
        *,
        one_by_one: bool = False,
        row_weights: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.parts = list(parts)
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)
        self.width = width
        self.one_by_one = one_by_one
        self.register_buffer("row_weights", torch.tensor(row_weights))

    def forward(self, bags: Dict[str, Bag], size: int) -> torch.Tensor:
        """[size, D], zeros for an empty bag; one by one [size, L, D], zeros behind the end of a bag.

        One bag stands for all `size` examples.
        """
        if len(self.parts) > 1:
            values, lengths = crossed(bags, self.parts, size, self.weight.size(0))
        else:
            values, lengths = bags[self.parts[0]]
        if self.one_by_one:
            longest = int(lengths.max()) if lengths.numel() > 0 else 0
            embedded = torch.zeros(lengths.numel(), longest, self.width)
            embedded[torch.arange(longest) < lengths[:, None]] = restored(
                self.weight, self.scales, self.width, values
            )
        elif self.row_weights.numel() > 0:
            embedded = weighted_sum_of_bags(
                self.weight, self.scales, self.width, self.row_weights, values, lengths
            )
        elif _are_single(values, lengths):
            embedded = restored(self.weight, self.scales, self.width, values)
        else:
            embedded = mean_of_bags(self.weight, self.scales, self.width, values, lengths)
        if embedded.size(0) == size:
            return embedded
        return embedded.expand([size] + [-1 for _ in range(embedded.dim() - 1)])


class VectorLookup(nn.Module):
    """Projection of the vectors of one feature, with the difference that was learnt to it.

    Args:
        feature: whose vectors are projected.
        projection: [D, S].
        of: the id whose rows the differences stand in; empty where there are none.
        limit: see `recsys.nn.vectors.with_difference`.
        weight: of R rows of differences; see `restored`.
        scales: the same.
    """

    parts: List[str]
    projection: torch.Tensor
    weight: torch.Tensor
    scales: torch.Tensor

    def __init__(
        self,
        feature: str,
        projection: torch.Tensor,
        *,
        of: str,
        limit: float,
        weight: torch.Tensor,
        scales: torch.Tensor,
    ) -> None:
        super().__init__()
        self.parts = [feature, of] if of else [feature]
        self.limit = limit
        self.size = projection.size(1)
        self.width = projection.size(0)
        self.register_buffer("projection", projection)
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales)

    def forward(self, bags: Dict[str, Bag], size: int) -> torch.Tensor:
        """[size, D]; one vector stands for all `size` examples."""
        embedded = projected(self.projection, bags[self.parts[0]][0].view(-1, self.size))
        if len(self.parts) > 1:
            rows = bags[self.parts[1]][0]
            known = (rows > 0).unsqueeze(1)
            difference = restored(self.weight, self.scales, self.width, rows) * known
            embedded = with_difference(embedded, difference, self.limit)
        return embedded if embedded.size(0) == size else embedded.expand(size, -1)


class CountLookup(nn.Module):
    """Events that the row of an id's table has had; see `recsys.nn.cold_start.EventCounts`."""

    parts: List[str]
    counts: torch.Tensor

    def __init__(self, feature: str, counts: torch.Tensor) -> None:
        super().__init__()
        self.parts = [feature]
        self.register_buffer("counts", counts)

    def forward(self, bags: Dict[str, Bag], size: int) -> torch.Tensor:
        """[size, 1]; one id stands for all `size` examples."""
        counts = self.counts.index_select(0, bags[self.parts[0]][0]).unsqueeze(1)
        return counts if counts.size(0) == size else counts.expand(size, -1)


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
    is_of_items: List[bool]
    is_read_apart: List[bool]
    widths: List[int]
    of_items: torch.Tensor

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
        # Look-ups of nothing but items give the same whoever asks; see `prepare_items`.
        roles = {name: role for name, role, _ in sparse}
        self.is_of_items = [
            not getattr(lookup, "one_by_one", False)
            and all(roles.get(part) == _ITEM for part in cast(Sequence[str], lookup.parts))
            for _, lookup in lookups
        ]
        apart = zip(lookups, self.is_of_items, strict=True)
        others = {str(part) for (_, lookup), of in apart if not of for part in cast(List[str], lookup.parts)}
        self.is_read_apart = [role != _ITEM or name in others for name, role, _ in sparse]
        self.widths = [0 for _ in lookups]
        self.at_once = _AT_ONCE
        self.register_buffer("of_items", torch.zeros(0, 0))

    def read(self, records: Records, rows: Rows, size: int) -> Features:
        """Bags of the sparse features but the history, and dense values of `size` examples.

        One record of a role stands for all of them.
        """
        numbers: List[torch.Tensor] = []
        for position, role in enumerate(self.dense_roles):
            column: NumberColumn = self.dense[position]  # type: ignore[assignment]
            numbers.append(column.forward(records[role], rows[role]).expand(size))
        dense = torch.stack(numbers, dim=1) if len(numbers) > 0 else torch.zeros(size, 0)
        return self.bags(records, rows), dense

    def bags(self, records: Records, rows: Rows) -> Dict[str, Bag]:
        """Bags of the sparse features but the history."""
        bags: Dict[str, Bag] = {}
        for position, name in enumerate(self.sparse_names):
            column: BagColumn = self.sparse[position]  # type: ignore[assignment]
            role = self.sparse_roles[position]
            bags[name] = column.forward(records[role], rows[role])
        return bags

    @torch.jit.export
    def prepare_items(self, num_rows: int, most_bytes: int) -> int:
        """Embeds all items, so that a request reads candidates from one matrix; the bytes that it takes.

        Nothing is prepared where that were more than `most_bytes`.
        """
        first = self._embedded_items(0, min(num_rows, 1))
        num_bytes = 4 * first.size(1) * num_rows
        if num_bytes > most_bytes:
            return 0
        parts: List[torch.Tensor] = []
        for begin in range(0, num_rows, self.at_once):
            end = min(begin + self.at_once, num_rows)
            parts.append(self._embedded_items(begin, end))
        self.of_items = torch.cat(parts)
        return num_bytes

    def _embedded_items(self, begin: int, end: int) -> torch.Tensor:
        """Embeds the items in catalogue rows from `begin` to `end`, their dense columns beside them."""
        rows = torch.arange(begin, end)
        nothing: List[Record] = []
        bags: Dict[str, Bag] = {}
        for position, name in enumerate(self.sparse_names):
            if self.sparse_roles[position] == "item":
                column: BagColumn = self.sparse[position]  # type: ignore[assignment]
                bags[name] = column.forward(nothing, rows)
        parts: List[torch.Tensor] = [torch.zeros(end - begin, 0)]
        for position, is_of_items in enumerate(self.is_of_items):
            if is_of_items:
                lookup: BagLookup = self.lookups[position]  # type: ignore[assignment]
                parts.append(lookup.forward(bags, end - begin))
                self.widths[position] = parts[-1].size(1)
        for position, role in enumerate(self.dense_roles):
            if role == "item":
                number: NumberColumn = self.dense[position]  # type: ignore[assignment]
                parts.append(number.forward(nothing, rows).unsqueeze(1))
        return torch.cat(parts, dim=1)

    def embed_candidates(
        self, records: Records, rows: Rows, history: Bag
    ) -> Tuple[Dict[str, torch.Tensor], torch.Tensor]:
        """Gives what `embed` and `read` do, of N prepared items for one user; of items nothing is given."""
        size = rows["item"].numel()
        items = self.of_items.index_select(0, rows["item"])
        bags: Dict[str, Bag] = {"history": history}
        for position, name in enumerate(self.sparse_names):
            if self.is_read_apart[position]:
                column: BagColumn = self.sparse[position]  # type: ignore[assignment]
                role = self.sparse_roles[position]
                bags[name] = column.forward(records[role], rows[role])
        embedded: Dict[str, torch.Tensor] = {}
        begin = 0
        for position, name in enumerate(self.lookup_names):
            if self.is_of_items[position]:
                embedded[name] = items.narrow(1, begin, self.widths[position])
                begin += self.widths[position]
            else:
                lookup: BagLookup = self.lookups[position]  # type: ignore[assignment]
                embedded[name] = lookup.forward(bags, size)
        numbers: List[torch.Tensor] = []
        for position, role in enumerate(self.dense_roles):
            if role == "item":
                numbers.append(items.select(1, begin))
                begin += 1
            else:
                number: NumberColumn = self.dense[position]  # type: ignore[assignment]
                numbers.append(number.forward(records[role], rows[role]).expand(size))
        return embedded, torch.stack(numbers, dim=1) if len(numbers) > 0 else torch.zeros(size, 0)

    def append(self, role: str, bags: Dict[str, Bag], dense: torch.Tensor) -> None:
        """Stores features of N new users or items behind those of the known ones.

        Args:
            role: whose features these are; bags and numbers of others are left alone.
            bags: values and lengths [N] of each sparse feature.
            dense: [N, number of dense features].
        """
        for position, name in enumerate(self.sparse_names):
            if self.sparse_roles[position] == role:
                column: BagColumn = self.sparse[position]  # type: ignore[assignment]
                values, lengths = bags[name]
                column.append(values, lengths)
        for position, its_role in enumerate(self.dense_roles):
            if its_role == role:
                number: NumberColumn = self.dense[position]  # type: ignore[assignment]
                number.append(dense[:, position])
        prepared = self.of_items.size(0)
        if role == "item" and prepared > 0:
            new = self._embedded_items(prepared, prepared + dense.size(0))
            self.of_items = torch.cat([self.of_items, new])

    def embed(self, bags: Dict[str, Bag], size: int) -> Dict[str, torch.Tensor]:
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

    def forward(self, bags: Dict[str, Bag], dense: torch.Tensor) -> torch.Tensor:
        """Runs the trained model on B examples; bags of one example stand for all of them."""
        return self.head.forward(self.inputs.embed(bags, dense.size(0)), dense)


def crossed(bags: Dict[str, Bag], parts: List[str], size: int, num_rows: int) -> Bag:
    """Bags of `size` examples of the cross of several features, in a table of `num_rows`."""
    each: List[Bag] = []
    for part in parts:
        values, lengths = bags[part]
        if lengths.numel() != size:
            values, lengths = values.repeat(size), lengths.repeat(size)
        each.append((values, lengths))
    return cross_ids(each, num_rows)


def _are_single(values: torch.Tensor, lengths: torch.Tensor) -> bool:
    """Whether every bag holds one row, which then is its mean."""
    return values.numel() == lengths.numel() and (values.numel() == 1 or bool((lengths == 1).all()))


def mean_of_bags(
    weight: torch.Tensor, scales: torch.Tensor, width: int, values: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """[B, D] mean of the rows of each bag, zeros for an empty one."""
    offsets = torch.cumsum(lengths, 0) - lengths
    if weight.dtype != torch.float32:
        if values.numel() == 0:
            return torch.zeros(lengths.numel(), width)
        weight = restored(weight, scales, width, values)
        values = torch.arange(values.numel())
    return torch.nn.functional.embedding_bag(values, weight, offsets, mode="mean")


def weighted_sum_of_bags(
    weight: torch.Tensor,
    scales: torch.Tensor,
    width: int,
    row_weights: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor,
) -> torch.Tensor:
    """[B, D] sum of the rows of each bag, weighted as by `recsys.nn.pooling`; zeros for an empty one."""
    weights = normalised_weights(row_weights, values, lengths)
    offsets = torch.cumsum(lengths, 0) - lengths
    if weight.dtype != torch.float32:
        if values.numel() == 0:
            return torch.zeros(lengths.numel(), width)
        weight = restored(weight, scales, width, values)
        values = torch.arange(values.numel())
    return torch.nn.functional.embedding_bag(values, weight, offsets, mode="sum", per_sample_weights=weights)


def restored(weight: torch.Tensor, scales: torch.Tensor, width: int, rows: torch.Tensor) -> torch.Tensor:
    """Rows [V, D] of a table as float32.

    Args:
        weight: [R, D] float32, float16, or whole numbers of steps; [R, D / 2] where a byte holds two of them,
            the first in its lower half.
        scales: [R, 2] step and least value of each row of steps; empty for the others.
        width: D.
        rows: [V].
    """
    steps = torch.index_select(weight, 0, rows)
    if steps.size(1) != width:
        steps = torch.stack([steps & 15, steps >> 4], dim=2).flatten(1)
    if scales.numel() == 0:
        return steps.float()
    own = torch.index_select(scales, 0, rows).float()
    return torch.addcmul(own[:, 1:], steps.float(), own[:, :1])


def stored(weight: torch.Tensor, kind: TableType) -> Tuple[torch.Tensor, torch.Tensor]:
    """Rounds a table [R, D], D even, to the arguments of `restored`.

    Args:
        weight: [R, D] float32.
        kind: `float32`, as it is; `float16`; `int8`, a byte a value, 256 even steps from the least to the
            greatest of a row; `int4`, half a byte, 16 of them.
    """
    nothing = torch.zeros(0, 2)
    if kind == "float32":
        return weight, nothing
    if kind == "float16":
        return weight.half(), nothing
    scales = _scales_of(weight, _STEPS[kind])
    step, least = scales[:, :1].float(), scales[:, 1:].float()
    places = (weight - least) / step.clamp(min=torch.finfo(torch.float32).tiny)
    levels = places.round().clamp(0, _STEPS[kind]).to(torch.uint8)
    return (levels[:, ::2] | levels[:, 1::2] << 4) if kind == "int4" else levels, scales


def _scales_of(weight: torch.Tensor, num_steps: int) -> torch.Tensor:
    """[R, 2] step and least value of each row of a table.

    In float16 where that moves no end of a row by more than half a step, so that no value is read back
    further from what it was than half a step, as with float32; for rows far from zero and all alike it would.
    """
    least, greatest = weight.amin(dim=1, keepdim=True), weight.amax(dim=1, keepdim=True)
    exact = torch.cat([(greatest - least) / num_steps, least], dim=1)
    near = exact.half()
    moved = (near.float() - exact).abs()
    is_near = num_steps * moved[:, 0] + moved[:, 1] <= exact[:, 0] / 2
    return near if bool(is_near.all()) else exact
