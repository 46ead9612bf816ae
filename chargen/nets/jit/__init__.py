"""The elementwise part of each step of a gradient by hand as one compiled pass, where numba is installed.

What `nets/bptt/` does in five small operations a step (each a walk through memory, each with a cost of its own) is one
here, between the matrix products; what it does before its loop over all steps at once is done here in the step, while
the numbers are in the cache. In float32, on machines of few cores: one thread makes these passes.

    pip install 'chargen[fast]'
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # who writes text with `functions.py` does so without torch
    from torch import Tensor

MOST_THREADS = 4  #: where there are more, PyTorch's own operations share out the work


def worth_it() -> bool:
    """Tell whether the compiled passes are there, and faster than PyTorch's."""
    import torch

    return _installed() and torch.get_num_threads() <= MOST_THREADS


@lru_cache(maxsize=1)
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


def walk(step: Callable[..., None], inputs: Tensor, weight_t: Tensor, gates: Tensor, arrays: Sequence[Any]) -> None:
    """Run a layer forward: at each time the products of `inputs` [T,B,H] with `weight_t` [P,H,N], then the pass.

    Args:
        step: the pass, of (time, *arrays); it makes the next time's inputs.
        inputs: what the recurrent matrix is multiplied with.
        weight_t: it, in pieces.
        gates: [T,P,B,N], where the products go.
        arrays: what the pass works on.
    """
    import torch

    T, P = gates.shape[:2]
    for t, (x, a) in enumerate(zip(inputs.unsqueeze(1).expand(T, P, *inputs.shape[1:]).unbind(), gates, strict=True)):
        torch.bmm(x, weight_t, out=a)
        step(t, *arrays)


def walk_back(step: Callable[..., None], d_a: Tensor, weight: Tensor, d_u: Tensor, arrays: Sequence[Any]) -> None:
    """Run it backward: the pass that begins the last time, then at each time the products and the pass.

    Args:
        step: the pass, of (time, *arrays); it ends a time and begins the one before it, whose row of `d_a` it makes.
        d_a: [T,B,G·H], the gradients of the gates.
        weight: [S,G·H,H/S], the recurrent matrix in pieces.
        d_u: [S,B,H/S], where the products go.
        arrays: what the pass works on.
    """
    import torch

    T, S = len(d_a), len(weight)
    rows = d_a.unsqueeze(1).expand(T, S, *d_a.shape[1:]).unbind()
    step(T, *arrays)
    for t in range(T - 1, -1, -1):
        torch.bmm(rows[t], weight, out=d_u)
        step(t, *arrays)
