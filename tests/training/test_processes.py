"""How processes find one another."""

import threading

from torch.distributed import HashStore

from recsys.training.processes import unwritten


def meet(store, num_ranks):
    """Every rank's part of the store, each found in a thread of its own."""
    parts = [None] * num_ranks

    def join(rank):
        parts[rank] = unwritten(store, rank, num_ranks)

    threads = [threading.Thread(target=join, args=(rank,)) for rank in range(num_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return parts


def test_processes_started_again_share_a_part_of_the_store_that_the_dead_have_not_written_to():
    store = HashStore()
    former = meet(store, 3)
    former[0].set("address", b"of a dead process")
    for num_ranks in (3, 2):
        parts = meet(store, num_ranks)
        assert not any(part.check(["address"]) for part in parts)
        parts[-1].set("address", b"new")
        assert [part.get("address") for part in parts] == [b"new"] * num_ranks
        assert former[0].get("address") == b"of a dead process"
