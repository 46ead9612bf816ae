"""The hand-written gradient of the GRU (`cells/gru.py`).

    forward     h_t = (1 − z) n + z h_{t−1},   n = tanh(n'),  n' = x_n + r m,  m = W_n h_{t−1} + b_n
    backward    ∂n' = ∂h_t (1 − z)(1 − n²)         ∂z' = ∂h_t (h_{t−1} − n) z(1−z)
                ∂m  = ∂n' r                        ∂r' = ∂n' m r(1−r)
                ∂h_{t−1} = ∂h_t z + Wᵀ [∂r' ∂z' ∂m]

Every line is ∂h_t times something known before the loop, so the loop multiplies four stacked blocks at once:

    block   0    1     2     3
            ∂m   ∂r'   ∂z'   ∂n'        0–2: the recurrent side (weight rows in this order);  1–3: the input
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chargen.nets.bptt import sigmoid_backward, tanh_backward


class GRUFunction(torch.autograd.Function):
    """(x_gates [T,B,3H], h [B,H], weight_hh [3H,H], bias_hh [3H]) → (outputs [T,B,H], h [B,H])."""

    @staticmethod
    def forward(ctx: Any, x_gates: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
        T, B, H = *x_gates.shape[:2], h.shape[1]
        weight_t = weight_hh.t().contiguous()
        gates = x_gates.new_empty(T, B, 3 * H)  # becomes r, z, m
        torch.add(x_gates[:, :, : 2 * H], bias_hh[: 2 * H], out=gates[:, :, : 2 * H])
        gates[:, :, 2 * H :] = bias_hh[2 * H :]
        ns, hs = x_gates.new_empty(T, B, H), x_gates.new_empty(T + 1, B, H)
        hs[0] = h
        r_z, r, z, m = gates[:, :, : 2 * H], gates[:, :, :H], gates[:, :, H : 2 * H], gates[:, :, 2 * H :]
        parts = zip(r_z.unbind(), r.unbind(), z.unbind(), m.unbind(), strict=True)
        steps = zip(hs[:-1].unbind(), hs[1:].unbind(), x_gates[:, :, 2 * H :].unbind(), ns.unbind(), strict=True)
        for (h, h_next, x_n, n), a, (r_z_t, r_t, z_t, m_t) in zip(steps, gates.unbind(), parts, strict=True):
            a.addmm_(h, weight_t)
            r_z_t.sigmoid_()
            torch.addcmul(x_n, r_t, m_t, out=n).tanh_()
            torch.lerp(n, h, z_t, out=h_next)
        ctx.save_for_backward(gates, ns, hs, weight_hh)
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        gates, ns, hs, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        r, z, m = gates[:, :, :H], gates[:, :, H : 2 * H], gates[:, :, 2 * H :]
        weight = torch.cat([weight_hh[2 * H :], weight_hh[: 2 * H]])  # rows of n, r, z
        blocks = ns.new_empty(T, B, 4, H)
        d_n = blocks[:, :, 3]
        tanh_backward(1.0 - z, ns, out=d_n)
        torch.mul(d_n, r, out=blocks[:, :, 0])
        torch.mul(d_n, m, out=blocks[:, :, 1])
        torch.sub(hs[:-1], ns, out=blocks[:, :, 2])
        r_z = blocks.view(T, B, 4 * H)[:, :, H : 3 * H]
        sigmoid_backward(r_z, gates[:, :, : 2 * H], out=r_z)
        d_a = blocks.view(T, B, 4 * H)[:, :, : 3 * H]
        d_h = d_last + d_outputs[T - 1]
        steps = list(zip(blocks.unbind(), d_a.unbind(), z.unbind(), strict=True))
        for t in range(T - 1, -1, -1):
            block, a, z_t = steps[t]
            block.mul_(d_h.unsqueeze(1))
            d_h = torch.addcmul(d_outputs[t - 1], d_h, z_t) if t else d_h * z_t
            d_h.addmm_(a, weight)
        d_all = blocks.view(T * B, 4 * H)[:, : 3 * H]
        d_weight, d_bias = d_all.t() @ hs[:-1].reshape(T * B, H), d_all.sum(0)
        in_order = [torch.cat([d[H:], d[:H]]) for d in (d_weight, d_bias)]  # rows of r, z, n
        return blocks.view(T, B, 4 * H)[:, :, H:], d_h, *in_order
