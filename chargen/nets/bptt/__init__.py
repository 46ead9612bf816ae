"""Back-propagation through time by hand, one file a cell: the fast path on a CPU.

All share one shape. The forward loop keeps what the backward pass needs. Everything in the backward pass that does not
depend on later steps (the derivative of a layer's output with respect to every gate) is computed before the loop, over
all steps at once; what remains in the loop is a few elementwise products and one matrix product a step. The gradients
of the weights are one product over all steps, after the loop. Steps are taken from `unbind()`: to index a tensor in
every line of the loop costs as much as the arithmetic of a small layer.

    x_gates [T, B, X·H]  →  outputs [T, B, H] and the last state
"""

from __future__ import annotations

import torch
from torch import Tensor


def sigmoid_backward(gradient: Tensor, output: Tensor, *, out: Tensor) -> None:
    """Write gradient ∘ σ(1 − σ), with σ = `output`, to `out`: in one pass."""
    torch.ops.aten.sigmoid_backward.grad_input(gradient, output, grad_input=out)


def tanh_backward(gradient: Tensor, output: Tensor, *, out: Tensor) -> None:
    """Write gradient ∘ (1 − tanh²), with tanh = `output`, to `out`: in one pass."""
    torch.ops.aten.tanh_backward.grad_input(gradient, output, grad_input=out)
