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

from chargen.networks.kernels import (
    join_units,
    num_slices,
    sigmoid_backward,
    split_units,
    tanh_backward,
    transposed_slices,
)


class GRUFunction(torch.autograd.Function):
    """A layer of the GRU over a window, with its hand-written gradient.

    (x_gates [T,B,3H], h [B,H], weight_hh [3H,H], bias_hh [3H]) → (outputs [T,B,H], h [B,H]).
    """

    @staticmethod
    def forward(ctx: Any, x_gates: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layer over a window, and keep what the backward pass needs."""
        T, B, H = *x_gates.shape[:2], h.shape[1]
        S = num_slices(H)
        weight_t = transposed_slices(weight_hh, 3 * S)  # [3S,H,H/S]
        bias = bias_hh.view(3 * S, 1, H // S)
        gates = x_gates.new_empty(T, 3 * S, B, H // S)  # becomes r, z, m
        torch.add(split_units(x_gates[:, :, : 2 * H], 2 * S), bias[: 2 * S], out=gates[:, : 2 * S])
        gates[:, 2 * S :] = bias[2 * S :]
        ns, hs = x_gates.new_empty(T, S, B, H // S), x_gates.new_empty(T + 1, B, H)
        hs[0] = h
        h_slices, x_n = split_units(hs, S), split_units(x_gates[:, :, 2 * H :], S)
        to_gates = zip(hs[:-1].unsqueeze(1).expand(T, 3 * S, B, H).unbind(), gates.unbind(), strict=True)
        parts = (gates[:, : 2 * S], *gates.view(T, 3, S, B, H // S).unbind(1), x_n, ns, h_slices[:-1], h_slices[1:])
        steps = zip(*(part.unbind() for part in parts), strict=True)
        for (h, a), (r_z, r, z, m, x, n, h_slice, h_next) in zip(to_gates, steps, strict=True):
            a.baddbmm_(h, weight_t)
            r_z.sigmoid_()
            torch.addcmul(x, r, m, out=n).tanh_()
            torch.lerp(n, h_slice, z, out=h_next)
        ctx.save_for_backward(gates, ns, hs, weight_hh)
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        gates, ns, hs, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        S = ns.shape[1]
        r, z, m = gates.view(T, 3, S, B, H // S).unbind(1)
        d_outputs = split_units(d_outputs, S)
        rows = torch.cat([weight_hh[2 * H :], weight_hh[: 2 * H]])  # rows of n, r, z
        weight = split_units(rows, S).contiguous()  # [S,3H,H/S]
        d_x_gates = ns.new_empty(T, B, 4 * H)
        blocks = split_units(d_x_gates, 4 * S).view(T, 4, S, B, H // S)
        d_n = blocks[:, 3]
        tanh_backward(1.0 - z, ns, out=d_n)
        torch.mul(d_n, r, out=blocks[:, 0])
        torch.mul(d_n, m, out=blocks[:, 1])
        torch.sub(split_units(hs[:-1], S), ns, out=blocks[:, 2])
        r_z = blocks[:, 1:3]
        sigmoid_backward(r_z, gates[:, : 2 * S].view(T, 2, S, B, H // S), out=r_z)
        d_a = d_x_gates[:, :, : 3 * H]
        d_h = split_units(d_last, S) + d_outputs[T - 1]
        views = (blocks, d_a.unsqueeze(1).expand(T, S, B, 3 * H), z, d_outputs)
        steps = list(zip(*(view.unbind() for view in views), strict=True))
        for t in range(T - 1, -1, -1):
            block, a, z_t, _ = steps[t]
            block.mul_(d_h)
            d_h = torch.addcmul(steps[t - 1][-1], d_h, z_t) if t else d_h * z_t
            d_h.baddbmm_(a, weight)
        d_all = d_a.flatten(0, 1)
        d_weight, d_bias = d_all.t() @ hs[:-1].reshape(T * B, H), d_all.sum(0)
        in_order = [torch.cat([d[H:], d[:H]]) for d in (d_weight, d_bias)]  # rows of r, z, n
        return d_x_gates[:, :, H:], join_units(d_h), *in_order
