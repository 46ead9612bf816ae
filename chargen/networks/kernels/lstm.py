"""The hand-written gradient of the LSTM (`cells/lstm.py`).

forward     c_t = f c_{t−1} + i g          h_t = o tanh(c_t)            (all products elementwise)
backward    ∂c_t += ∂h_t o (1 − tanh² c_t)
            ∂i' = ∂c_t g i(1−i)      ∂f' = ∂c_t c_{t−1} f(1−f)      ∂g' = ∂c_t i (1−g²)
            ∂o' = ∂h_t tanh(c_t) o(1−o)
            ∂c_{t−1} = ∂c_t f        ∂h_{t−1} += Wᵀ ∂a_t            with a = [i' f' g' o'] before the activations
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


class LSTMFunction(torch.autograd.Function):
    """A layer of the LSTM over a window, with its hand-written gradient.

    (x_gates [T,B,4H], h [B,H], c [B,H], weight_hh [4H,H], bias_hh [4H]) → (outputs [T,B,H], h, c).
    """

    @staticmethod
    def forward(
        ctx: Any, x_gates: Tensor, h: Tensor, c: Tensor, weight_hh: Tensor, bias_hh: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the layer over a window, and keep what the backward pass needs."""
        T, B, H = *x_gates.shape[:2], h.shape[1]
        S = num_slices(H)
        weight_t = transposed_slices(weight_hh, 4 * S)  # [4S,H,H/S]
        gates = x_gates.new_empty(T, 4 * S, B, H // S)  # becomes i, f, g, o
        torch.add(split_units(x_gates, 4 * S), bias_hh.view(4 * S, 1, H // S), out=gates)
        hs, cs = x_gates.new_empty(T + 1, B, H), x_gates.new_empty(T + 1, S, B, H // S)
        tanh_c = torch.empty_like(cs[1:])
        hs[0], cs[0] = h, split_units(c, S)
        to_gates = zip(hs[:-1].unsqueeze(1).expand(T, 4 * S, B, H).unbind(), gates.unbind(), strict=True)
        four = gates.view(T, 4, S, B, H // S)
        parts = (four[:, :2], *four.unbind(1), cs[:-1], cs[1:], tanh_c, split_units(hs[1:], S))
        steps = zip(*(part.unbind() for part in parts), strict=True)
        for (h, a), (i_f, i, f, g, o, c, c_next, tanh, h_next) in zip(to_gates, steps, strict=True):
            a.baddbmm_(h, weight_t)
            i_f.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, c, out=c_next).addcmul_(i, g)
            torch.tanh(c_next, out=tanh)
            torch.mul(o, tanh, out=h_next)
        ctx.save_for_backward(gates, hs, cs, tanh_c, weight_hh)
        return hs[1:], hs[T].clone(), join_units(cs[T])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_h_last: Tensor, d_c_last: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        gates, hs, cs, tanh_c, weight_hh = ctx.saved_tensors
        T, B, H = d_outputs.shape
        S = cs.shape[1]
        i, f, g, o = gates.view(T, 4, S, B, H // S).unbind(1)
        d_outputs, weight = split_units(d_outputs, S), split_units(weight_hh, S).contiguous()  # [S,4H,H/S]
        d_x_gates = gates.new_empty(T, B, 4 * H)
        # Until the loop: the derivative of c (of h for o) with respect to each gate before its activation function.
        blocks = split_units(d_x_gates, 4 * S).view(T, 4, S, B, H // S)
        sigmoid_backward(g, i, out=blocks[:, 0])
        sigmoid_backward(cs[:-1], f, out=blocks[:, 1])
        tanh_backward(i, g, out=blocks[:, 2])
        sigmoid_backward(tanh_c, o, out=blocks[:, 3])
        c_from_h = torch.empty_like(tanh_c)
        tanh_backward(o, tanh_c, out=c_from_h)
        d_h, d_c = split_units(d_h_last, S) + d_outputs[T - 1], split_units(d_c_last, S)
        views = (blocks, d_x_gates.unsqueeze(1).expand(T, S, B, 4 * H), f, c_from_h, d_outputs)
        steps = list(zip(*(view.unbind() for view in views), strict=True))
        for t in range(T - 1, -1, -1):
            block, a, f_t, c_from_h_t, _ = steps[t]
            d_c = torch.addcmul(d_c, d_h, c_from_h_t)
            block[:3].mul_(d_c)
            block[3].mul_(d_h)
            d_c = d_c * f_t
            d_h = torch.baddbmm(steps[t - 1][-1], a, weight) if t else torch.bmm(a, weight)
        d_all = d_x_gates.view(T * B, 4 * H)
        return d_x_gates, join_units(d_h), join_units(d_c), d_all.t() @ hs[:-1].reshape(T * B, H), d_all.sum(0)
