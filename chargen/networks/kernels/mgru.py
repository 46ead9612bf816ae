"""The hand-written gradient of the multiplicative gated unit (`cells/mgru.py`).

forward     u_t = σ ∘ h_{t−1}      [z' n'] = x + b + 2 W u_t      h_t = (1 − z) n + z h_{t−1}
            z = σ(z')              n = tanh(n') = 2q − 1 with q = σ(2n'): one call of σ for both gates is faster
backward    ∂z'  = ∂h_t (h_{t−1} − n) z(1−z)       ∂u_t = 2 Wᵀ [∂z' ∂n']          ∂σ' = ∂u_t h_{t−1} σ(1−σ)
            ∂n'  = ∂h_t 4(1 − z) q(1−q)            ∂h_{t−1} = ∂h_t z + ∂u_t σ
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chargen.networks.kernels import join_units, num_slices, sigmoid_backward, split_units, transposed_slices


class MGRUFunction(torch.autograd.Function):
    """A layer of the multiplicative gated unit over a window, with its hand-written gradient.

    (x_gates [T,B,3H], h [B,H], weight_hh [2H,H], bias_hh [2H]) → (outputs [T,B,H], h [B,H]).
    """

    @staticmethod
    def forward(ctx: Any, x_gates: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layer over a window, and keep what the backward pass needs."""
        T, B, H = *x_gates.shape[:2], h.shape[1]
        S = num_slices(H)
        pieces = (2 * S, 1, 1)
        one_two = torch.cat([h.new_ones(S), h.new_full((S,), 2.0)]).view(pieces)
        weight_t = transposed_slices(weight_hh, 2 * S) * (2.0 * one_two)  # [2S,H,H/S]
        bias = bias_hh.view(2 * S, 1, H // S) * one_two
        gates = x_gates.new_empty(T, 2 * S, B, H // S)  # becomes z, q
        torch.addcmul(bias, split_units(x_gates[:, :, : 2 * H], 2 * S), one_two, out=gates)
        s = torch.sigmoid(x_gates[:, :, 2 * H :])
        us, ns, hs = torch.empty_like(s), x_gates.new_empty(T, S, B, H // S), x_gates.new_empty(T + 1, B, H)
        hs[0] = h
        minus_one, h_slices = h.new_full((), -1.0), split_units(hs, S)
        to_u = zip(hs[:-1].unbind(), s.unbind(), us.unbind(), strict=True)
        to_gates = zip(us.unsqueeze(1).expand(T, 2 * S, B, H).unbind(), gates.unbind(), strict=True)
        to_h = zip(
            *(part.unbind() for part in (gates[:, :S], gates[:, S:], ns, h_slices[:-1], h_slices[1:])), strict=True
        )
        for (h, s_t, u), (u_again, a), (z, q, n, h_slice, h_next) in zip(to_u, to_gates, to_h, strict=True):
            torch.mul(h, s_t, out=u)
            a.baddbmm_(u_again, weight_t).sigmoid_()
            torch.add(minus_one, q, alpha=2.0, out=n)
            torch.lerp(n, h_slice, z, out=h_next)
        ctx.save_for_backward(gates, s, us, ns, hs, weight_hh)
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        gates, s, us, ns, hs, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        S = ns.shape[1]
        z, s_slices, h_slice, d_outputs = (
            gates[:, :S],
            split_units(s, S),
            split_units(hs[:-1], S),
            split_units(d_outputs, S),
        )
        weight = (2.0 * split_units(weight_hh, S)).contiguous()  # [S,2H,H/S]
        d_x_gates = gates.new_empty(T, B, 3 * H)
        d_a = split_units(
            d_x_gates[:, :, : 2 * H], 2 * S
        )  # until the loop: the derivative of h_t with respect to z' and n'
        torch.sub(h_slice, ns, out=d_a[:, :S])
        torch.add(gates.new_full((), 4.0), z, alpha=-4.0, out=d_a[:, S:])
        sigmoid_backward(d_a, gates, out=d_a)
        d_us = torch.empty_like(ns)
        d_h = split_units(d_last, S) + d_outputs[T - 1]
        flat = d_x_gates[:, :, : 2 * H].unsqueeze(1).expand(T, S, B, 2 * H)
        views = (d_a.view(T, 2, S, B, H // S), flat, d_us, z, s_slices, d_outputs)
        steps = list(zip(*(view.unbind() for view in views), strict=True))
        for t in range(T - 1, -1, -1):
            block, a, d_u, z_t, s_t, _ = steps[t]
            block.mul_(d_h)
            torch.bmm(a, weight, out=d_u)
            d_h = torch.addcmul(steps[t - 1][-1], d_h, z_t) if t else d_h * z_t
            d_h.addcmul_(d_u, s_t)
        sigmoid_backward(d_us.mul_(h_slice), s_slices, out=split_units(d_x_gates[:, :, 2 * H :], S))
        d_all = d_x_gates.view(T * B, 3 * H)[:, : 2 * H]
        return d_x_gates, join_units(d_h), (d_all.t() @ us.view(T * B, H)).mul_(2.0), d_all.sum(0)
