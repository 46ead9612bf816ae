"""Add up arrays of the ranks of the same machine through memory that they share.

Every rank writes its array to its place in the shared memory, tells the others, waits for them, and adds up all places:

    │ rank 0 │ rank 1 │ … │  first half        two halves take turns: when a rank writes to one of them again,
    │ rank 0 │ rank 1 │ … │  second half       all ranks have read what it contained before

All ranks add in the same order, so the sums are the same bit for bit.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from chargen.training.ranks.group import Ranks
    from chargen.training.ranks.local_link import LocalLink

FLOAT32_BYTES = 4


class SharedMemory:
    """Memory for two arrays of each rank.

    Args:
        ranks: The ranks, all of which create it together.
        link: Their connections.
        capacity: The largest number of float32 numbers in an array.
    """

    def __init__(self, ranks: Ranks, link: LocalLink, capacity: int) -> None:
        self.capacity = capacity
        self._rank, self._link = ranks.rank, link
        self._half = 0
        size = 2 * ranks.size * capacity * FLOAT32_BYTES
        file = link.share_file(_create(size) if ranks.rank == 0 else None)
        mapped = None if file is None else _map(file, size)
        self.is_shared = all(ranks.collect(mapped is not None))  #: whether all ranks can use it
        if mapped is not None and self.is_shared:
            self._places = torch.frombuffer(mapped, dtype=torch.float32).view(2, ranks.size, capacity)

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor, [n] of float32 on the CPU, by the sum over all ranks."""
        places = self._places[self._half, :, : len(tensor)]
        self._half = 1 - self._half
        places[self._rank].copy_(tensor)
        self._link.meet()
        torch.sum(places, 0, out=tensor)


def _create(size: int) -> int | None:
    """Return the descriptor of a file in memory; None if there is not enough memory, or no such files (except Linux).

    The file has no name, so nothing of it is left when the processes have ended, even if they were killed.
    """
    if not hasattr(os, "memfd_create"):
        return None
    file = None
    try:
        file = os.memfd_create("chargen")
        os.posix_fallocate(file, 0, size)  # without it, a lack of memory would kill the process that writes
    except OSError:
        if file is not None:
            os.close(file)
        return None
    return file


def _map(file: int, size: int) -> mmap.mmap | None:
    """Map a file of this size, and close its descriptor; return None if this process has too little memory."""
    try:
        return mmap.mmap(file, size)
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)
