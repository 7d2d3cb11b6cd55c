"""Embedding tables in training: plain, fused into their look-up, or fused and sharded over processes.

Whatever their form, a checkpoint holds them as whole plain tensors under the same names, so that a run saved
by any number of processes is continued by any other number, and read by evaluation and export.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
import torchrec
from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode
from torch import nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torchrec import EmbeddingBagCollection
from torchrec.distributed.embeddingbag import ShardedEmbeddingBagCollection
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
from torchrec.optim.keyed import KeyedOptimizer

from recsys.nn.embeddings import FeatureTables
from recsys.schema.errors import InputError
from recsys.training.processes import gather_objects

Collection: TypeAlias = FusedEmbeddingBagCollection | ShardedEmbeddingBagCollection

_CPU = torch.device("cpu")
# What FBGEMM fuses on a CPU; fused Adam asserts there.
FUSED: dict[str, type[torch.optim.Optimizer]] = {
    "adagrad": torch.optim.Adagrad,
    "rowwise_adagrad": torchrec.optim.RowWiseAdagrad,
    "sgd": torch.optim.SGD,
}


def fused_collections(model: nn.Module) -> dict[str, Collection]:
    """Collections whose tables are updated in the backward pass, by module name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Collection)}


def is_sharded(model: nn.Module) -> bool:
    """True when tables of `model` are spread over processes."""
    return any(isinstance(module, ShardedEmbeddingBagCollection) for module in model.modules())


def plain_collections(model: nn.Module) -> dict[str, EmbeddingBagCollection]:
    """Collections whose tables are ordinary parameters, by module name."""
    return {
        name: module for name, module in model.named_modules() if isinstance(module, EmbeddingBagCollection)
    }


def fuse(model: nn.Module, *, optimizer: str, learning_rate: float, device: torch.device = _CPU) -> None:
    """Replaces the plain collections of `model` by fused ones; weights are kept, deferred ones drawn.

    Args:
        model: tables that are on no device yet (`deferred_tables`) are never held twice.
        optimizer: a key of `FUSED`.
        learning_rate: of the tables.
        device: where it is trained; a fused look-up does not move to another one.
    """
    # Ids are checked by `FeatureTables`; FBGEMM's own check takes a tenth of a step.
    settings = {"lr": learning_rate, "bounds_check_mode": BoundsCheckMode.NONE}
    for name, collection in plain_collections(model).items():
        weights = dict(collection.state_dict())
        deferred = next(iter(weights.values())).is_meta
        fused = FusedEmbeddingBagCollection(
            tables=collection.embedding_bag_configs(),
            optimizer_type=FUSED[optimizer],
            optimizer_kwargs=settings,
            is_weighted=collection.is_weighted(),
            device=device,
        )
        if not deferred:
            fused.load_state_dict(weights)
        model.set_submodule(name, fused)
        if deferred:
            draw_weights(model, name)


def draw_weights(model: nn.Module, name: str) -> None:
    """Draws the initial weights of the collection `name`, the same ones however its tables are placed.

    Each table has a generator of its own, seeded by its name and torch's seed.
    """
    owner = model.get_submodule(name.rpartition(".")[0])
    assert isinstance(owner, FeatureTables), name
    for part in _parts(model.get_submodule(name).state_dict()):
        seed = (torch.initial_seed() + zlib.crc32(part.name.encode())) % 2**63
        generator = torch.Generator().manual_seed(seed)
        in_place = part.is_whole and part.tensor.device.type == "cpu"
        whole = part.tensor if in_place else torch.empty(part.shape)
        table = part.name.removeprefix("embedding_bags.").removesuffix(".weight")
        std = owner.std_of(table.removeprefix(owner.prefix))
        nn.init.normal_(whole, std=std, generator=generator)
        if not in_place:
            part.tensor.copy_(part.cut(whole))


def whole_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dictionary of `model` with every sharded table put together, on the main process's CPU.

    Every process must call this; in others than the main one sharded tables are left out.
    """
    return _put_together(list(_parts(model.state_dict())))


def load_whole_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copies weights, as `whole_weights` gave them, into `model`, each process its own parts.

    Raises:
        ValueError: names or shapes are not those of the model.
    """
    own = model.state_dict()
    if set(own) != set(weights):
        missing, unknown = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
        raise InputError(f"expected the weights of this model; missing: {missing}, unknown: {unknown}")
    _take_parts(list(_parts(own)), weights)


def whole_fused_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """State of the fused optimizers, put together as `whole_weights` does, by weight and field.

    For example `tables.collection.embedding_bags.user_id.weight/momentum1`.
    """
    return _put_together(list(_fused_parts(model)))


def load_whole_fused_state(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Restores what `whole_fused_state` gave, in place, each process its own parts.

    Raises:
        ValueError: the state is of another optimizer or another model.
    """
    parts = list(_fused_parts(model))
    missing = sorted({part.name for part in parts} - set(state))
    if missing:
        raise InputError(
            f"the checkpoint has no state of the fused optimizer for {missing};"
            " it was trained with another `optimizer.tables`"
        )
    _take_parts(parts, state)


@dataclasses.dataclass(frozen=True)
class _Part:
    """Describes the part of a tensor that this process holds.

    Args:
        name: of the whole tensor.
        tensor: the part, sharing memory with its owner.
        shape: of the whole.
        offsets: where the part begins in it.
        is_sharded: false for a tensor that every process holds whole.
    """

    name: str
    tensor: torch.Tensor
    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    is_sharded: bool

    @property
    def is_whole(self) -> bool:
        return tuple(self.tensor.shape) == self.shape

    def cut(self, whole: torch.Tensor) -> torch.Tensor:
        """The same place in another tensor of the whole's shape."""
        sizes = zip(self.offsets, self.tensor.shape, strict=True)
        return whole[tuple(slice(begin, begin + size) for begin, size in sizes)]


def _parts(state: Mapping[str, Any]) -> Iterator[_Part]:
    for name, value in state.items():
        if isinstance(value, ShardedTensor):
            for shard in value.local_shards():
                offsets = tuple(shard.metadata.shard_offsets)
                yield _Part(name, shard.tensor.detach(), tuple(value.size()), offsets, is_sharded=True)
        elif isinstance(value, torch.Tensor):
            yield _Part(name, value.detach(), tuple(value.shape), (0,) * value.ndim, is_sharded=False)


def _fused_parts(model: nn.Module) -> Iterator[_Part]:
    for name, collection in fused_collections(model).items():
        for weight, fields in optimizer_of(collection).state_dict()["state"].items():
            # TorchRec's names of table t: `t.weight` with `t.weight.momentum_1` when fused,
            # `embedding_bags.t.weight` with `t.momentum1` when sharded.
            whose = f"{name}.embedding_bags.{weight.removeprefix('embedding_bags.')}"
            named = {key.rpartition(".")[2].replace("_", ""): value for key, value in fields.items()}
            yield from _parts({f"{whose}/{field}": value for field, value in named.items()})


def own_tensors(state: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of a state dictionary; of sharded ones, the parts that this process holds."""
    return ((part.name, part.tensor) for part in _parts(state))


def optimizer_of(collection: Collection) -> KeyedOptimizer:
    """The fused optimizer of a collection: a method of one class, a property of the other."""
    optimizer = collection.fused_optimizer
    return optimizer if isinstance(optimizer, KeyedOptimizer) else optimizer()


def _put_together(parts: Sequence[_Part]) -> dict[str, torch.Tensor]:
    """Whole tensors by name; sharded parts of other processes are sent to the main one."""
    whole = {part.name: part.tensor for part in parts if not part.is_sharded}
    if not dist.is_initialized():
        return whole
    sharded = [part for part in parts if part.is_sharded]
    about = [(p.name, p.shape, p.offsets, tuple(p.tensor.shape), p.tensor.dtype) for p in sharded]
    mine = dist.get_rank()
    for rank, theirs in enumerate(gather_objects(about)):
        for index, (name, shape, offsets, size, dtype) in enumerate(theirs):
            if mine == rank and rank != 0:
                dist.send(sharded[index].tensor.contiguous(), dst=0)
            elif mine == 0:
                part = sharded[index].tensor if rank == 0 else _receive(size, dtype, rank)
                target = whole.setdefault(name, torch.empty(shape, dtype=dtype))
                _Part(name, part, shape, offsets, is_sharded=True).cut(target).copy_(part)
    return whole


def _receive(size: tuple[int, ...], dtype: torch.dtype, rank: int) -> torch.Tensor:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    part = torch.empty(size, dtype=dtype, device=device)
    dist.recv(part, src=rank)
    return part


def _take_parts(parts: Sequence[_Part], whole: Mapping[str, torch.Tensor]) -> None:
    for part in parts:
        if tuple(whole[part.name].shape) != part.shape:
            expected, received = list(part.shape), list(whole[part.name].shape)
            raise InputError(f"expected shape {expected} for `{part.name}`, got {received}")
        part.tensor.copy_(part.cut(whole[part.name]))
