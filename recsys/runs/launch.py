"""Reads from the environment which processes torchrun has started."""

from __future__ import annotations

import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class Processes:
    """Numbers this process among those that train together.

    Args:
        rank: number of this process, from 0.
        num_ranks: how many there are.
        local_rank: its number on this machine.
        num_local_ranks: how many there are on this machine.
        restarts: how often torchrun has started them all again.
        max_restarts: how often it will.
        job: `--rdzv-id` of torchrun, by which a job that is started again knows its run; null without one.
    """

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    num_local_ranks: int = 1
    restarts: int = 0
    max_restarts: int = 0
    job: str | None = None

    @property
    def is_main(self) -> bool:
        """True for the one process that writes and speaks."""
        return self.rank == 0


ALONE = Processes()


def is_launched() -> bool:
    """True in a process that torchrun has started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launched() -> Processes:
    """Returns the processes that torchrun names in the environment; one where it names none."""
    if not is_launched():
        return ALONE
    return Processes(
        rank=int(os.environ["RANK"]),
        num_ranks=int(os.environ["WORLD_SIZE"]),
        local_rank=int(os.environ["LOCAL_RANK"]),
        num_local_ranks=int(os.environ["LOCAL_WORLD_SIZE"]),
        restarts=int(os.environ["TORCHELASTIC_RESTART_COUNT"]),
        max_restarts=int(os.environ["TORCHELASTIC_MAX_RESTARTS"]),
        job=None if os.environ["TORCHELASTIC_RUN_ID"] == "none" else os.environ["TORCHELASTIC_RUN_ID"],
    )
