"""The processes of a start find each other, whatever earlier starts have left in the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import HashStore

from chargen.errors import RankLostError
from chargen.training.ranks.meeting import meet


def start(store: HashStore, size: int) -> list[str]:
    """Return what each process finds in the store of a start, where each has written its number."""

    def process(rank: int) -> str:
        own = meet(store, rank, size)
        own.set(str(rank), str(rank))
        own.wait([str(other) for other in range(size)])
        assert own.add("sum", 1) <= size, "an earlier start uses the same store"
        return "".join(own.get(str(other)).decode() for other in range(size))

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(process, reversed(range(size))))


def test_each_start_has_a_store_of_its_own() -> None:
    store = HashStore()
    for size in (3, 3, 2, 4):  # torchrun can start another number of processes after a failure
        assert start(store, size) == ["0123"[:size]] * size


def test_a_process_does_not_wait_for_ever() -> None:
    with pytest.raises(RankLostError, match=r"rank 1 has waited 0\.05 s"):
        meet(HashStore(), 1, 2, max_start_s=0.05)
    store = HashStore()
    start(store, 2)
    with pytest.raises(RankLostError, match="rank 1 has waited"):
        meet(store, 1, 2, max_start_s=0.05)
