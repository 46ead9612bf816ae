"""The hand-written gradient of the tanh RNN (`cells/rnn.py`).

forward     h_t = tanh(a_t),  a_t = x_t + b + W h_{t−1}
backward    ∂a_t = ∂h_t ∘ (1 − h_t²)        ∂h_{t−1} += Wᵀ ∂a_t        ∂W = Σ_t ∂a_t h_{t−1}ᵀ
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chargen.networks.kernels import join_units, num_slices, split_units, transposed_slices


class RNNFunction(torch.autograd.Function):
    """A layer of the tanh RNN over a window, with its hand-written gradient.

    (x_gates [T,B,H], h [B,H], weight_hh [H,H], bias_hh [H]) → (outputs [T,B,H], h [B,H]).
    """

    @staticmethod
    def forward(ctx: Any, x_gates: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layer over a window, and keep what the backward pass needs."""
        T, B, H = x_gates.shape
        S = num_slices(H)
        weight_t = transposed_slices(weight_hh, S)
        a = split_units(x_gates, S) + bias_hh.view(S, 1, H // S)
        hs = x_gates.new_empty(T + 1, B, H)
        hs[0] = h
        parts = (hs[:-1].unsqueeze(1).expand(T, S, B, H), a, split_units(hs[1:], S))
        for h, a_t, h_next in zip(*(part.unbind() for part in parts), strict=True):
            torch.tanh(torch.baddbmm(a_t, h, weight_t), out=h_next)
        ctx.save_for_backward(hs, weight_hh)
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        hs, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        S = num_slices(H)
        d_outputs, weight = split_units(d_outputs, S), split_units(weight_hh, S).contiguous()
        d_a = torch.addcmul(hs.new_ones(()), hs[1:], hs[1:], value=-1)  # [T,B,H]: 1 − h²
        d_h = split_units(d_last, S) + d_outputs[T - 1]
        steps = list(zip(split_units(d_a, S).unbind(), d_a.unsqueeze(1).expand(T, S, B, H).unbind(), strict=True))
        for t in range(T - 1, -1, -1):
            a_slices, a = steps[t]
            a_slices.mul_(d_h)
            d_h = torch.baddbmm(d_outputs[t - 1], a, weight) if t else torch.bmm(a, weight)
        flat = d_a.view(T * B, H)
        return d_a, join_units(d_h), flat.t() @ hs[:-1].reshape(T * B, H), flat.sum(0)
