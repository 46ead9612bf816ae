"""Divide a compiled pass among torch's threads: each of them computes some batch rows.

    thread 0    rows 0 … B/2 − 1    of the state, and a sum of gradients of its own
    thread 1    rows B/2 … B − 1    of the state, and another sum: the sums are added in the order of the threads

So the results depend on the number of threads and on nothing else. To divide the units instead would need no sums, but
two cores would write to neighbouring parts of each row: a pass over 64 × 512 took 30 to 100 µs instead of 24 µs.

A pass takes 20 to 100 µs on one thread, so it can be divided only among threads that are awake. Those of torch are:
they have just computed a product. OpenMP, which starts torch's threads, also runs loops that numba compiles, and both
use the same threads if both call the same library. Threads of another pool, such as numba's own, must be woken for
each pass, beside threads of torch that still wait for more work: they made a step no faster.

With one thread, passes run in the caller's thread, and no pool is started. A forked child process has none of its
parent's threads, and OpenMP would wait for them forever; there, passes run in the caller's thread, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from chargen.jit import address_of, call_at, get_num_threads, njit, prange, start_threads
from chargen.jit import set_num_threads as set_loop_threads
from chargen.networks.torch_runtime import set_num_threads

MIN_NUMBERS = 4096  # a pass over fewer numbers of state, B·H, is as fast on one thread
IMPORTING_PROCESS = os.getpid()


@lru_cache(maxsize=1)
def max_threads() -> int:
    """Return the maximum number of threads of a pass: 1 if numba cannot use torch's threads."""
    before = torch.get_num_threads()
    try:
        set_num_threads(1)
        num_threads = start_threads()
        # The start sets OpenMP's number of threads. If torch's changes with it, both call the same library.
        return num_threads if torch.get_num_threads() == num_threads else 1
    finally:
        set_num_threads(before)


def count_parts(batch_size: int, hidden_size: int) -> int:
    """Return into how many parts the passes of a layer are divided, each on a thread of its own."""
    num_threads = min(torch.get_num_threads(), batch_size)
    if num_threads == 1 or batch_size * hidden_size < MIN_NUMBERS or os.getpid() != IMPORTING_PROCESS:
        return 1
    return min(num_threads, max_threads())


@contextmanager
def on_threads(rows: Any, num_parts: int) -> Iterator[Callable[..., None]]:
    """Yield a compiled pass over all batch rows, a function of (*arguments) for use inside the `with` block.

    Args:
        rows: The pass over some of the rows, a compiled function of (number of the part, number of parts, *arguments).
            It must not raise an exception.
        num_parts: The number of parts, each on a thread of its own.
    """
    if num_parts == 1:
        yield partial(rows, 0, 1)
        return
    before = get_num_threads()
    set_loop_threads(num_parts)  # of the calling Python thread
    try:
        yield DividedPass(rows, num_parts)
    finally:
        set_loop_threads(before)


class DividedPass:
    """A compiled pass that is divided among threads. All calls have arguments of the same types."""

    def __init__(self, rows: Any, num_parts: int) -> None:
        self._rows, self._num_parts = rows, num_parts
        self._address = 0

    def __call__(self, *arguments: Any) -> None:
        """Run the pass over all batch rows."""
        if not self._address:
            self._address = address_of(self._rows, (0, self._num_parts, *arguments))
        divided(self._num_parts, self._address, arguments)


@njit(parallel=True, cache=True)
def divided(num_parts: int, address: int, arguments: Any) -> None:
    """Run a pass on several threads. It is called by its address: else it would be compiled again, for 2.5 s each."""
    for part in prange(num_parts):
        call_at(address, (np.int64(part), num_parts, *arguments))


@njit(inline="always")
def rows_of_part(part: int, num_parts: int, batch_size: int) -> Any:
    """Return (the first batch row of a part, the one after its last)."""
    return part * batch_size // num_parts, (part + 1) * batch_size // num_parts
