"""The hand-written gradient of the multiplicative gated unit (`cells/mgru.py`).

forward     u_t = s ∘ h_{t−1}      [z' n'] = x + b + W u_t      h_t = (1 − z) n + z h_{t−1},   z = σ(z'), n = tanh(n')
backward    ∂z' = ∂h_t (h_{t−1} − n) z(1−z)        ∂u_t = Wᵀ [∂z' ∂n']        ∂s' = ∂u_t h_{t−1} s(1 − s/2)
            ∂n' = ∂h_t (1 − z)(1 − n²)             ∂h_{t−1} = ∂h_t z + ∂u_t s         with s = 2 σ(s')
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class MGRUFunction(torch.autograd.Function):
    """(x_gates [T,B,3H], h [B,H], weight_hh [2H,H], bias_hh [2H]) → (outputs [T,B,H], h [B,H])."""

    @staticmethod
    def forward(ctx: Any, x_gates: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
        T, B, H = *x_gates.shape[:2], h.shape[1]
        weight_t = weight_hh.t().contiguous()
        gates = x_gates[:, :, : 2 * H] + bias_hh  # [T,B,2H], turned into z, n in place
        s = torch.sigmoid(x_gates[:, :, 2 * H :]).mul_(2.0)
        us, hs = x_gates.new_empty(T, B, H), x_gates.new_empty(T + 1, B, H)
        hs[0] = h
        for t in range(T):
            torch.mul(hs[t], s[t], out=us[t])
            a = gates[t].addmm_(us[t], weight_t)
            z, n = a[:, :H].sigmoid_(), a[:, H:].tanh_()
            torch.lerp(n, hs[t], z, out=hs[t + 1])
        ctx.save_for_backward(gates, s, us, hs, weight_hh)
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        gates, s, us, hs, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        z, n = gates[:, :, :H], gates[:, :, H:]
        d_a = gates.new_empty(T, B, 2, H)  # begins as the derivative of h_t with respect to z' and n'
        torch.mul(hs[:-1] - n, z * (1 - z), out=d_a[:, :, 0])
        torch.mul(1 - z, torch.addcmul(gates.new_ones(()), n, n, value=-1), out=d_a[:, :, 1])
        d_u = torch.empty_like(us)
        d_h = d_last + d_outputs[T - 1]
        for t in range(T - 1, -1, -1):
            d_a[t].mul_(d_h.unsqueeze(1))
            torch.mm(d_a[t].view(B, 2 * H), weight_hh, out=d_u[t])
            d_h = torch.addcmul(d_outputs[t - 1], d_h, z[t]) if t else d_h * z[t]
            d_h.addcmul_(d_u[t], s[t])
        d_s = d_u.mul_(hs[:-1]).mul_(s).mul_(1 - 0.5 * s)
        flat = d_a.view(T * B, 2 * H)
        d_x_gates = torch.cat([d_a.view(T, B, 2 * H), d_s], dim=2)
        return d_x_gates, d_h, flat.t() @ us.view(T * B, H), flat.sum(0)
