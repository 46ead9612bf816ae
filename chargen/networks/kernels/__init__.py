"""Hand-written back-propagation through time, one file per cell: the fast layer back ends on a CPU.

All cells have the same structure. The forward loop stores what the backward pass needs. The part of the backward pass
that does not depend on later steps (the derivative of a layer's output with respect to every gate) is computed before
the loop, for all steps at once. A few elementwise products and one matrix product per step remain in the loop. The
gradients of the weights are one product over all steps, after the loop. The loops take the steps from `unbind()`: to
index a tensor in every line of the loop would take as long as the arithmetic of a small layer.

    x_gates [T, B, X·H]  →  outputs [T, B, H] and the last state

The product of a small batch with a large matrix is slow when all threads share it. So the units are split into S
slices, and the products become batches of smaller products, which the threads distribute among them:

    forward    h [B, H]    times  G·S slices of Wᵀ [H, H/S]     =  gates [G·S, B, H/S]
    backward   ∂a [B, G·H] times    S slices of W  [G·H, H/S]   =  ∂h [S, B, H/S]

The numba variants (`gru_numba.py`, `mgru_numba.py`) compile the elementwise part of each step to one pass. The plain
variants need about five small operations per step, each a pass through memory with a cost of its own. The compiled pass
also does in the step, while the numbers are in the cache, what the plain variants compute before their loop. They are
for float32 and for machines with few cores, because one thread runs the pass. They need numba:

    pip install 'chargen[fast]'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from chargen.registry import is_installed

MIN_SLICE_WIDTH = 32  # units: a product with fewer columns is slow with any number of threads
MIN_POSITIONS = 1_000  # positions of a window from which on a compiled pass finds the rows of their n-grams
MAX_NUMBA_THREADS = 4  # with more threads PyTorch's own operations are faster, because the threads share them


def num_slices(hidden_size: int) -> int:
    """Return the number of slices of the units: at least the number of threads, if the units can be split so."""
    S = 1
    while (
        max(2, torch.get_num_threads()) > S and hidden_size % (2 * S) == 0 and hidden_size // (2 * S) >= MIN_SLICE_WIDTH
    ):
        S *= 2
    return S


def split_units(x: Tensor, num_pieces: int) -> Tensor:
    """Return a view of [..., B, N] as [..., num_pieces, B, N/num_pieces]."""
    return x.view(*x.shape[:-1], num_pieces, x.shape[-1] // num_pieces).transpose(-3, -2)


def join_units(x: Tensor) -> Tensor:
    """Join slices [S, B, H/S] to [B, H]."""
    return x.transpose(0, 1).flatten(1)


def transposed_slices(weight_hh: Tensor, num_pieces: int) -> Tensor:
    """Return Wᵀ of weight_hh [G·H, H] in slices [num_pieces, H, G·H/num_pieces]."""
    num_rows, H = weight_hh.shape
    return weight_hh.view(num_pieces, num_rows // num_pieces, H).transpose(1, 2).contiguous()


def sigmoid_backward(gradient: Tensor, output: Tensor, *, out: Tensor) -> None:
    """Write gradient ∘ σ(1 − σ), with σ = `output`, to `out` in one pass."""
    torch.ops.aten.sigmoid_backward.grad_input(gradient, output, grad_input=out)


def tanh_backward(gradient: Tensor, output: Tensor, *, out: Tensor) -> None:
    """Write gradient ∘ (1 − tanh²), with tanh = `output`, to `out` in one pass."""
    torch.ops.aten.tanh_backward.grad_input(gradient, output, grad_input=out)


def use_numba() -> bool:
    """Return whether the compiled passes are installed and faster than PyTorch's operations."""
    return is_installed("numba") and torch.get_num_threads() <= MAX_NUMBA_THREADS


def run_forward(
    step: Callable[..., None], inputs: Tensor, weight_t: Tensor, gates: Tensor, arrays: Sequence[Any]
) -> None:
    """Run a layer forward: at each step, the products of `inputs` with `weight_t`, then the compiled pass.

    Args:
        step: The compiled pass, a function of (t, *arrays). It also computes the next step's inputs.
        inputs: The vectors that the recurrent matrix is multiplied with, [T, B, H].
        weight_t: The transposed recurrent matrix in slices, [P, H, N].
        gates: Receives the products, [T, P, B, N].
        arrays: The arguments of the pass.
    """
    T, P = gates.shape[:2]
    operands = inputs.unsqueeze(1).expand(T, P, *inputs.shape[1:]).unbind()
    for t, (x, a) in enumerate(zip(operands, gates, strict=True)):
        torch.bmm(x, weight_t, out=a)
        step(t, *arrays)


def run_backward(step: Callable[..., None], d_a: Tensor, weight: Tensor, d_u: Tensor, arrays: Sequence[Any]) -> None:
    """Run a layer backward: one pass for the last step, then the products and the pass of each step.

    Args:
        step: The compiled pass, a function of (t, *arrays). It completes step t and starts step t − 1, for which it
            computes the row of `d_a`.
        d_a: The gradients of the gates, [T, B, G·H].
        weight: The recurrent matrix in slices, [S, G·H, H/S].
        d_u: Receives the products, [S, B, H/S].
        arrays: The arguments of the pass.
    """
    T, S = len(d_a), len(weight)
    rows = d_a.unsqueeze(1).expand(T, S, *d_a.shape[1:]).unbind()
    step(T, *arrays)
    for t in range(T - 1, -1, -1):
        torch.bmm(rows[t], weight, out=d_u)
        step(t, *arrays)
