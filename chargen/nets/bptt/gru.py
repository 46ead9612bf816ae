"""The hand-written gradient of the GRU (`cells/gru.py`).

    forward     h_t = (1 − z) n + z h_{t−1},   n = tanh(n'),  n' = x_n + r m,  m = W_n h_{t−1} + b_n
    backward    ∂n' = ∂h_t (1 − z)(1 − n²)         ∂z' = ∂h_t (h_{t−1} − n) z(1−z)
                ∂r' = ∂n' m r(1−r)                 ∂m  = ∂n' r
                ∂h_{t−1} = ∂h_t z + Wᵀ [∂r' ∂z' ∂m]

Every line is ∂h_t times something known before the loop, so the loop multiplies five stacked blocks at once:

    block   0     1     2     3     4
            ∂r'   ∂z'   ∂m    ∂n'   z ∂h_t        0–2: the recurrent side;   0, 1, 3: the input's side
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class GRUFunction(torch.autograd.Function):
    """(x_gates [T,B,3H], h [B,H], weight_hh [3H,H], bias_hh [3H]) → (outputs [T,B,H], h [B,H])."""

    @staticmethod
    def forward(ctx: Any, x_gates: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
        T, B, H = *x_gates.shape[:2], h.shape[1]
        weight_t = weight_hh.t().contiguous()
        h_gates = x_gates.new_empty(T, B, 3 * H)
        r_z, n = x_gates.new_empty(T, B, 2 * H), x_gates.new_empty(T, B, H)
        hs = x_gates.new_empty(T + 1, B, H)
        hs[0] = h
        for t in range(T):
            torch.addmm(bias_hh, hs[t], weight_t, out=h_gates[t])
            torch.add(x_gates[t, :, : 2 * H], h_gates[t, :, : 2 * H], out=r_z[t]).sigmoid_()
            torch.addcmul(x_gates[t, :, 2 * H :], r_z[t, :, :H], h_gates[t, :, 2 * H :], out=n[t]).tanh_()
            torch.lerp(n[t], hs[t], r_z[t, :, H:], out=hs[t + 1])
        ctx.save_for_backward(r_z, n, h_gates, hs, weight_hh)
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        r_z, n, h_gates, hs, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        r, z, m = r_z[..., :H], r_z[..., H:], h_gates[..., 2 * H :]
        blocks = n.new_empty(T, B, 5, H)
        n_from_h = torch.addcmul(n.new_ones(()), n, n, value=-1).mul_(1 - z)
        torch.mul(n_from_h, m * r * (1 - r), out=blocks[:, :, 0])
        torch.mul(hs[:-1] - n, z * (1 - z), out=blocks[:, :, 1])
        torch.mul(n_from_h, r, out=blocks[:, :, 2])
        blocks[:, :, 3] = n_from_h
        blocks[:, :, 4] = z
        d_h = d_last + d_outputs[T - 1]
        for t in range(T - 1, -1, -1):
            blocks[t].mul_(d_h.unsqueeze(1))
            flat = blocks[t].view(B, 5 * H)
            d_h = torch.addmm(flat[:, 4 * H :], flat[:, : 3 * H], weight_hh)
            if t:
                d_h.add_(d_outputs[t - 1])
        d_h_gates = blocks.view(T * B, 5 * H)[:, : 3 * H]
        d_x_gates = torch.cat([blocks[:, :, :2].reshape(T, B, 2 * H), blocks[:, :, 3]], dim=2)
        return d_x_gates, d_h, d_h_gates.t() @ hs[:-1].reshape(T * B, H), d_h_gates.sum(0)
