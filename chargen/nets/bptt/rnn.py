"""The hand-written gradient of the tanh RNN (`cells/rnn.py`).

forward     h_t = tanh(a_t),  a_t = x_t + b + W h_{t−1}
backward    ∂a_t = ∂h_t ∘ (1 − h_t²)        ∂h_{t−1} += Wᵀ ∂a_t        ∂W = Σ_t ∂a_t h_{t−1}ᵀ
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class RNNFunction(torch.autograd.Function):
    """(x_gates [T,B,H], h [B,H], weight_hh [H,H], bias_hh [H]) → (outputs [T,B,H], h [B,H])."""

    @staticmethod
    def forward(ctx: Any, x_gates: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
        T = x_gates.shape[0]
        weight_t = weight_hh.t().contiguous()
        a = x_gates + bias_hh
        hs = x_gates.new_empty(T + 1, *h.shape)
        hs[0] = h
        for t in range(T):
            torch.addmm(a[t], hs[t], weight_t, out=hs[t + 1])
            hs[t + 1].tanh_()
        ctx.save_for_backward(hs, weight_hh)
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        hs, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        d_a = torch.addcmul(hs.new_ones(()), hs[1:], hs[1:], value=-1)  # [T,B,H]: 1 − h²
        d_h = d_last + d_outputs[T - 1]
        for t in range(T - 1, -1, -1):
            d_a[t].mul_(d_h)
            d_h = torch.addmm(d_outputs[t - 1], d_a[t], weight_hh) if t else d_a[t] @ weight_hh
        flat = d_a.view(T * B, H)
        return d_a, d_h, flat.t() @ hs[:-1].reshape(T * B, H), flat.sum(0)
