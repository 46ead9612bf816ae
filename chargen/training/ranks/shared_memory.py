"""Add up arrays of the ranks of the same machine through memory that they share.

Every rank writes its array to its place in the shared memory, tells the others, waits for them, and adds up all places:

    │ rank 0 │ rank 1 │ … │  first half        two halves take turns: when a rank writes to one of them again,
    │ rank 0 │ rank 1 │ … │  second half       all ranks have read what it contained before

All ranks add in the same order, so the sums are the same bit for bit.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from chargen.training.ranks.group import Ranks
    from chargen.training.ranks.local_link import LocalLink

FOLDERS = ("/dev/shm", tempfile.gettempdir())  # the first one that exists; files in /dev/shm are in memory only
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
        path = ranks.send(self._create(size) if ranks.rank == 0 else None)
        mapped = _open(path, size)
        self.is_shared = all(ranks.collect(mapped is not None))  #: whether all ranks can open it
        if ranks.rank == 0 and path:
            Path(path).unlink()  # the memory is freed when the last process has ended
        if mapped is not None and self.is_shared:
            self._places = torch.frombuffer(mapped, dtype=torch.float32).view(2, ranks.size, capacity)

    @staticmethod
    def _create(size: int) -> str:
        """Create the file that the ranks map, and return its path; "" if there is not enough memory for it."""
        folder = next(folder for folder in FOLDERS if os.path.isdir(folder))
        try:
            file, path = tempfile.mkstemp(prefix="chargen-", dir=folder)
        except OSError:
            return ""
        try:
            os.posix_fallocate(file, 0, size)  # without it, a full disk would kill the process that writes
        except OSError:
            os.unlink(path)
            return ""
        finally:
            os.close(file)
        return path

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor, [n] of float32 on the CPU, by the sum over all ranks."""
        places = self._places[self._half, :, : len(tensor)]
        self._half = 1 - self._half
        places[self._rank].copy_(tensor)
        self._link.meet()
        torch.sum(places, 0, out=tensor)


def _open(path: str, size: int) -> mmap.mmap | None:
    """Map a file of this size; return None if this process does not see it."""
    try:
        with open(path, "r+b") as file:
            return mmap.mmap(file.fileno(), size)
    except (OSError, ValueError):
        return None
