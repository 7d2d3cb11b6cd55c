"""The processes that train together: one, or as many as torchrun has started."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore, PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from recsys.runs.launch import Processes, is_launched, launched
from recsys.schema.errors import InputError

T = TypeVar("T")

# Of one collective. Long enough for one rank to prepare a large dataset while the others wait; a rank that
# dies is noticed at once by torchrun and by gloo's sockets, not by this.
_TIMEOUT = timedelta(hours=2)


@contextlib.contextmanager
def joined(strategy: Literal["single", "sharded"], accelerator: str) -> Iterator[Processes]:
    """Joins the other processes and leaves them at the end.

    Args:
        strategy: `trainer.strategy`.
        accelerator: `trainer.accelerator`.

    Raises:
        ValueError: torchrun has started several processes and `strategy` trains in one.
    """
    processes = launched()
    if strategy == "single":
        if processes.num_ranks > 1:
            raise InputError(
                f"`trainer.strategy=single` trains in one process, but torchrun has started"
                f" {processes.num_ranks}; add `trainer=sharded`, or start `python train.py` without torchrun"
            )
        yield processes
        return
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(processes.local_rank)
    _join(processes, "nccl" if on_gpu else "gloo")
    try:
        # Every machine counts its own restarts, and not those that another one's failure brings about.
        yield dataclasses.replace(processes, restarts=max(gather_objects(processes.restarts)))
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def one_machine_rank_first(processes: Processes) -> Iterator[None]:
    """Lets the main process through first, then one process a machine, then the rest."""
    rank, local_rank = processes.rank, processes.local_rank
    for turn in (rank == 0, rank != 0 and local_rank == 0, local_rank != 0):
        if turn:
            yield
        if processes.num_ranks > 1:
            dist.barrier()


def _join(processes: Processes, backend: str) -> None:
    if is_launched():
        store, rank, num_ranks = next(rendezvous("env://", timeout=_TIMEOUT))
        store = unwritten(store, rank, num_ranks)
    else:  # one process alone needs no meeting point
        store, rank, num_ranks = HashStore(), 0, 1
    dist.init_process_group(backend, store=store, rank=rank, world_size=num_ranks, timeout=_TIMEOUT)


def unwritten(store: Store, rank: int, num_ranks: int) -> Store:
    """A part of the store that no earlier start of the processes has written to.

    torchrun keeps one store through its restarts, where the addresses of the processes that died are still
    to be read (pytorch issue 135712), and counts its restarts on each machine for itself. So every process
    says that it is here under a name of its own, until all of them see the same names.
    """
    ranks = range(num_ranks)
    store.set(f"here/{rank}", uuid.uuid4().hex)
    while True:
        names = b" ".join(store.multi_get([f"here/{other}" for other in ranks]))
        start = hashlib.sha256(names).hexdigest()
        store.set(f"seen/{rank}", start)
        if all(seen.decode() == start for seen in store.multi_get([f"seen/{other}" for other in ranks])):
            return PrefixStore(start, store)
        time.sleep(0.01)


def agree(value: T) -> T:
    """The main process's `value`, in every process."""
    if num_ranks() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def num_ranks() -> int:
    """Returns how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def dist_rank() -> int:
    """Number of this process among them."""
    return dist.get_rank() if dist.is_initialized() else 0


def gather_objects(value: T) -> list[T]:
    """The `value` of every process, by rank, in every process."""
    if num_ranks() == 1:
        return [value]
    gathered: list[Any] = [None] * num_ranks()
    dist.all_gather_object(gathered, value)
    return gathered


def gather_rows(rows: torch.Tensor, *, num_kept: int) -> tuple[torch.Tensor, int]:
    """The first `num_kept` rows of every process, by rank; gradients flow back to where they came from.

    Args:
        rows: [N] or [N, D], at least one row; any number of them in each process.
        num_kept: how many of this process's count; 0 for a process whose part of the batch is empty.

    Returns:
        The rows of all, and where this process's begin among them. Where there is one process: its own.
    """
    if num_ranks() == 1:
        return rows[:num_kept], 0
    sizes = torch.zeros(num_ranks(), dtype=torch.int64, device=rows.device)
    sizes[dist.get_rank()] = num_kept
    dist.all_reduce(sizes)
    gathered: torch.Tensor = cast(Any, _Gather).apply(rows[:num_kept], sizes.tolist())
    return gathered, int(sizes[: dist.get_rank()].sum())


class _Gather(torch.autograd.Function):
    """Concatenation over the processes; backward sums what every process's loss says of this one's rows."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        ctx.sizes = sizes
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        begin = sum(ctx.sizes[: dist.get_rank()])
        return total[begin : begin + ctx.sizes[dist.get_rank()]], None
