"""The hand-written gradient of the LSTM (`cells/lstm.py`).

forward     c_t = f c_{t−1} + i g          h_t = o tanh(c_t)            (all products elementwise)
backward    ∂c_t += ∂h_t o (1 − tanh² c_t)
            ∂i' = ∂c_t g i(1−i)      ∂f' = ∂c_t c_{t−1} f(1−f)      ∂g' = ∂c_t i (1−g²)
            ∂o' = ∂h_t tanh(c_t) o(1−o)
            ∂c_{t−1} = ∂c_t f        ∂h_{t−1} += Wᵀ ∂a_t            with a = [i' f' g' o'] before the gates' functions
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class LSTMFunction(torch.autograd.Function):
    """(x_gates [T,B,4H], h [B,H], c [B,H], weight_hh [4H,H], bias_hh [4H]) → (outputs [T,B,H], h, c)."""

    @staticmethod
    def forward(
        ctx: Any, x_gates: Tensor, h: Tensor, c: Tensor, weight_hh: Tensor, bias_hh: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        T, B, H = *x_gates.shape[:2], h.shape[1]
        weight_t = weight_hh.t().contiguous()
        gates = x_gates + bias_hh  # [T,B,4H], turned into i, f, g, o in place
        hs, cs = x_gates.new_empty(T + 1, B, H), x_gates.new_empty(T + 1, B, H)
        tanh_c = x_gates.new_empty(T, B, H)
        hs[0], cs[0] = h, c
        for t in range(T):
            a = gates[t]
            a.addmm_(hs[t], weight_t)
            a[:, : 2 * H].sigmoid_()
            a[:, 2 * H : 3 * H].tanh_()
            a[:, 3 * H :].sigmoid_()
            i, f, g, o = a.chunk(4, dim=1)
            torch.mul(f, cs[t], out=cs[t + 1]).addcmul_(i, g)
            torch.tanh(cs[t + 1], out=tanh_c[t])
            torch.mul(o, tanh_c[t], out=hs[t + 1])
        ctx.save_for_backward(gates, hs, cs, tanh_c, weight_hh)
        return hs[1:], hs[T].clone(), cs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_h_last: Tensor, d_c_last: Tensor) -> tuple[Tensor, ...]:
        gates, hs, cs, tanh_c, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        i, f, g, o = gates.chunk(4, dim=2)
        one = gates.new_ones(())
        # d_a begins as the derivative of c (of h for o) with respect to each gate before its function.
        d_a = gates.new_empty(T, B, 4, H)
        torch.mul(g * i, 1 - i, out=d_a[:, :, 0])
        torch.mul(cs[:-1] * f, 1 - f, out=d_a[:, :, 1])
        torch.mul(i, torch.addcmul(one, g, g, value=-1), out=d_a[:, :, 2])
        torch.mul(tanh_c * o, 1 - o, out=d_a[:, :, 3])
        c_from_h = torch.addcmul(one, tanh_c, tanh_c, value=-1).mul_(o)
        d_h, d_c = d_h_last + d_outputs[T - 1], d_c_last
        for t in range(T - 1, -1, -1):
            d_c = torch.addcmul(d_c, d_h, c_from_h[t])
            d_a[t, :, :3].mul_(d_c.unsqueeze(1))
            d_a[t, :, 3].mul_(d_h)
            d_c = d_c * f[t]
            flat = d_a[t].view(B, 4 * H)
            d_h = torch.addmm(d_outputs[t - 1], flat, weight_hh) if t else flat @ weight_hh
        d_gates = d_a.view(T * B, 4 * H)
        d_weight = d_gates.t() @ hs[:-1].reshape(T * B, H)
        return d_gates.view(T, B, 4 * H), d_h, d_c, d_weight, d_gates.sum(0)
