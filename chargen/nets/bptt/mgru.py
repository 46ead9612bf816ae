"""The hand-written gradient of the multiplicative gated unit (`cells/mgru.py`).

forward     u_t = σ ∘ h_{t−1}      [z' n'] = x + b + 2 W u_t      h_t = (1 − z) n + z h_{t−1}
            z = σ(z')              n = tanh(n') = 2q − 1 with q = σ(2n'): one sigmoid serves both gates, and is faster
backward    ∂z'  = ∂h_t (h_{t−1} − n) z(1−z)       ∂u_t = 2 Wᵀ [∂z' ∂n']          ∂σ' = ∂u_t h_{t−1} σ(1−σ)
            ∂n'  = ∂h_t 4(1 − z) q(1−q)            ∂h_{t−1} = ∂h_t z + ∂u_t σ
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chargen.nets.bptt import sigmoid_backward


class MGRUFunction(torch.autograd.Function):
    """(x_gates [T,B,3H], h [B,H], weight_hh [2H,H], bias_hh [2H]) → (outputs [T,B,H], h [B,H])."""

    @staticmethod
    def forward(ctx: Any, x_gates: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
        T, B, H = *x_gates.shape[:2], h.shape[1]
        one_two = torch.cat([h.new_ones(H), h.new_full((H,), 2.0)])
        weight_t = weight_hh.t() * (2.0 * one_two)  # [H,2H]
        gates = torch.add(x_gates[:, :, : 2 * H], bias_hh).mul_(one_two)  # [T,B,2H], turned into z, q in place
        s = torch.sigmoid(x_gates[:, :, 2 * H :])
        us, ns, hs = x_gates.new_empty(T, B, H), x_gates.new_empty(T, B, H), x_gates.new_empty(T + 1, B, H)
        hs[0] = h
        minus_one, z, q = h.new_full((), -1.0), gates[:, :, :H], gates[:, :, H:]
        steps = zip(hs[:-1].unbind(), hs[1:].unbind(), s.unbind(), us.unbind(), ns.unbind(), strict=True)
        for (h, h_next, s_t, u, n), a, z_t, q_t in zip(steps, gates.unbind(), z.unbind(), q.unbind(), strict=True):
            torch.mul(h, s_t, out=u)
            a.addmm_(u, weight_t).sigmoid_()
            torch.add(minus_one, q_t, alpha=2.0, out=n)
            torch.lerp(n, h, z_t, out=h_next)
        ctx.save_for_backward(gates, s, us, ns, hs, weight_hh)
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        gates, s, us, ns, hs, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        z, weight = gates[:, :, :H], 2.0 * weight_hh
        d_x_gates = gates.new_empty(T, B, 3 * H)
        d_a = d_x_gates[:, :, : 2 * H]  # begins as the derivative of h_t with respect to z' and n'
        torch.sub(hs[:-1], ns, out=d_x_gates[:, :, :H])
        torch.add(gates.new_full((), 4.0), z, alpha=-4.0, out=d_x_gates[:, :, H : 2 * H])
        sigmoid_backward(d_a, gates, out=d_a)
        d_us = torch.empty_like(us)
        d_h = d_last + d_outputs[T - 1]
        blocks, flat = d_a.unflatten(2, (2, H)).unbind(), d_a.unbind()
        steps = list(zip(blocks, flat, d_us.unbind(), z.unbind(), s.unbind(), strict=True))
        for t in range(T - 1, -1, -1):
            block, a, d_u, z_t, s_t = steps[t]
            block.mul_(d_h.unsqueeze(1))
            torch.mm(a, weight, out=d_u)
            d_h = torch.addcmul(d_outputs[t - 1], d_h, z_t) if t else d_h * z_t
            d_h.addcmul_(d_u, s_t)
        sigmoid_backward(d_us.mul_(hs[:-1]), s, out=d_x_gates[:, :, 2 * H :])
        d_all = d_x_gates.view(T * B, 3 * H)[:, : 2 * H]
        return d_x_gates, d_h, (d_all.t() @ us.view(T * B, H)).mul_(2.0), d_all.sum(0)
