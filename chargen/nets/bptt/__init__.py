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
"""

from __future__ import annotations

import torch
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
