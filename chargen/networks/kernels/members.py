"""Hand-written back-propagation through time for all members of an ensemble at once: the fast layers on a GPU.

A GPU computes the products of four members in little more time than those of a single member, and the number of its
kernels counts more than their size. So each step is a batch of products, one for each member, and three to seven
elementwise kernels:

    x_gates [M, T, B, X·H], weight_hh [M, G·H, H]  →  outputs [M, T, B, H] and the last state

The formulas and the order of the passes are those of the functions for a CPU (`gru.py`, `lstm.py`, `mgru.py`,
`rnn.py`), which split the units instead. In a recorded step (`networks/cuda_runtime.py`) they are as fast as cuDNN for
a single member, and twice as fast for four.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chargen.networks.kernels import sigmoid_backward, tanh_backward


def _states(initial: Tensor, T: int) -> Tensor:
    """Return memory for the states before each step and after the last, [M, T + 1, B, H], with the first one set."""
    M, B, H = initial.shape
    states = initial.new_empty(M, T + 1, B, H)
    states[:, 0] = initial
    return states


def _steps(*arrays: Tensor) -> list[tuple[Tensor, ...]]:
    """Return the views of each step of arrays [M, T, …]."""
    return list(zip(*(array.unbind(1) for array in arrays), strict=True))


def _weight_gradients(d_gates: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of weight_hh [M, G·H, H] and bias_hh [M, G·H], from [M, T, B, G·H] and [M, T, B, H]."""
    flat = d_gates.flatten(1, 2)
    return flat.transpose(1, 2) @ inputs.flatten(1, 2), flat.sum(1)


class MembersRNN(torch.autograd.Function):
    """(x_gates [M,T,B,H], h [M,B,H], weight_hh [M,H,H], bias_hh [M,H]) → (outputs [M,T,B,H], h [M,B,H])."""

    @staticmethod
    def forward(ctx: Any, x_gates: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layer over a window, and keep what the backward pass needs."""
        T = x_gates.shape[1]
        weight_t, hs = weight_hh.transpose(1, 2), _states(h, T)
        gates = x_gates + bias_hh[:, None, None]
        for a, h, h_next in _steps(gates, hs[:, :-1], hs[:, 1:]):
            torch.tanh(a.baddbmm_(h, weight_t), out=h_next)
        ctx.save_for_backward(hs, weight_hh)
        return hs[:, 1:], hs[:, T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        hs, weight = ctx.saved_tensors
        T = d_outputs.shape[1]
        d_gates = torch.empty_like(hs[:, 1:])
        d_h = d_last + d_outputs[:, T - 1]
        steps = _steps(d_gates, hs[:, 1:], d_outputs)
        for t in range(T - 1, -1, -1):
            d_a, h, _ = steps[t]
            tanh_backward(d_h, h, out=d_a)
            d_h = torch.baddbmm(steps[t - 1][-1], d_a, weight) if t else torch.bmm(d_a, weight)
        return d_gates, d_h, *_weight_gradients(d_gates, hs[:, :-1])


class MembersLSTM(torch.autograd.Function):
    """(x_gates [M,T,B,4H], h, c [M,B,H], weight_hh [M,4H,H], bias_hh [M,4H]) → (outputs [M,T,B,H], h, c [M,B,H])."""

    @staticmethod
    def forward(
        ctx: Any, x_gates: Tensor, h: Tensor, c: Tensor, weight_hh: Tensor, bias_hh: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the layer over a window, and keep what the backward pass needs."""
        T, H = x_gates.shape[1], h.shape[-1]
        weight_t, hs, cs = weight_hh.transpose(1, 2), _states(h, T), _states(c, T)
        gates = x_gates + bias_hh[:, None, None]  # becomes i, f, g, o
        tanh_c = torch.empty_like(cs[:, 1:])
        parts = (
            gates,
            gates[..., : 2 * H],
            *torch.split(gates, H, -1),
            hs[:, :-1],
            hs[:, 1:],
            cs[:, :-1],
            cs[:, 1:],
            tanh_c,
        )
        for a, i_f, i, f, g, o, h, h_next, c, c_next, tanh in _steps(*parts):
            a.baddbmm_(h, weight_t)
            i_f.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, c, out=c_next).addcmul_(i, g)
            torch.tanh(c_next, out=tanh)
            torch.mul(o, tanh, out=h_next)
        ctx.save_for_backward(gates, hs, cs, tanh_c, weight_hh)
        return hs[:, 1:], hs[:, T].clone(), cs[:, T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_h_last: Tensor, d_c_last: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        gates, hs, cs, tanh_c, weight = ctx.saved_tensors
        M, T, B, H = d_outputs.shape
        i, f, g, o = torch.split(gates, H, -1)
        d_gates = torch.empty_like(gates)  # until the loop: the derivative of c (of h for o) by the gates
        d_i, d_f, d_g, d_o = torch.split(d_gates, H, -1)
        sigmoid_backward(g, i, out=d_i)
        sigmoid_backward(cs[:, :-1], f, out=d_f)
        tanh_backward(i, g, out=d_g)
        sigmoid_backward(tanh_c, o, out=d_o)
        c_from_h = torch.empty_like(tanh_c)
        tanh_backward(o, tanh_c, out=c_from_h)
        d_h, d_c = d_h_last + d_outputs[:, T - 1], d_c_last
        three = d_gates.view(M, T, B, 4, H)[..., :3, :]
        steps = _steps(d_gates, three, d_o, f, c_from_h, d_outputs)
        for t in range(T - 1, -1, -1):
            d_a, d_a_c, d_a_o, f_t, c_from_h_t, _ = steps[t]
            d_c = torch.addcmul(d_c, d_h, c_from_h_t)
            d_a_c.mul_(d_c.unsqueeze(2))
            d_a_o.mul_(d_h)
            d_c = d_c * f_t
            d_h = torch.baddbmm(steps[t - 1][-1], d_a, weight) if t else torch.bmm(d_a, weight)
        return d_gates, d_h, d_c, *_weight_gradients(d_gates, hs[:, :-1])


class MembersGRU(torch.autograd.Function):
    """(x_gates [M,T,B,3H], h [M,B,H], weight_hh [M,3H,H], bias_hh [M,3H]) → (outputs [M,T,B,H], h [M,B,H])."""

    @staticmethod
    def forward(ctx: Any, x_gates: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layer over a window, and keep what the backward pass needs."""
        T, H = x_gates.shape[1], h.shape[-1]
        weight_t, hs = weight_hh.transpose(1, 2), _states(h, T)
        bias = bias_hh[:, None, None]
        gates = torch.empty_like(x_gates)  # becomes r, z, m
        torch.add(x_gates[..., : 2 * H], bias[..., : 2 * H], out=gates[..., : 2 * H])
        gates[..., 2 * H :] = bias[..., 2 * H :]
        ns = torch.empty_like(hs[:, 1:])
        r_z, x_n = gates[..., : 2 * H], x_gates[..., 2 * H :]
        parts = (gates, r_z, *torch.split(gates, H, -1), x_n, ns, hs[:, :-1], hs[:, 1:])
        for a, r_z, r, z, m, x, n, h, h_next in _steps(*parts):
            a.baddbmm_(h, weight_t)
            r_z.sigmoid_()
            torch.addcmul(x, r, m, out=n).tanh_()
            torch.lerp(n, h, z, out=h_next)
        ctx.save_for_backward(gates, ns, hs, weight_hh)
        return hs[:, 1:], hs[:, T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        gates, ns, hs, weight_hh = ctx.saved_tensors
        M, T, B, H = d_outputs.shape
        r, z, m = torch.split(gates, H, -1)
        weight = torch.cat([weight_hh[:, 2 * H :], weight_hh[:, : 2 * H]], 1)  # rows of n, r, z
        blocks = gates.new_empty(M, T, B, 4 * H)  # ∂m, ∂r', ∂z', ∂n', as in `gru.py`
        d_m, d_r, d_z, d_n = torch.split(blocks, H, -1)
        tanh_backward(1.0 - z, ns, out=d_n)
        torch.mul(d_n, r, out=d_m)
        torch.mul(d_n, m, out=d_r)
        torch.sub(hs[:, :-1], ns, out=d_z)
        d_r_z = blocks[..., H : 3 * H]
        sigmoid_backward(d_r_z, gates[..., : 2 * H], out=d_r_z)
        d_gates = blocks[..., : 3 * H]
        d_h = d_last + d_outputs[:, T - 1]
        steps = _steps(blocks.view(M, T, B, 4, H), d_gates, z, d_outputs)
        for t in range(T - 1, -1, -1):
            block, d_a, z_t, _ = steps[t]
            block.mul_(d_h.unsqueeze(2))
            d_h = torch.addcmul(steps[t - 1][-1], d_h, z_t) if t else d_h * z_t
            d_h.baddbmm_(d_a, weight)
        in_order = [torch.cat([d[:, H:], d[:, :H]], 1) for d in _weight_gradients(d_gates, hs[:, :-1])]  # r, z, n
        return blocks[..., H:], d_h, *in_order


class MembersMGRU(torch.autograd.Function):
    """(x_gates [M,T,B,3H], h [M,B,H], weight_hh [M,2H,H], bias_hh [M,2H]) → (outputs [M,T,B,H], h [M,B,H])."""

    @staticmethod
    def forward(ctx: Any, x_gates: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layer over a window, and keep what the backward pass needs."""
        T, H = x_gates.shape[1], h.shape[-1]
        one_two = torch.cat([h.new_ones(H), h.new_full((H,), 2.0)])
        weight_t, hs = weight_hh.transpose(1, 2) * (2.0 * one_two), _states(h, T)
        gates = torch.addcmul(bias_hh[:, None, None] * one_two, x_gates[..., : 2 * H], one_two)  # becomes z, q
        s = torch.sigmoid(x_gates[..., 2 * H :])
        us, ns, minus_one = torch.empty_like(s), torch.empty_like(s), h.new_full((), -1.0)
        z, q = torch.split(gates, H, -1)
        for a, z_t, q_t, s_t, u, n, h, h_next in _steps(gates, z, q, s, us, ns, hs[:, :-1], hs[:, 1:]):
            torch.mul(h, s_t, out=u)
            a.baddbmm_(u, weight_t).sigmoid_()
            torch.add(minus_one, q_t, alpha=2.0, out=n)
            torch.lerp(n, h, z_t, out=h_next)
        ctx.save_for_backward(gates, s, us, ns, hs, weight_hh)
        return hs[:, 1:], hs[:, T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        gates, s, us, ns, hs, weight_hh = ctx.saved_tensors
        M, T, B, H = d_outputs.shape
        z, weight = gates[..., :H], 2.0 * weight_hh
        d_x_gates = gates.new_empty(M, T, B, 3 * H)
        d_gates = d_x_gates[..., : 2 * H]  # until the loop: the derivative of h_t by z' and n'
        torch.sub(hs[:, :-1], ns, out=d_gates[..., :H])
        torch.add(gates.new_full((), 4.0), z, alpha=-4.0, out=d_gates[..., H:])
        sigmoid_backward(d_gates, gates, out=d_gates)
        d_us = torch.empty_like(ns)
        d_h = d_last + d_outputs[:, T - 1]
        steps = _steps(d_gates, d_x_gates.view(M, T, B, 3, H)[..., :2, :], d_us, z, s, d_outputs)
        for t in range(T - 1, -1, -1):
            d_a, block, d_u, z_t, s_t, _ = steps[t]
            block.mul_(d_h.unsqueeze(2))
            torch.bmm(d_a, weight, out=d_u)
            d_h = torch.addcmul(steps[t - 1][-1], d_h, z_t) if t else d_h * z_t
            d_h.addcmul_(d_u, s_t)
        sigmoid_backward(d_us.mul_(hs[:, :-1]), s, out=d_x_gates[..., 2 * H :])
        d_weight, d_bias = _weight_gradients(d_gates, us)
        return d_x_gates, d_h, d_weight.mul_(2.0), d_bias


FUNCTIONS = {"rnn": MembersRNN, "lstm": MembersLSTM, "gru": MembersGRU, "mgru": MembersMGRU}
