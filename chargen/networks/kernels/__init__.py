"""Back-propagation through time by hand, one file a cell: the fast path on a CPU.

All share one shape. The forward loop keeps what the backward pass needs. Everything in the backward pass that does not
depend on later steps (the derivative of a layer's output with respect to every gate) is computed before the loop, over
all steps at once; what remains in the loop is a few elementwise products and one matrix product a step. The gradients
of the weights are one product over all steps, after the loop. Steps are taken from `unbind()`: to index a tensor in
every line of the loop costs as much as the arithmetic of a small layer.

    x_gates [T, B, X·H]  →  outputs [T, B, H] and the last state

A product of few lanes with a large matrix is slow when all threads share it. So the units are cut into S slices, and
the products are batches of smaller ones, which the threads share out:

    forward    h [B, H]    by  G·S pieces of Wᵀ [H, H/S]     =  gates [G·S, B, H/S]
    backward   ∂a [B, G·H] by    S pieces of W  [G·H, H/S]   =  ∂h [S, B, H/S]

The elementwise part of each step of a gradient by hand as one compiled pass, where numba is installed.

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

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import Tensor


NARROWEST = 32  #: units of a slice: a product with fewer columns is slow whoever makes it


def num_slices(hidden: int) -> int:
    """Return into how many slices the units are cut: at least as many as there are threads, if they can be cut so."""
    S = 1
    while max(2, torch.get_num_threads()) > S and hidden % (2 * S) == 0 and hidden // (2 * S) >= NARROWEST:
        S *= 2
    return S


def sliced(x: Tensor, pieces: int) -> Tensor:
    """Look at [..., B, N] as [..., pieces, B, N/pieces]: nothing is copied."""
    return x.view(*x.shape[:-1], pieces, x.shape[-1] // pieces).transpose(-3, -2)


def whole(x: Tensor) -> Tensor:
    """Put slices [S, B, H/S] together to [B, H]."""
    return x.transpose(0, 1).flatten(1)


def forward_pieces(weight_hh: Tensor, pieces: int) -> Tensor:
    """Return Wᵀ of weight_hh [G·H, H] in pieces [pieces, H, G·H/pieces]."""
    rows, H = weight_hh.shape
    return weight_hh.view(pieces, rows // pieces, H).transpose(1, 2).contiguous()


def sigmoid_backward(gradient: Tensor, output: Tensor, *, out: Tensor) -> None:
    """Write gradient ∘ σ(1 − σ), with σ = `output`, to `out`: in one pass."""
    torch.ops.aten.sigmoid_backward.grad_input(gradient, output, grad_input=out)


def tanh_backward(gradient: Tensor, output: Tensor, *, out: Tensor) -> None:
    """Write gradient ∘ (1 − tanh²), with tanh = `output`, to `out`: in one pass."""
    torch.ops.aten.tanh_backward.grad_input(gradient, output, grad_input=out)


MAX_THREADS = 4  #: where there are more, PyTorch's own operations share out the work


def worth_it() -> bool:
    """Tell whether the compiled passes are there, and faster than PyTorch's."""
    import torch

    return _installed() and torch.get_num_threads() <= MAX_THREADS


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
