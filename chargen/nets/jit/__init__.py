"""The elementwise part of each step of a gradient by hand as one compiled pass, where numba is installed.

What `nets/bptt/` does in five small operations a step (each a walk through memory, each with a cost of its own) is one
here, between the matrix products; what it does before its loop over all steps at once is done here in the step, while
the numbers are in the cache. In float32, on machines of few cores: one thread makes these passes.

    pip install 'chargen[fast]'
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache

import torch

MOST_THREADS = 4  #: where there are more, PyTorch's own operations share out the work


def worth_it() -> bool:
    """Tell whether the compiled passes are there, and faster than PyTorch's."""
    return _installed() and torch.get_num_threads() <= MOST_THREADS


@lru_cache(maxsize=1)
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None
