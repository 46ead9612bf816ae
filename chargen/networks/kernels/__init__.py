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
also does in the step, while the numbers are in the cache, what the plain variants compute before their loop. All torch
threads share a pass (`threads.py`). Their products can be in bf16: the weights and the vectors that they are multiplied
with are rounded to 8 bits of mantissa, and so are the results; the state, the activations, the biases and all sums stay
float32. Such a product is computed as a whole, not in slices. They need numba:

    pip install 'chargen[fast]'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from chargen.registry import is_installed

MIN_SLICE_WIDTH = 32  # units: a product with fewer columns is slow with any number of threads
MIN_POSITIONS = 1_000  # positions of a window from which on a compiled pass finds the rows of their n-grams
# With more threads, PyTorch's own operations were faster than undivided passes; divided ones were not measured there.
MAX_NUMBA_THREADS = 4


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


class Products(NamedTuple):
    """The products of the batch with the recurrent matrix at one step; each step overwrites them."""

    weight: Tensor  #: float32: slices [P, K, N]; bf16: the whole matrix [K, P·N]
    out: Tensor  #: float32: [P, B, N]; bf16: [B, P·N]

    @classmethod
    def forward(cls, weight_hh: Tensor, batch_size: int) -> Products:
        """Return the products with Wᵀ, for weight_hh [G·H, H] in float32 or bf16."""
        num_rows, H = weight_hh.shape
        if weight_hh.dtype == torch.bfloat16:
            return cls(weight_hh.t().contiguous(), weight_hh.new_empty(batch_size, num_rows))
        P = num_rows // H * num_slices(H)
        return cls(transposed_slices(weight_hh, P), weight_hh.new_empty(P, batch_size, num_rows // P))

    @classmethod
    def backward(cls, weight_hh: Tensor, batch_size: int) -> Products:
        """Return the products with W."""
        H = weight_hh.shape[1]
        if weight_hh.dtype == torch.bfloat16:
            return cls(weight_hh, weight_hh.new_empty(batch_size, H))
        S = num_slices(H)
        return cls(split_units(weight_hh, S).contiguous(), weight_hh.new_empty(S, batch_size, H // S))

    def arrays(self, num_units: int) -> tuple[Any, int, int]:
        """Return the arguments by which a pass finds the products.

        Args:
            num_units: The number of units H of the layer.

        Returns:
            (the products as rows [·, N], the distance of two slices, that of two batch rows). Slice p of batch row b is
            the row `p · distance + b · distance`.
        """
        if self.out.ndim == 2:
            return to_array(self.out.view(-1, num_units)), 1, self.out.shape[1] // num_units
        return to_array(self.out.flatten(0, 1)), self.out.shape[1], 1

    def operands(self, vectors: Tensor) -> Sequence[Tensor]:
        """Return the operand of each step, of the vectors [T, B, K] that the matrix is multiplied with."""
        if self.out.ndim == 2:
            return vectors.unbind()
        T, B, K = vectors.shape
        return vectors.unsqueeze(1).expand(T, len(self.out), B, K).unbind()

    def compute(self, operand: Tensor) -> None:
        """Compute the products of a step."""
        if self.out.ndim == 2:  # torch.bmm would copy the weight for each product in bf16
            torch.mm(operand, self.weight, out=self.out)
        else:
            torch.bmm(operand, self.weight, out=self.out)


def to_array(x: Tensor) -> Any:
    """Return a tensor as an array that compiled code can read and write; bf16 as uint16."""
    x = x.detach()
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def run_forward(step: Callable[..., None], products: Products, vectors: Tensor, arguments: Sequence[Any]) -> None:
    """Run a layer forward: at each step, the products, then the compiled pass.

    Args:
        step: The compiled pass, a function of (t, *arguments). It also computes the vectors of the next step.
        products: The products.
        vectors: The vectors that the recurrent matrix is multiplied with, [T, B, H].
        arguments: The arguments of the pass.
    """
    for t, operand in enumerate(products.operands(vectors)):
        products.compute(operand)
        step(t, *arguments)


def run_backward(step: Callable[..., None], products: Products, d_a: Tensor, arguments: Sequence[Any]) -> None:
    """Run a layer backward: one pass for the last step, then the products and the pass of each step.

    Args:
        step: The compiled pass, a function of (t, *arguments). It completes step t and starts step t − 1, for which it
            computes the row of `d_a`.
        products: The products.
        d_a: The gradients of the gates, [T, B, G·H].
        arguments: The arguments of the pass.
    """
    operands = products.operands(d_a)
    step(len(d_a), *arguments)
    for t in range(len(d_a) - 1, -1, -1):
        products.compute(operands[t])
        step(t, *arguments)
